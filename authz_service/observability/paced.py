"""Bounds on what those who ask can make this process do beside its work: it has decisions to take."""

import asyncio
from collections.abc import Awaitable, Callable

REST = 4.0
"""A page rests for so many times as long as it took to make: making it takes a fifth of the time at most."""
LONGEST_REST_SECONDS = 1.0


class Turnstile:
    """Lets one through at a time, and the next one no sooner than this many seconds later."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._free_at = 0.0

    async def enter(self) -> None:
        """Wait for one's turn, in the order of arrival."""
        now = asyncio.get_running_loop().time()
        turn = max(now, self._free_at)
        self._free_at = turn + self._seconds
        if turn > now:
            await asyncio.sleep(turn - now)


class SharedPage:
    """A page that is made for all who wait for it together, and then rests.

    :param make: called only after the last one of those has asked: nobody gets what is older than the question.
    """

    def __init__(self, make: Callable[[], Awaitable[bytes]]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._free_at = 0.0
        self._coming: asyncio.Task[bytes] | None = None

    async def get(self) -> bytes:
        """The next one to be made."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._make_in_turn())
        return await asyncio.shield(self._coming)  # who goes away while waiting does not take it from the others

    async def _make_in_turn(self) -> bytes:
        loop = asyncio.get_running_loop()
        async with self._making:
            await asyncio.sleep(self._free_at - loop.time())
            self._coming = None
            started = loop.time()
            try:
                return await self._make()
            finally:
                took = loop.time() - started
                self._free_at = loop.time() + min(took * REST, LONGEST_REST_SECONDS)
