"""When there is more to do than can be done in time, say so at once: a late answer helps nobody.

For a transport that reads by itself, grpcio's; our own knows what waits on each connection, see ``backlog.py``.
"""

import asyncio
from collections.abc import Callable

TICK_SECONDS = 0.01
BURST_SECONDS = 0.1
"""How long a turn of the event loop may last: a burst, after a pause of the machine for instance, is served."""
PEACE_SECONDS = 1.0
"""How long after a refusal the next burst is not: a flood has its gaps, too."""
LATE_SECONDS = 0.015
"""A turn that has more work than this had a backlog."""
SHRINKING = 0.7
"""Where the load can be borne, a backlog shrinks from turn to turn by itself; what does not shrink so much is cut."""


class OverloadGuard:
    """Tells a turn of the event loop that lasts too long, from within it.

    The loop's timers come first in each turn. So if the last tick is long ago, then this turn has been answering ever
    since, and the requests that are still to be read in it have been waiting as long. That counts only if it was work
    that took the time: a process that was not given the processor is late as well, and refusing would not help.

    :param timer: monotonic seconds, the same that :meth:`behind` is asked with.
    :param worked: seconds of the processor that this thread has used.
    """

    def __init__(self, timer: Callable[[], float], worked: Callable[[], float]) -> None:
        self._timer = timer
        self._worked = worked
        self._last_tick = float("inf")  # nobody is late before the first tick
        self._worked_then = 0.0
        self._limit = BURST_SECONDS
        self._running = False
        self._asked = False
        self._peace_from = float("-inf")
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tick, on the running loop, while there are requests."""
        self._running = True
        self._worked_then = self._worked()
        self._tick()

    def _tick(self) -> None:
        now = self._worked()
        work = now - self._worked_then
        self._last_tick, self._worked_then = self._timer(), now
        backlog = work > LATE_SECONDS or self._last_tick < self._peace_from
        self._limit = min(max(LATE_SECONDS, work * SHRINKING), BURST_SECONDS) if backlog else BURST_SECONDS
        self._next = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick) if self._asked else None
        self._asked = False

    def stop(self) -> None:
        """Tick no more."""
        self._running = False
        self._last_tick = float("inf")
        if self._next is not None:
            self._next.cancel()

    def behind(self, now: float) -> bool:
        """Whether requests that are read now come too late to be decided."""
        self._asked = True
        if self._next is None:
            if self._running:
                self._tick()  # the first request after a pause, in which nothing woke this process
            return False
        if now - self._last_tick > self._limit and self._worked() - self._worked_then > self._limit / 2:
            self._peace_from = now + PEACE_SECONDS
            return True
        return False
