"""When there is more to do than can be done in time, say so at once: a late answer helps nobody."""

import asyncio
from collections.abc import Callable

TICK_SECONDS = 0.01
LATE_SECONDS = 0.02
"""How long a turn of the event loop may last that follows a long one: that is how it is when too much keeps coming."""
BURST_SECONDS = 0.1
"""How long any other turn may last: a burst, after a pause of the machine for instance, is served."""


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
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Tick, on the running loop."""
        self._worked_then = self._worked()
        self._tick()

    def _tick(self) -> None:
        worked = self._worked()
        self._limit = LATE_SECONDS if worked - self._worked_then > LATE_SECONDS else BURST_SECONDS
        self._last_tick, self._worked_then = self._timer(), worked
        self._next = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        """Tick no more."""
        self._last_tick = float("inf")
        if self._next is not None:
            self._next.cancel()

    def behind(self, now: float) -> bool:
        """Whether requests that are read now come too late to be decided."""
        return now - self._last_tick > self._limit and self._worked() - self._worked_then > self._limit / 2
