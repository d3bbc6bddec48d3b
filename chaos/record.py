"""Load at a constant rate, and what came of it.

A latency counts from the moment at which the request was due, not from when the loop got round to it: a server that
stalls for a second is not spared the requests of that second (no coordinated omission).
"""

import asyncio
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic
from typing import NamedTuple

ALLOWED = "allowed"
SETTLE_SECONDS = 5.0

Done = Callable[[str], None]
Ask = Callable[[bytes, Done], None]
"""Sends one request and calls back once, with ``allowed`` or the reason of the refusal."""


class Outcome(NamedTuple):
    """One request."""

    due: float
    """Monotonic seconds."""
    seconds: float
    verdict: str


class Record:
    """What came of a load."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.asked = 0
        self._settled = False

    def ask(self, ask: Ask, message: bytes, due: float, *, then: Callable[[], object] | None = None) -> None:
        """Send a request and note its outcome when it comes."""
        self.asked += 1
        self._settled = False

        def done(verdict: str) -> None:
            if not self._settled:
                self.outcomes.append(Outcome(due, monotonic() - due, verdict))
            if then:
                then()

        ask(message, done)

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait for the answers that are still out; what does not come is an outcome too."""
        deadline = monotonic() + seconds
        while len(self.outcomes) < self.asked and monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._settled = True
        for _ in range(self.asked - len(self.outcomes)):
            self.outcomes.append(Outcome(deadline, float("inf"), "no_answer"))

    @property
    def verdicts(self) -> Counter[str]:
        """How many of each."""
        return Counter(outcome.verdict for outcome in self.outcomes)

    @property
    def failed(self) -> int:
        """How many were anything but allowed."""
        return sum(outcome.verdict != ALLOWED for outcome in self.outcomes)

    @property
    def failures(self) -> str:
        """For people: ``0 of 12000 failed`` or what happened instead."""
        bad = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.items() if verdict != ALLOWED)
        return f"{self.failed} of {len(self.outcomes)} failed" + (f" ({bad})" if bad else "")

    def percentile(self, percent: float) -> float:
        """Seconds; :raises ValueError: of nothing."""
        seconds = sorted(outcome.seconds for outcome in self.outcomes)
        if not seconds:
            raise ValueError("nothing was asked")
        return seconds[min(len(seconds) - 1, int(len(seconds) * percent / 100))]

    def between(self, since: float, until: float) -> "Record":
        """The part of it that was due in this time."""
        part = Record()
        part.outcomes = sorted(outcome for outcome in self.outcomes if since <= outcome.due < until)
        part.asked = len(part.outcomes)
        return part


def take_what_is_left() -> None:
    """For a process that elsewhere would have a processor of its own, such as an attacker's or an issuer's.

    From now on it takes none from the service and from those who measure.
    """
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


async def constant_rate(
    ask: Ask, messages: Iterator[bytes], per_second: float, seconds: float, record: Record | None = None
) -> Record:
    """Ask so often, whether or not the answers keep up."""
    record = Record() if record is None else record
    started, total, sent = monotonic(), int(per_second * seconds), 0
    while sent < total:
        due_by_now = min(total, int((monotonic() - started) * per_second) + 1)
        for number in range(sent, due_by_now):
            record.ask(ask, next(messages), started + number / per_second)
        sent = due_by_now
        await asyncio.sleep(max(0.0, started + sent / per_second - monotonic()))
    await record.settle()
    return record


async def as_fast_as_answered(ask: Ask, messages: Iterator[bytes], at_once: int, seconds: float) -> Record:
    """A closed loop: the next request goes out when an answer has come in. Measures what can be borne."""
    record, until = Record(), monotonic() + seconds

    soon = asyncio.get_running_loop().call_soon

    def next_one() -> None:
        if (now := monotonic()) < until:
            record.ask(ask, next(messages), now, then=lambda: soon(next_one))

    for _ in range(at_once):
        next_one()
    await asyncio.sleep(seconds)
    await record.settle()
    return record


def share_within(record: Record, seconds: float) -> float:
    """Which part of the answers came in this time, 0 to 1."""
    taken = sorted(outcome.seconds for outcome in record.outcomes)
    return bisect_left(taken, seconds) / len(taken) if taken else 0.0
