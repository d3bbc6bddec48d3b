"""One issuer's keys in a worker: another process fetches them, for all workers together."""

import asyncio
import logging
import time
from collections.abc import Callable

from authz_service.errors import KeySetRefused
from authz_service.keys.jwk import KeySet, without_leaked
from authz_service.keys.jwks import HOLD_SECONDS, Wait, wait_for
from authz_service.keys.served import KeyState, ServedKeys
from authz_service.keys.source import Fetched, KeySetSource

MAX_SOUGHT_AT_ONCE = 64
PAUSE_SECONDS = 0.01
"""Between questions: a flood of unknown key ids is a hundred questions a second, not one for each request."""

log = logging.getLogger(__name__)


class FollowedRing(ServedKeys):
    """Decides by the keys that it is told.

    Their age is told as well, so that they are used here no longer than where they were fetched.

    :param parse: a JWKS document -> its usable keys; raises KeySetRefused.
    :param seek: asks, without waiting, for a refresh that may bring keys of this issuer with these ids; the answer is
        :meth:`answered`. Whether there is one fetch in flight, a budget and a memory of absent ids is not ours to know.
    """

    def __init__(
        self, issuer: str, parse: Callable[[bytes], KeySet], max_stale_seconds: float,
        seek: Callable[[str, list[str]], None],
        *, wall_clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic,
        wait: Wait = wait_for,
    ) -> None:  # fmt: skip
        super().__init__(issuer, max_stale_seconds, monotonic, wall_clock)
        self._parse = parse
        self._seek = seek
        self._wait = wait
        self._seek_from = float("-inf")
        self._sought: set[str] = set()
        self._asking = False
        self._asked = asyncio.Event()  # a new one for each question
        self._next = asyncio.Event()  # of those that wait for the question after that

    def follow(self, state: KeyState) -> None:
        """Decide by these keys from now on; whoever waits for a key looks again."""
        self._due = state.due
        self.last_error = state.error
        self._seek_from = state.seek_from
        self._leaked = state.leaked
        if state.document is None or state.good_at is None:
            self._forget_all()
        else:
            self._take(state.document, state.good_at)
        self._asked.set()
        self._next.set()
        self._next = asyncio.Event()

    def _take(self, document: bytes, good_at: float) -> None:
        try:
            key_set = without_leaked(self._parse(document), self._leaked)
        except KeySetRefused:
            log.exception("A key set that was good is refused. This is a defect: please report this line.")
            return
        self._serve(key_set, good_at, document)

    def may_come(self, kid: str) -> bool:  # noqa: ARG002 - of key ids that are known to be absent, the other side knows
        """Whether :meth:`refresh_for_unknown_kid` is worth while: decided here, a flood of key ids costs no waiting."""
        return self._monotonic() >= self._seek_from

    async def refresh_for_unknown_kid(self, kid: str) -> None:
        """Wait, for at most ``HOLD_SECONDS``, for a fetch that may bring this key; says nothing about its success.

        There is one question at a time; what is asked for meanwhile is asked together afterwards.
        """
        if kid in self._keys or not self.may_come(kid):
            return
        if len(self._sought) < MAX_SOUGHT_AT_ONCE:
            self._sought.add(kid)
        answer = self._next
        self._ask()
        await self._wait(answer, HOLD_SECONDS)

    def _ask(self) -> None:
        if self._asking or not self._sought:
            return
        self._asking = True
        self._asked, self._next = self._next, asyncio.Event()
        sought, self._sought = sorted(self._sought), set()
        self._seek(self.issuer, sought)

    def answered(self) -> None:
        """What was asked for has been looked for, or will not be."""
        self._asked.set()
        asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._ask_next)

    def _ask_next(self) -> None:
        self._asking = False
        self._ask()

    def start(self) -> None:
        """Nothing to begin: keys come by themselves."""

    async def stop(self) -> None:
        """Nothing to end."""

    def refresh_now(self) -> None:
        """Not ours to do."""

    def use_source(self, _source: KeySetSource) -> None:
        """Whoever fetches has been told as well."""


class Elsewhere:
    """The source of keys that somebody else fetches."""

    url = ""

    async def fetch(self, _etag: str | None = None) -> Fetched:
        """Never asked; :raises KeySetRefused: always."""
        raise KeySetRefused("internal_error", "keys are fetched elsewhere")
