"""What waits on one connection while others have their turn, and when it has waited too long to be decided.

Waiting is counted in the work that was done meanwhile: a process that was not given the processor is late as well, and
refusing would not help. No clock tells work alone. That of the turns goes on while other processes of the machine have
the processor, and that of the thread while its host serves others; so it takes both to be late.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

LONGEST_TURN_SECONDS: Final = 0.005
"""More than this was no work: the processor was somebody else's, or the garbage collector's."""
BURST_SECONDS: Final = 0.06
"""A connection may be so far behind: a burst, after a pause of the machine for instance, is served."""
FLOOD_SECONDS: Final = 0.01
"""And so far, shortly after a refusal."""
PEACE_SECONDS: Final = 0.3
"""How long that is: a flood has its gaps, too."""
LULL_SECONDS = 0.01
"""What comes so long after the last call was answered has not been waiting."""
FULL_READ_BYTES: Final = 250_000
"""An event loop reads about as much at once; where it did, there is more, which waits as long."""


class Work(NamedTuple):
    """What was done so far, by both counts, in seconds."""

    in_turns: float
    by_the_thread: float


class Lateness:
    """Tells what is too long, for all connections of a process.

    :param timer: monotonic seconds.
    :param processor_timer: what the thread had of the processor, in seconds; a system call, so rarely read.
    """

    def __init__(
        self, timer: Callable[[], float] = time.perf_counter, processor_timer: Callable[[], float] = time.thread_time
    ) -> None:
        self._timer = timer
        self._processor_timer = processor_timer
        self._in_turns = 0.0
        self._peace_from = float("-inf")

    def took(self, seconds: float) -> None:
        """One turn of one connection."""
        self._in_turns += min(seconds, LONGEST_TURN_SECONDS)

    def work(self) -> Work:
        """Until now, of all connections together."""
        return Work(self._in_turns, self._processor_timer())

    def too_long(self, since: Work) -> bool:
        """Whether calls that wait since :meth:`work` was this come too late to be decided."""
        limit = BURST_SECONDS if self._timer() >= self._peace_from else FLOOD_SECONDS
        if self._in_turns - since.in_turns <= limit or self._processor_timer() - since.by_the_thread <= limit:
            return False
        self._peace_from = self._timer() + PEACE_SECONDS
        return True


class Backlog:
    """One connection's. Times are on the clock of the event loop."""

    def __init__(self, lateness: Lateness) -> None:
        self._lateness = lateness
        self._since: Work | None = None
        """Those that are being served wait since then, by :meth:`.Lateness.work`; None: they came just now."""
        self._unread_since: Work | None = None
        """Those that are still to be read."""
        self._answered_at = float("-inf")

    def read(self, size: int, now: float) -> None:
        """So many octets were read. They came while this connection was not read, or just now."""
        self._since = self._unread_since if now < self._answered_at + LULL_SECONDS else None
        self._unread_since = self._since if size >= FULL_READ_BYTES else None

    def give_way(self) -> None:
        """What was read is more than a turn's worth; nothing is read until all of it is answered."""
        if self._since is None or self._unread_since is None:
            work = self._lateness.work()
            self._since = work if self._since is None else self._since
            self._unread_since = work if self._unread_since is None else self._unread_since

    def answered(self, now: float) -> None:
        """All of what was read."""
        self._answered_at = now

    def forgive(self) -> None:
        """It is the peer that takes its time."""
        self._since = self._unread_since = None

    @property
    def late(self) -> bool:
        """Whether the calls of this turn come too late to be decided."""
        return self._since is not None and self._lateness.too_long(self._since)
