"""Who is calling: a verified token, made ready once for all the decisions about it."""

from collections.abc import Callable
from operator import itemgetter
from sys import getsizeof
from types import MappingProxyType
from typing import Final

from authz_service.errors import Refused
from authz_service.kept import Unspoken
from authz_service.model import Claims, Headers, Identity
from authz_service.policy.loader import Policy
from authz_service.response.identity_headers import CONTRACT_HEADER, IdentityHeaders
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import VerifiedToken

Encode = Callable[[Headers, str, str], tuple[bytes, bytes]]
"""Headers, ``sub``, ``kid`` -> :attr:`.Identity.headers` and :attr:`.Identity.metadata`."""

OBJECTS_BYTES: Final = 700
"""What the objects around the variable parts of a remembered caller take."""
OBJECT_BYTES: Final = 100
MAX_SHARED_BYTES: Final = 8 * 1024 * 1024
"""Of sets of permissions or roles that are kept for the next caller who has the same."""
MAX_UNSPOKEN = 10_000
"""Combinations of headers that are kept: which claims a token has is its issuer's choice, and there may be many."""

_name: Final = itemgetter(0)


class Caller(Claims):
    """One token's bearer: the claims that decisions need, and of the payload nothing else; and what belongs to them.

    All in one object: of many thousand callers, each object that a decision touches is not in the processor's caches.
    """

    __slots__ = ("announced", "brought", "key")

    def __init__(self, claims: Claims, key: VerificationKey, announced: Identity | Refused, brought: int) -> None:
        super().__init__(
            claims.issuer, claims.subject, claims.expires_at, claims.permissions, claims.roles, claims.payload
        )
        self.key: Final = key
        """Who vouches for that."""
        self.announced: Final = announced
        """See :meth:`identity`."""
        self.brought: Final = brought
        """Bytes of its permissions and roles, as far as no caller before it had the same."""

    def identity(self) -> Identity:
        """How the bearer is announced; :raises Refused: when no header can carry that."""
        if isinstance(self.announced, Refused):
            raise self.announced.with_traceback(None)
        return self.announced

    @property
    def identity_if_any(self) -> Identity | None:
        """The same, or None: what no header can carry is left out whole."""
        return None if isinstance(self.announced, Refused) else self.announced

    @property
    def size(self) -> int:
        """Bytes, about."""
        identity = self.announced
        encoded = 0 if isinstance(identity, Refused) else len(identity.headers) + len(identity.metadata)
        compared = sum(len(value or "") + OBJECT_BYTES for value in self.payload.values())
        return OBJECTS_BYTES + encoded + compared + len(self.subject) + self.brought


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
        self._sets = _Shared()
        self._unspoken_by: dict[tuple[str, ...], Unspoken] = {}
        self.says = (policy.identity_headers, policy.issuers, self._compared)
        """Callers who were made by another introduction that says the same are as good."""
        self.reserved = self._identity_headers | {CONTRACT_HEADER[0]}
        """Names that only this service may speak."""
        self.nobody = Identity(self._unspoken(()))
        """For whom no token speaks."""

    def of(self, token: VerifiedToken) -> Caller:
        """The bearer of this token."""
        claims, brought = self._what_matters(token.claims)
        return Caller(claims, token.key, self._identity(token), brought)

    def _identity(self, token: VerifiedToken) -> Identity | Refused:
        try:
            headers = self._headers_of.get(token.claims.issuer, self._headers).render(token.claims)
            encoded, metadata = self._encode(headers, token.claims.subject, token.kid)
        except Refused as refused:
            refused.__context__ = None  # both lead back to the request, which would be remembered with the caller
            return refused.with_traceback(None)
        return Identity(self._unspoken(tuple(map(_name, headers))), encoded, metadata)

    def _unspoken(self, spoken: tuple[str, ...]) -> Unspoken:
        """One object for all who speak the same names: there are few combinations, each is worked out once."""
        unspoken = self._unspoken_by.get(spoken)
        if unspoken is None:
            names = {*self._identity_headers, *self._always_removed}.difference(spoken)
            unspoken = Unspoken(tuple(sorted(names)))
            if len(self._unspoken_by) < MAX_UNSPOKEN:
                self._unspoken_by[spoken] = unspoken
        return unspoken

    def _what_matters(self, claims: Claims) -> tuple[Claims, int]:
        """Of the payload what rules compare, absent or not; and the bytes that nobody had brought before.

        Only text can equal a part of a path. Callers with the same permissions share one set of them.
        """
        payload = {
            name: value if isinstance(value := claims.payload.get(name), str) else None for name in self._compared
        }
        permissions, size = self._sets.one(claims.permissions)
        roles, more = self._sets.one(claims.roles)
        return Claims(
            claims.issuer, claims.subject, claims.expires_at, permissions, roles, MappingProxyType(payload)
        ), size + more


class _Shared:
    """One set for all equal ones, as long as they do not take too much: many outlive the tokens that they came with."""

    def __init__(self) -> None:
        self._known: dict[frozenset[str], frozenset[str]] = {}
        self._bytes = 0

    def one(self, texts: frozenset[str]) -> tuple[frozenset[str], int]:
        """The set, and the bytes that it takes if it is new."""
        known = self._known.get(texts)
        if known is not None:
            return known, 0
        size = getsizeof(texts) + sum(map(getsizeof, texts))
        if self._bytes + size > MAX_SHARED_BYTES:
            self._known.clear()
            self._bytes = 0
        self._known[texts] = texts
        self._bytes += size
        return texts, size
