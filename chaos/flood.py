"""Forged tokens, each with another unknown key id, from a process of their own: what measures is not disturbed."""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import uvloop

from authz_service.address import Address
from chaos.grpc_client import connect
from chaos.record import take_what_is_left
from chaos.tokens import forged_with_unknown_kids

MOST_UNANSWERED = 2_000
"""Beyond it the flood waits: the figure is what was answered."""
MOST_AT_ONCE = 20
"""What it owes after a pause of its own it sends bit by bit: it is to be a flood, not a row of bursts."""


class Sent(NamedTuple):
    """What a flood came to."""

    wanted: int
    answered: int
    seconds: float
    verdicts: dict[str, int]


async def flood(address: Address, per_second: float, seconds: float) -> Sent:
    """Send so many a second, or as many as are answered."""
    channel, messages, verdicts = await connect(address), forged_with_unknown_kids(), Counter[str]()
    started = time.monotonic()
    sent, elapsed = 0, 0.0

    def done(verdict: str) -> None:
        verdicts[verdict] += 1

    while elapsed < seconds:
        due = int(elapsed * per_second) - sent
        for _ in range(min(due, MOST_AT_ONCE, MOST_UNANSWERED - channel.under_way)):
            channel.ask(next(messages), done)
            sent += 1
        await asyncio.sleep(0.001)
        elapsed = time.monotonic() - started
    while channel.under_way and time.monotonic() < started + seconds + 5:
        await asyncio.sleep(0.01)
    channel.close()
    return Sent(int(per_second * seconds), verdicts.total(), elapsed, dict(verdicts))


@asynccontextmanager
async def flooding(address: Address, per_second: float, seconds: float) -> AsyncIterator[asyncio.Task[Sent]]:
    """Flood from another process; the task gives what came of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chaos.flood", str(address), str(per_second), str(seconds),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def result() -> Sent:
        out, _ = await process.communicate()
        return Sent(**json.loads(out))

    task = asyncio.create_task(result())
    try:
        yield task
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.gather(task, return_exceptions=True)


def main() -> None:
    """The other process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address", type=Address.parse)
    parser.add_argument("per_second", type=float)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    gc.disable()  # its pauses would become bursts
    take_what_is_left()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sent = runner.run(flood(given.address, given.per_second, given.seconds))
    print(json.dumps(sent._asdict()))


if __name__ == "__main__":
    main()
