"""A bearer token -> a verified one: header, key by issuer and kid, signature, claims, in this order."""

from collections.abc import Mapping
from typing import Final, Protocol

from authz_service.errors import AlgorithmNotAllowed, Reason, TokenRefused
from authz_service.model import Claims
from authz_service.token.claims import ClaimRules, unverified_issuer, verify_claims
from authz_service.token.jws import UnverifiedJws, VerificationKey, parse_compact
from authz_service.token.verified import digest

MAX_FORGERIES = 4096


class KeySource(Protocol):
    """Where keys come from. Answers at once from memory; fetching is somebody else's work."""

    def key(self, issuer: str, kid: str) -> VerificationKey:
        """The issuer's key.

        :raises UnknownKeyId: it is not in the current set.
        :raises Unavailable: there is no set, or none that is young enough.
        """
        ...

    def mark_used(self, issuer: str, kid: str) -> None:
        """A token was accepted by this key."""
        ...

    def vouches(self, issuer: str, key: VerificationKey, now: float) -> bool:
        """Whether this very key is still in the issuer's set; then it is marked as used, at this Unix time.

        :raises Unavailable: as :meth:`key`.
        """
        ...


class VerifiedToken:
    """A token that was accepted, and the key that vouches for it."""

    __slots__ = ("claims", "key")

    def __init__(self, claims: Claims, key: VerificationKey) -> None:
        self.claims: Final = claims
        self.key: Final = key

    @property
    def kid(self) -> str:
        """The key's id."""
        return self.key.kid


class TokenVerifier:
    """Accepts a token only if one of our issuers signed it, for us, for now.

    :param issuers: what a token of each trusted issuer must claim, by the exact ``iss``.
    :param algorithms: allow-list of JOSE algorithm names.
    """

    def __init__(self, keys: KeySource, issuers: Mapping[str, ClaimRules], algorithms: frozenset[str]) -> None:
        self._keys = keys
        self.use(issuers)
        self._algorithms = algorithms
        self._forgeries: dict[bytes, VerificationKey] = {}

    def use(self, issuers: Mapping[str, ClaimRules]) -> None:
        """Trust these issuers and no others, from the next token on.

        Tokens that were verified when something else was asked of their issuer's are for their keeper to forget.
        """
        self._issuers = dict(issuers)

    def verify(self, token: str, now: float) -> VerifiedToken:
        """Verify a compact JWS at ``now``, in Unix seconds.

        :raises TokenRefused: with the first check that failed.
        :raises UnknownKeyId: the issuer is ours and its key is not known (yet).
        :raises Unavailable: the issuer is ours and its keys are not to be had.
        """
        unverified = parse_compact(token, self._algorithms)
        issuer = unverified_issuer(unverified.unverified_payload)
        rules = self._issuers.get(issuer)
        if rules is None:
            raise TokenRefused(Reason.ISSUER_MISMATCH, "The access token was not issued by a trusted issuer.")
        key = self._keys.key(issuer, unverified.kid)
        if unverified.algorithm not in key.algorithms:
            raise AlgorithmNotAllowed(unverified.algorithm, "The access token's key is not for its algorithm.")
        if not self._signed(token, unverified, key):
            raise TokenRefused(Reason.SIGNATURE_INVALID, "The access token's signature is not valid.")
        claims = verify_claims(unverified.unverified_payload, rules, now)
        self._keys.mark_used(issuer, key.kid)
        return VerifiedToken(claims, key)

    def vouches(self, claims: Claims, key: VerificationKey, now: float) -> bool:
        """Whether a token that was verified before would be again.

        Its issuer is one of ours, its key is in the set, and it has not expired.

        :raises Unavailable: as :meth:`verify`.
        """
        rules = self._issuers.get(claims.issuer)
        if rules is None or now >= claims.expires_at + rules.leeway_seconds:
            return False
        return self._keys.vouches(claims.issuer, key, now)

    def _signed(self, token: str, unverified: UnverifiedJws, key: VerificationKey) -> bool:
        """A signature that was bad once is bad: sent again, it costs a digest instead of a verification."""
        if self._forgeries and self._forgeries.get(digest(token)) is key:
            return False
        if key.verify(unverified):
            return True
        if len(self._forgeries) >= MAX_FORGERIES:
            self._forgeries.clear()
        self._forgeries[digest(token)] = key
        return False
