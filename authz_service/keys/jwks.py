"""The life of a key set: fetched at start, or restored if that fails; refreshed for ever, served from memory.

Each ring has one task, and only that task fetches: so there is never more than one fetch in flight, and whoever
wants a refresh (the schedule, SIGHUP, an unknown key id) shares it. The three ages of a key set:

- fresh: younger than the refresh interval
- stale but served: refreshes fail, the last good keys verify on, ``age_seconds`` tells
- beyond ``max_stale_seconds``, or none at all: Unavailable, never a refusal that blames the client
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from random import random as system_random
from typing import Protocol

from authz_service.errors import KeySetRefused
from authz_service.http_url import shown
from authz_service.keys.jwk import KeySet, SkippedKey, as_used, without_leaked
from authz_service.keys.loader import KeySetLoader, Loaded, NoUsableKeys
from authz_service.keys.schedule import Timing, UnknownKids, refresh_delay, retry_delay
from authz_service.keys.served import KeyState, ServedKeys
from authz_service.keys.snapshot import Snapshot
from authz_service.keys.source import KeySetSource
from authz_service.token.jws import VerificationKey

HOLD_SECONDS = 0.15
"""The longest that a request with an unknown key id waits for a refresh."""
SHOWN_KID_LENGTH = 64

log = logging.getLogger(__name__)


class KeyObserver(Protocol):
    """Told of the outcome of each fetch before any request is decided by it."""

    def refreshed(self, issuer: str, key_set: KeySet, withdrawn: frozenset[str], /) -> None:
        """A good answer. ``withdrawn``: key ids that are gone, or stand for another key now."""

    def refresh_failed(self, issuer: str, cause: str, /) -> None:
        """No good answer; the keys are what they were."""


class Wait(Protocol):
    """Waits for an event for at most so many seconds; True if it came."""

    async def __call__(self, event: asyncio.Event, seconds: float, /) -> bool: ...  # noqa: D102


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """The real :class:`Wait`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


class KeyRing(ServedKeys):
    """One issuer's keys, kept fresh.

    :param parse: a JWKS document -> its usable keys; raises KeySetRefused.
    :param wall_clock: Unix seconds, for what people and files are told; nothing is scheduled by it.
    :param monotonic: seconds, for every age, interval and cooldown.
    :param random: in [0, 1), for jitter.
    :param wait: how to wait for an event or for time to pass, whichever comes first.
    """

    def __init__(
        self, issuer: str, source: KeySetSource, parse: Callable[[bytes], KeySet], timing: Timing,
        *, snapshot: Snapshot | None = None, observers: Iterable[KeyObserver] = (),
        wall_clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = system_random, wait: Wait = wait_for,
    ) -> None:  # fmt: skip
        super().__init__(issuer, timing.max_stale_seconds, monotonic, wall_clock)
        self._loader = KeySetLoader(source, parse)
        self._parse = parse
        self._interval = timing.interval_seconds
        self._snapshot = snapshot
        self._at_hand = snapshot
        """What would be restored: until the first fetch has come to an end, one way or the other."""
        self._observers = tuple(observers)
        self._random = random
        self._wait = wait
        self._unknown = UnknownKids(timing.unknown_kid_cooldown_seconds)
        self._sought: str | None = None  # the unknown key id that caused the fetch
        self._skipped: tuple[SkippedKey, ...] = ()
        self._failures = 0
        self._asked = asyncio.Event()
        self._fetching = False
        self._fetched = asyncio.Event()  # a new one for each fetch
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fetch."""
        self._task = asyncio.create_task(self._live(), name=f"keys of {self.issuer}")

    async def stop(self) -> None:
        """End the task, also in the middle of a fetch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._snapshot is not None:
            await self._snapshot.stop()

    def use_source(self, source: KeySetSource) -> None:
        """Fetch from there, beginning now. The keys are the same issuer's: they serve until it answers."""
        self._loader = KeySetLoader(source, self._parse)
        self.refresh_now()

    def refresh_now(self) -> None:
        """Fetch as soon as possible: now, or right after the fetch that is under way."""
        self._due = self._monotonic()
        self._asked.set()

    def state(self) -> KeyState:
        """For those that follow this ring: they, too, join the fetch that is under way."""
        joinable = self._fetching or self._asked.is_set()
        return super().state()._replace(seek_from=float("-inf") if joinable else self._unknown.open_at)

    def may_come(self, kid: str) -> bool:
        """Whether :meth:`refresh_for_unknown_kid` would wait: decided here, a flood of key ids costs no waiting."""
        now = self._monotonic()
        if self._task is None or self._unknown.known_absent(kid, now):
            return False
        return self._fetching or self._asked.is_set() or self._unknown.affordable(now)

    async def refresh_for_unknown_kid(self, kid: str) -> None:
        """Wait, for at most ``HOLD_SECONDS``, for a fetch that may bring this key; says nothing about its success.

        Joins the fetch that is under way, or asks for one if the budget of unknown key ids has one left. Otherwise,
        and for a key id that was looked for in vain lately, returns at once.
        """
        now = self._monotonic()
        if self._task is None or kid in self._keys or self._unknown.known_absent(kid, now):
            return
        if not (self._fetching or self._asked.is_set()):
            if not self._unknown.spend(now):
                return
            self._sought = kid
            self._asked.set()
        await self._wait(self._fetched, HOLD_SECONDS)

    async def _live(self) -> None:
        await self._refresh()
        while True:
            await self._wait(self._asked, self.next_refresh_in)
            await self._refresh()

    async def _refresh(self) -> None:
        self._asked.clear()
        self._fetching = True
        try:
            self._succeeded(self._judged(await self._loader.load()))
        except KeySetRefused as refused:
            self._failed(refused)
        except Exception as defect:
            log.exception("JWKS refresh broke, the next one comes. This is a defect: please report this line.")
            self._failed(KeySetRefused("internal_error", type(defect).__name__))
        finally:
            self._fetching = False
            self._sought = None
            self._fetched.set()
            self._fetched = asyncio.Event()

    def _judged(self, loaded: Loaded) -> Loaded:
        """:raises NoUsableKeys: all that it holds was published with its private half, now or before."""
        self._leaked |= loaded.key_set.leaked
        key_set = without_leaked(loaded.key_set, self._leaked)
        if not key_set.keys:
            raise NoUsableKeys(key_set)
        return loaded._replace(key_set=key_set)

    def _succeeded(self, loaded: Loaded) -> None:
        self._at_hand = None
        now, key_set = self._monotonic(), loaded.key_set
        news = self.last_error is not None or bool(key_set.keys.keys() - self._keys) or key_set.skipped != self._skipped
        withdrawn = self._serve(key_set, now, loaded.document)
        self._skipped = key_set.skipped
        self.last_error = None
        self._failures = 0
        self._due = now + refresh_delay(self._interval, loaded.max_age_seconds, self._random())
        self._tell(lambda observer: observer.refreshed(self.issuer, key_set, withdrawn))
        if withdrawn or news:
            self._log_key_set(key_set, withdrawn)
        self._settle_sought(now)
        if self._snapshot is not None:
            self._snapshot.save_soon(as_used(loaded.document, key_set), self._wall_clock())

    def _settle_sought(self, now: float) -> None:
        if self._sought is not None and self._sought not in self._keys:
            self._unknown.not_found(self._sought, now)
            log.warning(
                "Key ID %s not found in the refreshed key set of %s. Its tokens are refused: they are forged, from "
                "another issuer, or signed with a key that is not published. Check that the issuer publishes its key.",
                _shown(self._sought), self.issuer,
            )  # fmt: skip

    def _failed(self, refused: KeySetRefused) -> None:
        self.last_error = refused
        if isinstance(refused, NoUsableKeys):
            self._leaked |= refused.leaked
            if self._is_exposed(self._keys.values()):
                self._withdraw_all()
        # Only now: as long as the issuer may answer, no key of yesterday is believed, not even for a moment.
        if (snapshot := self._at_hand) is not None:
            self._at_hand = None
            self._restore(snapshot)
        # A fetch for an unknown key id that comes before its time changes nothing about the schedule.
        if self._sought is None or self.next_refresh_in == 0:
            self._failures += 1
            self._due = self._monotonic() + retry_delay(self._failures, self._interval, self._random())
        self._tell(lambda observer: observer.refresh_failed(self.issuer, refused.cause))
        self._log_failure(refused)

    def _is_exposed(self, keys: Iterable[VerificationKey]) -> bool:
        return not self._leaked.isdisjoint(key.thumbprint for key in keys)

    def _withdraw_all(self) -> None:
        """Whoever has read the document can sign with these keys: not for a moment are they the last good ones."""
        self._forget_all()
        if self._snapshot is not None:
            self._snapshot.discard_soon()
        log.error(
            "%s has published the private half of its signing key, and no other key that can be used: none of its "
            "tokens is accepted until it does. See to it that the issuer replaces the key.", self.issuer,
        )  # fmt: skip

    def _tell(self, tell: Callable[[KeyObserver], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                log.exception("An observer of key sets broke. This is a defect: please report this line.")

    def _restore(self, snapshot: Snapshot) -> None:
        restored = snapshot.read(self._wall_clock())
        if restored is None:
            return
        try:
            key_set = self._loader.read(restored.document)
        except KeySetRefused as refused:
            log.warning("JWKS snapshot ignored: %s (%s). The next good fetch writes a new one.", refused, refused.cause)
            return
        if self._is_exposed(key_set.keys.values()):
            self._withdraw_all()
            return
        self._serve(key_set, self._monotonic() - restored.age_seconds, restored.document)
        log.warning(
            "JWKS snapshot restored: %d keys of %s, %.0f s old, %s.", len(key_set.keys), self.issuer,
            restored.age_seconds,
            "in use until the issuer answers" if self.ready else "too old to use; check the issuer",
        )  # fmt: skip

    def _log_key_set(self, key_set: KeySet, withdrawn: frozenset[str]) -> None:
        log.info(
            "JWKS refreshed: %d usable keys of %s%s; next refresh in %.0f s.", len(key_set.keys), self.issuer,
            f", withdrawn: {', '.join(map(_shown, sorted(withdrawn)))}" if withdrawn else "", self.next_refresh_in,
        )  # fmt: skip
        for skipped in key_set.skipped:
            log.warning(
                "JWKS key %s of %s skipped: %s. Its tokens are refused; have the issuer mend it, if it signs with it.",
                _shown(skipped.kid), self.issuer, skipped.cause,
            )  # fmt: skip

    def _log_failure(self, refused: KeySetRefused) -> None:
        if self.ready:
            outlook = f"The last good keys, {self.age_seconds:.0f} s old, stay in use."
        else:
            outlook = "There are no usable keys: protected routes answer 503."
        log.log(
            logging.WARNING if self.ready and not isinstance(refused, NoUsableKeys) else logging.ERROR,
            "JWKS fetch failed for %s: %s (%s). %s Next attempt in %.1f s; check %s and the issuer.",
            self.issuer, refused, refused.cause, outlook, self.next_refresh_in, shown(self._loader.url),
        )  # fmt: skip


def _shown(kid: str) -> str:
    """A key id in a log line: escaped and cut short, for it is the client's or the issuer's word."""
    return ascii(kid[:SHOWN_KID_LENGTH])
