"""Keys for one decision: a key set as it is, from a file or fetched once."""

from authz_service.errors import UnknownKeyId
from authz_service.explain.words import printable
from authz_service.keys.jwk import KeySet
from authz_service.token.jws import VerificationKey


class KeySets:
    """Key sets by issuer, as they are.

    :param of_everybody: stands in for each issuer's; None: unknown until :meth:`put`.
    """

    def __init__(self, of_everybody: KeySet | None = None) -> None:
        self._of_everybody = of_everybody
        self._of: dict[str, KeySet] = {}

    def put(self, issuer: str, key_set: KeySet) -> None:
        """This is the issuer's key set."""
        self._of[issuer] = key_set

    def key(self, issuer: str, kid: str) -> VerificationKey:
        """The issuer's key; :raises UnknownKeyId: it is not in the set, or there is no set yet."""
        key_set = self.of(issuer)
        key = key_set.keys.get(kid) if key_set else None
        if key is None:
            raise UnknownKeyId(issuer, kid)
        return key

    def mark_used(self, issuer: str, kid: str) -> None:
        """Nobody asks."""

    def vouches(self, issuer: str, key: VerificationKey, now: float) -> bool:  # noqa: ARG002
        """Nothing is remembered from one decision to the next."""
        return False

    def of(self, issuer: str) -> KeySet | None:
        """What is known of this issuer."""
        return self._of.get(issuer, self._of_everybody)


def known(key_set: KeySet | None) -> list[str]:
    """What there is to choose from, for whoever wonders why a key is not known."""
    if key_set is None:
        return ["there is no key set of this issuer"]
    return [
        f"in the key set: {', '.join(sorted(map(printable, key_set.keys))) or 'nothing usable'}",
        *(f"skipped there: {printable(skipped.kid)} ({skipped.cause})" for skipped in key_set.skipped),
    ]
