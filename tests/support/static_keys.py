"""Keys that never change, in the place of an issuer's."""

from collections.abc import Mapping

from authz_service.errors import UnknownKeyId
from authz_service.token.jws import VerificationKey


class StaticKeys:
    """A :class:`authz_service.token.verifier.KeySource`: the same keys for whatever issuer is asked about."""

    def __init__(self, keys: Mapping[str, VerificationKey]) -> None:
        self._keys = keys

    def key(self, issuer: str, kid: str) -> VerificationKey:
        """:raises UnknownKeyId: for all others."""
        if kid not in self._keys:
            raise UnknownKeyId(issuer, kid)
        return self._keys[kid]

    def mark_used(self, issuer: str, kid: str) -> None:
        """Nobody asks."""

    def vouches(self, issuer: str, key: VerificationKey, now: float) -> bool:
        """They never change."""
        return self._keys.get(key.kid) is key
