"""A bounded memory of tokens that were verified, so that the next request with the same one costs no signature.

What is remembered is never the answer, only what the token says: whether its key is still in the set, whether it has
expired, and what the policy asks are looked at each time.
"""

from collections.abc import Callable
from hashlib import sha256
from itertools import chain, islice
from typing import Final, Generic, Protocol, TypeVar

LEAVING_AT_ONCE: Final = 2
TIDIED_AT_ONCE: Final = 200


class Sized(Protocol):
    """A value that knows its weight."""

    @property
    def size(self) -> int:
        """Bytes that it takes, about; always the same."""
        ...


T = TypeVar("T", bound=Sized)

_NOTHING_YET: Final = sha256()


def digest(text: str) -> bytes:
    """What a token, or the header that holds it, is remembered by."""
    begun = _NOTHING_YET.copy()  # cheaper than to begin anew: OpenSSL would look the algorithm up each time
    begun.update(text.encode("utf-8", "surrogatepass"))
    return begun.digest()


class VerifiedTokens(Generic[T]):
    """Values by the digest of their token.

    Two generations: what is asked for moves to the young one; when that is full it becomes the old one, and what nobody
    asked for meanwhile goes. That is nearly "least recently used", without a list to keep in order. It goes bit by bit,
    as room is needed: to free tens of thousands of values at once would take longer than a hundred decisions.

    :param max_entries: of both generations together.
    :param max_bytes: likewise.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries // 2
        self._max_bytes = max_bytes // 2
        self._young: dict[bytes, T] = {}
        self._old: dict[bytes, T] = {}
        self._leaving: dict[bytes, T] = {}
        self._young_bytes = 0
        self._old_bytes = 0
        self._tidied = 0
        self.hits = 0
        self.misses = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def size(self) -> int:
        """Bytes that all entries take, about."""
        return self._young_bytes + self._old_bytes

    def get(self, digest: bytes) -> T | None:
        """The value, if it is remembered."""
        value = self._young.get(digest)
        if value is None:
            value = self._old.pop(digest, None)
            if value is None:
                self.misses += 1
                return None
            self._old_bytes -= value.size
            self.put(digest, value)
        self.hits += 1
        return value

    def put(self, digest: bytes, value: T) -> None:
        """Remember a value; one that is larger than a generation is not worth the others."""
        size = value.size
        if size > self._max_bytes or not self._max_entries:
            return
        if len(self._young) >= self._max_entries or self._young_bytes + size > self._max_bytes:
            self.evictions += len(self._old)
            self._leaving = self._old
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
        self._make_room(size)
        self._young[digest] = value
        self._young_bytes += size

    def _make_room(self, size: int) -> None:
        """At least as much leaves as comes, so that all three together stay within the bounds."""
        leaving, freed, count = self._leaving, 0, 0
        while leaving and (freed < size or count < LEAVING_AT_ONCE):
            freed += leaving.popitem()[1].size
            count += 1

    def forget(self, digest: bytes) -> None:
        """Drop one value; it may be gone already."""
        if (value := self._young.pop(digest, None)) is not None:
            self._young_bytes -= value.size
        if (value := self._old.pop(digest, None)) is not None:
            self._old_bytes -= value.size

    def tidy(self, stale: Callable[[T], bool]) -> bool:
        """Look at the next few, and drop what would never be asked for again. :returns: whether there are more."""
        entries = chain(self._young.items(), self._old.items())
        some = list(islice(entries, self._tidied, self._tidied + TIDIED_AT_ONCE))
        going = [digest for digest, value in some if stale(value)]
        for digest in going:
            self.forget(digest)
        more = len(some) == TIDIED_AT_ONCE
        self._tidied = self._tidied + len(some) - len(going) if more else 0  # what stays moves up
        return more

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._leaving = {}, {}, {}
        self._young_bytes = self._old_bytes = 0
