"""A bearer token -> a verified one: header, key by issuer and kid, signature, claims, in this order."""

from collections.abc import Mapping
from typing import Protocol

from authz_service.errors import Reason, TokenRefused
from authz_service.model import VerifiedToken
from authz_service.token.claims import ClaimRules, unverified_issuer, verify_claims
from authz_service.token.jws import VerificationKey, parse_compact


class KeySource(Protocol):
    """Where keys come from. Answers at once from memory; fetching is somebody else's work."""

    def key(self, issuer: str, kid: str) -> VerificationKey:
        """The issuer's key.

        :raises UnknownKeyId: it is not in the current set.
        :raises Unavailable: there is no set, or none that is young enough.
        """
        ...


class TokenVerifier:
    """Accepts a token only if one of our issuers signed it, for us, for now.

    :param issuers: what a token of each trusted issuer must claim, by the exact ``iss``.
    :param algorithms: allow-list of JOSE algorithm names.
    """

    def __init__(self, keys: KeySource, issuers: Mapping[str, ClaimRules], algorithms: frozenset[str]) -> None:
        self._keys = keys
        self._issuers = dict(issuers)
        self._algorithms = algorithms

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
            raise TokenRefused(Reason.ALGORITHM_NOT_ALLOWED, "The access token's key is not for its algorithm.")
        if not key.verify(unverified):
            raise TokenRefused(Reason.SIGNATURE_INVALID, "The access token's signature is not valid.")
        claims = verify_claims(unverified.unverified_payload, rules, now)
        return VerifiedToken(claims, kid=key.kid, algorithm=unverified.algorithm)
