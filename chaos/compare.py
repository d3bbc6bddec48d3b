"""Is it slower under the fault? Beside it a second service without any is asked, so that both see the same machine."""

import asyncio
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

from chaos.grpc_client import CheckChannel
from chaos.record import Record, constant_rate
from chaos.stage import Alone
from chaos.table import Report
from chaos.tokens import in_turn, mint_many

WINDOW_SECONDS = 1.0
LOAD_PER_SECOND = 1_000.0
"""Of each of the two."""
FEWEST_ROUNDS, MOST_ROUNDS = 5, 25
BAR = 1.10
RESAMPLES = 400


class Ratio(NamedTuple):
    """Fault by normal: the quotient of the medians of the windows, and the middle 95 % of its resampled values."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} x normal (95 %: {self.low:.2f}-{self.high:.2f})"

    @property
    def decided(self) -> bool:
        """Whether noise could not have put it on this side of the bar."""
        return self.high <= BAR or self.low > BAR


async def compare(
    stage: Alone, beside: Alone, faults: Mapping[str, Callable[[Alone], None]], well: Callable[[], None],
    report: Report,
) -> None:  # fmt: skip
    """Hold the p99 of each fault against the normal of the same minute: within 10 %, and nothing fails.

    A window's p99 is counted in that of ``beside``, which is asked in the same second and has no fault. More rounds are
    run while noise leaves open on which side of the bar it is; after the last one the estimate counts.
    """
    windows: dict[str, list[float]] = {name: [] for name in ("normal", *faults)}
    usual: list[float] = []
    failed = asked = 0
    async with stage.channel() as channel, beside.channel() as other:
        for number in range(MOST_ROUNDS):
            for name, begin in (("normal", None), *faults.items()):
                begin(stage) if begin else well()
                record, healthy = await asyncio.gather(_window(channel), _window(other))
                usual.append(healthy.percentile(99))
                windows[name].append(record.percentile(99) / usual[-1])
                failed, asked = failed + record.failed, asked + record.asked
            ratios = {name: ratio(windows[name], windows["normal"]) for name in faults}
            if number + 1 >= FEWEST_ROUNDS and all(each.decided for each in ratios.values()):
                break
    well()
    report.hold(failed == 0, f"{failed} of {asked} failed")
    report.show(f"normal p99 {median(usual) * 1000:.2f} ms, {len(windows['normal'])} windows of each")
    for name, each in ratios.items():
        report.hold(each.value <= BAR, f"{name}: p99 {each}")


@contextmanager
def on_one_core(*stages: Alone) -> Iterator[None]:
    """These services on one core; who asks or floods them on the rest."""
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    for stage in stages:
        os.sched_setaffinity(stage.authz.pid, {core})
    os.sched_setaffinity(0, allowed - {core} or allowed)
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


async def _window(channel: CheckChannel) -> Record:
    messages = in_turn(mint_many(count=3))
    return await constant_rate(channel.ask, messages, LOAD_PER_SECOND, WINDOW_SECONDS)


def ratio(fault: list[float], normal: list[float]) -> Ratio:
    """Of two sets of windows."""
    chance = random.Random(0)  # noqa: S311 - the same figures give the same answer
    quotients = sorted(
        median(chance.choices(fault, k=len(fault))) / median(chance.choices(normal, k=len(normal)))
        for _ in range(RESAMPLES)
    )
    edge = RESAMPLES // 40
    return Ratio(median(fault) / median(normal), quotients[edge], quotients[-edge - 1])
