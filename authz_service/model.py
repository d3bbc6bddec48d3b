"""The values that travel through the house. Frozen; what is built here is valid."""

from typing import NamedTuple, Self

from authz_service.errors import Reason
from authz_service.kept import Claims, Identity, Mode, Verdict, verdict_of

__all__ = [
    "Allow", "Claims", "Decision", "Deny", "Headers", "HttpRequest", "Identity", "Mode", "Verdict", "verdict_of",
]  # fmt: skip

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


NOBODY = Identity()


class _Decided:
    """What an allow and a denial have in common."""

    __slots__ = ()

    verdict: Verdict
    claims: Claims | None

    @property
    def reason(self) -> Reason:
        return self.verdict.outcome.reason

    @property
    def rule(self) -> str:
        return self.verdict.rule_name

    @property
    def mode(self) -> Mode:
        return self.verdict.outcome.mode

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
        spoofed_headers: int = 0, claims: Claims | None = None, kid: str = "", identity: Identity = NOBODY,
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
