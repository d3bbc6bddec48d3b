"""What each request asks of the keys: whether the one that vouched for its token still does.

Apart from :mod:`.served` and :mod:`.rings`, because it is compiled: what inherits from the one, and the other, waits.
"""

from collections.abc import Callable, Mapping

from authz_service.errors import Unavailable
from authz_service.token.jws import VerificationKey


class CurrentKeys:
    """One issuer's: a look-up in memory, and their age. They are changed by :class:`.ServedKeys`.

    :param monotonic: seconds.
    :param unavailable: what to raise while there are none that are young enough.
    """

    def __init__(self, monotonic: Callable[[], float], unavailable: Callable[[], Unavailable]) -> None:
        self._monotonic = monotonic
        self._unavailable = unavailable
        self.keys: dict[str, VerificationKey] = {}
        """By key id."""
        self.usable_until = float("-inf")
        """On the monotonic clock."""
        self.last_used: dict[str, float] = {}
        """When a token was last accepted by each, in Unix seconds."""
        self.hits = 0

    @property
    def usable(self) -> bool:
        """Whether there are any, young enough to decide by."""
        return self._monotonic() < self.usable_until

    def vouches(self, key: VerificationKey, now: float) -> bool:
        """Whether this very key is in the current set; then it counts as used, at this Unix time.

        :raises Unavailable: there is no key set, or none that is young enough.
        """
        if not self.usable:
            raise self._unavailable()
        if self.keys.get(key.kid) is not key:
            return False
        self.hits += 1
        self.last_used[key.kid] = now
        return True


class CurrentKeysByIssuer:
    """Those of all trusted issuers."""

    def __init__(self) -> None:
        self._issuers: dict[str, CurrentKeys] = {}

    def use(self, issuers: Mapping[str, CurrentKeys]) -> None:
        """Trust these and no others, from now on."""
        self._issuers = dict(issuers)

    def vouches(self, issuer: str, key: VerificationKey, now: float) -> bool:
        """See :meth:`CurrentKeys.vouches`; an issuer that has left has no keys."""
        current = self._issuers.get(issuer)
        return current is not None and current.vouches(key, now)
