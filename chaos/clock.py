"""The clocks of a child process, moved while it runs.

``libfaketime`` would do it from below; this does it from above: Python imports ``moved_clock/sitecustomize.py`` before
anything else, and that puts shifted clocks in place of ``time.time`` and ``time.monotonic``. All that authz-service
schedules or judges by time reads one of the two. The event loop has a clock of its own, in C, which stays: a wait that
is under way ends when it would have ended.
"""

import mmap
import struct
from pathlib import Path
from typing import Literal

HOOK = Path(__file__).parent / "moved_clock"
WALL, MONOTONIC = 0, 8


class Clock:
    """Shifts in seconds, shared with the child by a mapped file."""

    def __init__(self, directory: Path) -> None:
        path = directory / "clock"
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._shifts = mmap.mmap(file.fileno(), 16)
        self.environ = {"PYTHONPATH": str(HOOK), "CHAOS_CLOCK": str(path)}

    def move(self, seconds: float, *clocks: Literal["wall", "monotonic"]) -> None:
        """Set these clocks so far ahead of the machine's, or (negative) behind."""
        for clock in clocks:
            struct.pack_into("d", self._shifts, WALL if clock == "wall" else MONOTONIC, seconds)
