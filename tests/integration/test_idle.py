"""A process that nobody asks anything wakes up rarely: it shares its processor, and its caches, with Envoy."""

import asyncio
import time
from pathlib import Path

from tests.support.service import Service, service

SECONDS = 3
WAKE_UPS_PER_SECOND = 15
"""With room for what the system adds; one loop that looks ten times a second would be more."""


def slept(running: Service) -> int:
    """How often a thread of the process has gone to sleep so far."""
    statuses = [path.read_text(encoding="ascii") for path in Path(f"/proc/{running.pid}/task").glob("*/status")]
    return sum(int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for status in statuses)


async def test_an_idle_process_wakes_up_rarely() -> None:
    async with service({"USE_OAUTH2_AUTH": "false", "AUTH_API_ISSUER": "https://auth.example.com"}) as running:
        await running.until_ready()
        await asyncio.sleep(1)  # less what comes with the start
        before, began = slept(running), time.monotonic()
        await asyncio.sleep(SECONDS)
        assert (slept(running) - before) / (time.monotonic() - began) < WAKE_UPS_PER_SECOND
