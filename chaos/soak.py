"""Ten minutes at half load with a rotation every minute: nothing fails, nothing grows."""

import asyncio
import os
import time
from collections.abc import Iterator
from itertools import count, cycle
from statistics import linear_regression
from typing import NamedTuple

from chaos.http_client import get_request
from chaos.record import Record, as_fast_as_answered, constant_rate
from chaos.sidecar import Sidecar
from chaos.stage import BehindEnvoy, behind_envoy
from chaos.table import Report, Row
from chaos.tokens import PATH, mint_many
from tests.support.tokens import jwks, signing_key

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
ROTATION_SECONDS = SECONDS / 10
ANNOUNCED_SECONDS = ROTATION_SECONDS / 3
WARM_UP = 0.2
"""Part of the time after which memory must not grow any more."""
SAMPLE_SECONDS = 2.0
AT_ONCE = 32
USERS = 200


class Sample(NamedTuple):
    """The process at one moment."""

    at: float
    rss: int
    descriptors: int


async def soak(report: Report) -> None:
    """See :data:`SOAK`."""
    async with behind_envoy(environ={"JWKS_REFRESH_INTERVAL_SECONDS": str(max(1.0, ANNOUNCED_SECONDS / 2))}) as stage:
        users = _Users()
        bearable = await as_fast_as_answered(stage.pool.ask, iter(users), AT_ONCE, 5)
        rate = bearable.asked / 5 / 2
        report.show(f"{rate:,.0f} requests a second through Envoy, half of what it bears")
        samples: list[Sample] = []
        tasks = [asyncio.create_task(_rotate(stage, users)), asyncio.create_task(_watch(stage.endpoints[0], samples))]
        record = await constant_rate(stage.pool.ask, iter(users), rate, SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        _judge(report, record, users, samples)


class _Users:
    """Requests of users who all take new tokens when the key changes."""

    def __init__(self) -> None:
        self.keys = [signing_key("soak-0"), signing_key()]
        self._requests: Iterator[bytes] = cycle(())
        self.sign_in(mint_many(signing_key(), USERS))

    def sign_in(self, tokens: list[str]) -> None:
        """From now on, with these."""
        self._requests = cycle([get_request(PATH, token) for token in tokens])

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield next(self._requests)


async def _rotate(stage: BehindEnvoy, users: _Users) -> None:
    """Announce a key, wait, sign with it; the key before the last leaves the set."""
    for number in count(1):
        await asyncio.sleep(ROTATION_SECONDS - ANNOUNCED_SECONDS)
        key = await asyncio.to_thread(signing_key, f"soak-{number}")
        users.keys = [*users.keys[-1:], key]
        stage.issuer.document = jwks(*users.keys)
        tokens = await asyncio.to_thread(mint_many, key, USERS)
        await asyncio.sleep(ANNOUNCED_SECONDS)
        users.sign_in(tokens)


async def _watch(authz: Sidecar, samples: list[Sample]) -> None:
    while True:
        samples.append(Sample(time.monotonic(), authz.rss_bytes(), authz.descriptors()))
        await asyncio.sleep(SAMPLE_SECONDS)


def _judge(report: Report, record: Record, users: _Users, samples: list[Sample]) -> None:
    report.hold(record.failed == 0, f"{record.failures} in {SECONDS / 60:.0f} minutes")
    report.show(f"p50 {record.percentile(50) * 1000:.1f} ms, p99 {record.percentile(99) * 1000:.1f} ms")
    rotations = int(users.keys[-1].kid.rpartition("-")[2])
    report.hold(rotations >= SECONDS / ROTATION_SECONDS - 1, f"{rotations} rotations")
    warm = samples[int(len(samples) * WARM_UP) :]
    trend = linear_regression([sample.at for sample in warm], [sample.rss for sample in warm]).slope
    growth = trend * (warm[-1].at - warm[0].at) / 2**20
    report.hold(growth < 1, f"memory {warm[0].rss / 2**20:.1f} MB after warm-up, then a trend of {growth:+.2f} MB")
    first, last = warm[0].descriptors, warm[-1].descriptors
    most = max(sample.descriptors for sample in warm)
    report.hold(last <= first + 2, f"file descriptors {first} after warm-up, {last} at the end, {most} at most")


SOAK = Row(
    "soak", "ten minutes at half load, a rotation every minute",
    "0 failed, memory slope under 1 MB after warm-up, file descriptors flat", quick=False, happen=soak,
)  # fmt: skip
