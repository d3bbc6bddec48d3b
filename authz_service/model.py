"""The values that travel through the house. Frozen; what is built here is valid."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

from authz_service.errors import Reason

Headers = tuple[tuple[str, str], ...]
"""Names and values, in their order."""


class HttpRequest(NamedTuple):
    """The request that Envoy asks about (``AttributeContext.HttpRequest``). All of it is the client's word.

    A named tuple, because one is built for each request and it is the cheapest frozen value there is.
    """

    method: str
    """As sent; ``get`` is not ``GET``."""
    path: str
    """The request target as Envoy will forward it, query included."""
    host: str
    """``:authority``, port included."""
    headers: Headers
    """Names in the spelling that arrived; a repeated header is repeated here, or joined by commas, as Envoy sent it."""
    request_id: str = ""
    """``x-request-id`` as Envoy set it; not to be trusted either."""


class Mode(StrEnum):
    """Whether a rule's verdict is carried out."""

    __hash__ = str.__hash__  # as of Reason

    ENFORCE = "enforce"
    SHADOW = "shadow"


class _Claims(NamedTuple):
    issuer: str
    subject: str
    expires_at: int
    """Unix seconds; 0 where the Auth-API vouches for the token and does not say."""
    permissions: frozenset[str]
    roles: frozenset[str]
    payload: Mapping[str, Any]
    """What the verifier read, lists in the token's order; of a remembered caller, what rules compare. Read-only."""


class Claims(_Claims):
    """What a good token claims (RFC 7519 section 4.1): verified here, or in the words of the Auth-API.

    A tuple like :class:`HttpRequest`, because two are built for each new token.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0917 - what a claims set has
        cls, issuer: str, subject: str, expires_at: int, permissions: frozenset[str], roles: frozenset[str],
        payload: Mapping[str, Any],
    ) -> Self:  # fmt: skip
        """:raises ValueError: they name nobody. :raises TypeError: the payload can be changed."""
        if not issuer or not subject:
            raise ValueError("verified claims name an issuer and a subject")
        if type(payload) is not MappingProxyType:
            raise TypeError("verified claims are read-only")
        return tuple.__new__(cls, (issuer, subject, expires_at, permissions, roles, payload))


@dataclass(frozen=True, slots=True)
class Identity:
    """What one caller is announced as, encoded once for all the answers that carry it, as the transport likes it.

    What is built once and read for each request has slots, which are read faster than the fields of a named tuple.
    """

    unspoken: tuple[str, ...] = ()
    """Names of headers that it could have and has not; sorted."""
    headers: bytes = b""
    """Set on the request."""
    metadata: bytes = b""
    """``sub`` and ``kid``, for the access log."""


@dataclass(slots=True, eq=False)
class Verdict:
    """What a decision comes to, in the words of metrics, logs and Envoy's access log. Made by :func:`verdict_of`."""

    answer: Literal["allow", "deny"]
    """To Envoy; in shadow mode "allow" whatever the reason."""
    reason: Reason
    rule: str
    """Its name; empty: the request came to none."""
    mode: Mode
    encoded: bytes = b""
    """As the transport likes it: kept here once that has been asked for, for it is the same each time."""


verdict_of = lru_cache(maxsize=None)(Verdict)
"""``verdict_of(answer, reason, rule, mode)``: one object for the same words, which is counted and found as itself.

All are kept, as the metrics with these words are. No client can add to them: they are a few for each name that a rule
ever had.
"""


class _Decided:
    """What an allow and a denial have in common."""

    __slots__ = ()

    verdict: Verdict
    claims: Claims | None

    @property
    def reason(self) -> Reason:
        return self.verdict.reason

    @property
    def rule(self) -> str:
        return self.verdict.rule

    @property
    def mode(self) -> Mode:
        return self.verdict.mode

    @property
    def subject(self) -> str:
        """Who calls; empty: nobody that is known."""
        return self.claims.subject if self.claims else ""


class _Allow(NamedTuple):
    verdict: Verdict
    set_headers: Headers
    """Beside those of the identity."""
    remove_headers: tuple[str, ...]
    spoofed_headers: int
    """How many ``x-auth-*`` headers the client sent."""
    claims: Claims | None
    """What the caller's token says, as far as the policy may ask; None: no token was accepted."""
    kid: str
    identity: Identity


class Allow(_Allow, _Decided):
    """Let the request through, with these headers set and those removed.

    A tuple for the same reason as :class:`HttpRequest`.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0917 - what an allow has
        cls, reason: Reason, rule: str, mode: Mode, set_headers: Headers = (), remove_headers: tuple[str, ...] = (),
        spoofed_headers: int = 0, claims: Claims | None = None, kid: str = "", identity: Identity = Identity(),
    ) -> Self:  # fmt: skip
        """An allow in so many words; what is built for each request has its verdict ready."""
        verdict = verdict_of("allow", reason, rule, mode)
        return tuple.__new__(cls, (verdict, set_headers, remove_headers, spoofed_headers, claims, kid, identity))


class _Deny(NamedTuple):
    verdict: Verdict
    status: int
    headers: Headers
    body: str
    claims: Claims | None
    """As of :class:`Allow`."""
    kid: str


class Deny(_Deny, _Decided):
    """Answer the client ourselves.

    A tuple like :class:`HttpRequest`: a flood of denials should cost little.
    """

    __slots__ = ()

    def __new__(  # noqa: PLR0917 - what a denial has
        cls, reason: Reason, rule: str, mode: Mode, status: int, headers: Headers, body: str,
        claims: Claims | None = None, kid: str = "",
    ) -> Self:  # fmt: skip
        """:raises ValueError: it refuses nothing, or does not say why."""
        if not 400 <= status <= 599:  # noqa: PLR2004 - RFC 9110 section 15: the classes of refusal
            raise ValueError(f"a denial cannot have status {status}")
        if not body:
            raise ValueError("a denial explains itself")
        verdict = verdict_of("deny", reason, rule, mode)
        return tuple.__new__(cls, (verdict, status, headers, body, claims, kid))


Decision = Allow | Deny
