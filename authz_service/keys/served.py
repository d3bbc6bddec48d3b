"""The keys as decisions see them: a look-up in memory, and their age."""

from collections.abc import Callable, Iterable, Mapping
from math import ceil
from typing import NamedTuple

from authz_service.errors import KeySetRefused, Reason, Unavailable, UnknownKeyId
from authz_service.keys.current import CurrentKeys
from authz_service.keys.jwk import KeySet
from authz_service.token.jws import VerificationKey

LONGEST_RETRY_AFTER_SECONDS = 60


class KeyState(NamedTuple):
    """What the keys of an issuer are at a moment, for other processes to decide by the same ones.

    Times are seconds of the monotonic clock, which all processes of a machine share.
    """

    issuer: str
    document: bytes | None
    good_at: float | None
    """When ``document`` was known to be right; both are None before the first time, and when it must not be used."""
    due: float
    error: KeySetRefused | None
    seek_from: float = float("-inf")
    """Before this time no unknown key id causes a refresh."""
    leaked: frozenset[str] = frozenset()
    """Thumbprints of keys that must not be used, whatever ``document`` says."""


class ServedKeys:
    """One issuer's current keys.

    :param max_stale_seconds: after this long without a good refresh the keys are not used any more.
    :param monotonic: seconds; all ages are by it.
    :param wall_clock: Unix seconds, for what people are told.
    """

    def __init__(
        self, issuer: str, max_stale_seconds: float, monotonic: Callable[[], float], wall_clock: Callable[[], float]
    ) -> None:
        self.issuer = issuer
        self.last_error: KeySetRefused | None = None
        """Why the latest fetch failed; None after a good one."""
        self._max_stale_seconds = max_stale_seconds
        self._monotonic = monotonic
        self._wall_clock = wall_clock
        self._document: bytes | None = None
        self._leaked: frozenset[str] = frozenset()
        """Thumbprints of all keys whose private halves the issuer has published in this process's time: they stay
        refused, and are not in its snapshot."""
        self.current = CurrentKeys(monotonic, self._unavailable)
        """The key set, for what is asked for each request."""
        self._misses = 0
        self._good_at: float | None = None
        self._due = float("-inf")

    def key(self, kid: str) -> VerificationKey:
        """The key with this id.

        :raises Unavailable: there is no key set, or none that is young enough.
        :raises UnknownKeyId: it is not in the set.
        """
        if not self.ready:
            raise self._unavailable()
        key = self._keys.get(kid)
        if key is None:
            self._misses += 1
            raise UnknownKeyId(self.issuer, kid, may_come=self.may_come(kid))
        self.current.hits += 1
        return key

    @property
    def _keys(self) -> Mapping[str, VerificationKey]:
        return self.current.keys

    def may_come(self, kid: str) -> bool:  # noqa: ARG002 - some rings know better
        """Whether a refresh now could bring this key."""
        return True

    def _unavailable(self) -> Unavailable:
        retry_after = min(max(1, ceil(self.next_refresh_in)), LONGEST_RETRY_AFTER_SECONDS)
        message = "The keys to verify access tokens are not available at the moment."
        return Unavailable(Reason.KEYS_UNAVAILABLE, message, retry_after=retry_after)

    @property
    def ready(self) -> bool:
        """Whether there are keys, young enough to decide by."""
        return self.current.usable

    @property
    def age_seconds(self) -> float | None:
        """Since the last good refresh, by whichever process made it; None before the first."""
        return None if self._good_at is None else self._monotonic() - self._good_at

    @property
    def kids(self) -> Iterable[str]:
        """The ids of the current set, usable or too old."""
        return self._keys.keys()

    @property
    def next_refresh_in(self) -> float:
        """Seconds until the next scheduled fetch; 0 when it is due or under way."""
        return max(0.0, self._due - self._monotonic())

    def hits_and_misses(self) -> tuple[int, int]:
        """How many look-ups found their key in the current set, and how many did not."""
        return self.current.hits, self._misses

    def mark_used(self, kid: str) -> None:
        """A token was accepted by this key. Not :meth:`key`: whoever sends garbage can name any kid."""
        if kid in self._keys:
            self.current.last_used[kid] = self._wall_clock()

    def holds(self, key: VerificationKey) -> bool:
        """Whether this very key is in the current set, usable or too old. Does not count as used."""
        return self._keys.get(key.kid) is key

    def used_elsewhere(self, kid: str, at: float) -> None:
        """Another process, with the same keys, accepted a token by this key; ``at`` in Unix seconds."""
        if kid in self._keys:
            self.current.last_used[kid] = max(at, self.current.last_used.get(kid, at))

    def last_used(self, kid: str) -> float | None:
        """When a token was last accepted by this key, in Unix seconds."""
        return self.current.last_used.get(kid)

    def state(self) -> KeyState:
        """For :class:`authz_service.keys.followed.FollowedRing`."""
        return KeyState(self.issuer, self._document, self._good_at, self._due, self.last_error, leaked=self._leaked)

    def _serve(self, key_set: KeySet, good_at: float, document: bytes | None = None) -> frozenset[str]:
        """Decide by this set from now on; :returns: the key ids that are gone, or stand for another key now.

        :param document: that the set stands in.
        """
        new = key_set.keys
        withdrawn = frozenset(kid for kid, key in self._keys.items() if not _same(key, new.get(kid)))
        current = self.current
        current.last_used = {kid: used for kid, used in current.last_used.items() if kid not in withdrawn}
        # A key that is still the same stays the same object: tokens that it vouched for are known by it.
        current.keys = {kid: key if kid in withdrawn else current.keys.get(kid, key) for kid, key in new.items()}
        self._document = document
        self._good_at = good_at
        current.usable_until = good_at + self._max_stale_seconds
        return withdrawn

    def _forget_all(self) -> None:
        """As if there had never been a key."""
        self.current.keys, self.current.last_used = {}, {}
        self.current.usable_until = float("-inf")
        self._document = self._good_at = None


def _same(old: VerificationKey, new: VerificationKey | None) -> bool:
    return new is not None and (old.thumbprint, old.algorithms) == (new.thumbprint, new.algorithms)
