"""Who is calling: a verified token, made ready once for all the decisions about it."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import Generic, TypeVar

from authz_service.errors import Refused
from authz_service.model import Claims, Headers, Identity
from authz_service.policy.loader import Policy
from authz_service.response.identity_headers import CONTRACT_HEADER, IdentityHeaders
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import VerifiedToken

Encode = Callable[[Headers, str, str], tuple[bytes, bytes]]
"""Headers, ``sub``, ``kid`` -> :attr:`.Identity.headers` and :attr:`.Identity.metadata`."""

OBJECTS_BYTES = 700
"""What the objects around the variable parts of a remembered caller take."""
OBJECT_BYTES = 100
MAX_SHARED = 10_000

T = TypeVar("T")

_name = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Caller:
    """One token's bearer."""

    claims: Claims
    """What decisions need, and of the payload nothing else."""
    key: VerificationKey
    """Who vouches for that."""
    announced: Identity | Refused
    """See :meth:`identity`."""

    def identity(self) -> Identity:
        """How the bearer is announced; :raises Refused: when no header can carry that."""
        if isinstance(self.announced, Refused):
            raise self.announced.with_traceback(None)
        return self.announced

    @property
    def size(self) -> int:
        """Bytes, about."""
        identity, claims = self.announced, self.claims
        encoded = 0 if isinstance(identity, Refused) else len(identity.headers) + len(identity.metadata)
        compared = sum(len(str(value)) + OBJECT_BYTES for value in claims.payload.values())
        return OBJECTS_BYTES + encoded + compared + len(claims.subject)


class Introduction:
    """Makes callers of verified tokens, as one policy wants them announced."""

    def __init__(self, policy: Policy, max_injected_bytes: int, encode: Encode, *, forward_authorization: bool) -> None:
        self._headers = IdentityHeaders(policy.identity_headers, max_injected_bytes)
        self._headers_of = {
            trusted.issuer: IdentityHeaders(trusted.identity_headers, max_injected_bytes) for trusted in policy.issuers
        }
        of_all = (self._headers, *self._headers_of.values())
        self._identity_headers = frozenset(name for headers in of_all for name in headers.reserved)
        self._encode = encode
        self._compared = frozenset(
            claim for rule in policy.routes.rules if rule.requirement
            for claim, _ in rule.requirement.claim_equals_param
        )  # fmt: skip
        self._always_removed = () if forward_authorization else ("authorization",)
        self._sets: _Shared[frozenset[str]] = _Shared()
        self._unspoken_by: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.says = (policy.identity_headers, policy.issuers, self._compared)
        """Callers who were made by another introduction that says the same are as good."""
        self.reserved = self._identity_headers | {CONTRACT_HEADER[0]}
        """Names that only this service may speak."""
        self.nobody = Identity(self._unspoken(()))
        """For whom no token speaks."""

    def of(self, token: VerifiedToken) -> Caller:
        """The bearer of this token."""
        return Caller(self._what_matters(token.claims), token.key, self._identity(token))

    def _identity(self, token: VerifiedToken) -> Identity | Refused:
        try:
            headers = self._headers_of.get(token.claims.issuer, self._headers).render(token.claims)
            encoded, metadata = self._encode(headers, token.claims.subject, token.kid)
        except Refused as refused:
            return refused
        return Identity(self._unspoken(tuple(map(_name, headers))), encoded, metadata)

    def _unspoken(self, spoken: tuple[str, ...]) -> tuple[str, ...]:
        """One object for all who speak the same names: there are few combinations, each is worked out once."""
        unspoken = self._unspoken_by.get(spoken)
        if unspoken is None:
            unspoken = tuple(sorted({*self._identity_headers, *self._always_removed}.difference(spoken)))
            if len(self._unspoken_by) < MAX_SHARED:
                self._unspoken_by[spoken] = unspoken
        return unspoken

    def _what_matters(self, claims: Claims) -> Claims:
        """Of the payload what rules compare, absent or not; callers with the same permissions share one set of them."""
        payload = {name: claims.payload.get(name) for name in self._compared}
        return Claims(
            claims.issuer, claims.subject, claims.expires_at, self._sets.one(claims.permissions),
            self._sets.one(claims.roles), MappingProxyType(payload),
        )  # fmt: skip


class _Shared(Generic[T]):
    """One object for all equal ones, as long as there are not too many."""

    def __init__(self) -> None:
        self._known: dict[T, T] = {}

    def one(self, value: T) -> T:
        if len(self._known) >= MAX_SHARED:
            self._known.clear()
        return self._known.setdefault(value, value)
