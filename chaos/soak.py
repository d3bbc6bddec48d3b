"""Ten minutes at half load with a rotation every minute: nothing fails, nothing grows."""

import asyncio
import os
import time
from collections.abc import Iterator
from itertools import cycle, pairwise
from statistics import linear_regression
from typing import NamedTuple

from chaos.http_client import get_request
from chaos.record import Record, as_fast_as_answered, constant_rate
from chaos.sidecar import Sidecar
from chaos.stage import BehindEnvoy, behind_envoy
from chaos.table import Report, Row
from chaos.tokens import LIFETIME_SECONDS, PATH, mint
from tests.support.tokens import SigningKey, jwks, signing_key

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
ROTATIONS = 10
ROTATION_SECONDS = SECONDS / ROTATIONS
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
        users = _Users([signing_key(), *(signing_key(f"soak-{number + 1}") for number in range(ROTATIONS))])
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
    """Requests of users who all take new tokens when the key changes.

    All tokens are made beforehand: while they are, nobody in this process can ask, and what waits would pass for slow.

    :param keys: whose turn comes one after the other.
    """

    def __init__(self, keys: list[SigningKey]) -> None:
        self.keys = keys
        self._requests = [[_request(key, number) for number in range(USERS)] for key in keys]
        self.rotations = 0

    def rotate(self) -> None:
        """All sign in, and get tokens of the next key."""
        self.rotations += 1

    def __iter__(self) -> Iterator[bytes]:
        for number in cycle(range(USERS)):
            yield self._requests[self.rotations][number]


def _request(key: SigningKey, number: int) -> bytes:
    return get_request(PATH, mint(key, f"user-{number}", lifetime=SECONDS + LIFETIME_SECONDS))


async def _rotate(stage: BehindEnvoy, users: _Users) -> None:
    """Announce a key, wait, sign with it; the key before the last leaves the set."""
    for before, key in pairwise(users.keys):
        await asyncio.sleep(ROTATION_SECONDS - ANNOUNCED_SECONDS)
        stage.issuer.document = jwks(before, key)
        await asyncio.sleep(ANNOUNCED_SECONDS)
        users.rotate()


async def _watch(authz: Sidecar, samples: list[Sample]) -> None:
    while True:
        samples.append(Sample(time.monotonic(), authz.rss_bytes(), authz.descriptors()))
        await asyncio.sleep(SAMPLE_SECONDS)


def _judge(report: Report, record: Record, users: _Users, samples: list[Sample]) -> None:
    report.hold(record.failed == 0, f"{record.failures} in {SECONDS / 60:.0f} minutes")
    report.show(f"p50 {record.percentile(50) * 1000:.1f} ms, p99 {record.percentile(99) * 1000:.1f} ms")
    report.hold(users.rotations >= ROTATIONS - 1, f"{users.rotations} rotations")
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
