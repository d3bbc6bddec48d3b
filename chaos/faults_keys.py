"""Keys come and go under load; clocks jump."""

import asyncio
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chaos.clock import Clock
from chaos.record import ALLOWED, Record, constant_rate
from chaos.stage import Alone, alone, until_verdict
from chaos.table import Report, row
from chaos.tokens import in_turn, mint, mint_many
from tests.support.issuer import Status
from tests.support.tokens import SigningKey, jwks, signing_key

LOAD_PER_SECOND = 400.0
KEY_LOAD = 100.0
HOUR = 3600.0
OLD, NEW = "key-1", "key-2"


class _Users:
    """Check messages of users who all take new tokens at one moment."""

    def __init__(self, key: SigningKey) -> None:
        self.sign_with(key)

    def sign_with(self, key: SigningKey) -> None:
        """From the next message on."""
        self._messages = in_turn(mint_many(key, 20))

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield next(self._messages)


@row("rotation under load, the new key announced one refresh ahead", "0 false denials")
async def rotation_announced(report: Report) -> None:
    async with alone({"JWKS_REFRESH_INTERVAL_SECONDS": "1"}) as stage:
        record, _ = await _rotate(stage, announce_seconds=1.5)
        report.hold(record.failed == 0, record.failures)


@row("rotation under load, not announced", "false denials for less than 1 s; everybody is served again after that")
async def rotation_unannounced(report: Report) -> None:
    async with alone() as stage:
        record, at = await _rotate(stage, announce_seconds=0)
        late = [outcome.due - at for outcome in record.outcomes if outcome.verdict != ALLOWED]
        report.hold(not late or max(late) < 1, record.failures)
        held = record.between(at, at + 1)
        report.show(f"longest wait in the first second {held.percentile(100) * 1000:.0f} ms")
        if late:
            report.show(f"last denial {max(late) * 1000:.0f} ms after the first token of the new key")


async def _rotate(stage: Alone, announce_seconds: float) -> tuple[Record, float]:
    """Three seconds of load, in the middle of which tokens are signed by a new key."""
    users, record = _Users(signing_key(OLD)), Record()
    messages = iter(users)
    async with stage.channel() as channel:
        await constant_rate(channel.ask, messages, LOAD_PER_SECOND, 1.0, record)
        stage.issuer.document = jwks(signing_key(OLD), signing_key(NEW))
        if announce_seconds:
            await constant_rate(channel.ask, messages, LOAD_PER_SECOND, announce_seconds, record)
        users.sign_with(signing_key(NEW))
        at = time.monotonic()
        await constant_rate(channel.ask, messages, LOAD_PER_SECOND, 2.0, record)
    return record, at


@row("a key is removed from the set", "its tokens refused within the refresh interval + 1 s, those of other keys never")
async def key_removed(report: Report) -> None:
    interval = 2.0
    async with alone({"JWKS_REFRESH_INTERVAL_SECONDS": str(interval)}, document=BOTH) as stage:
        seconds, wrong = await _remove(stage, lambda: None, interval + 1)
        report.hold(seconds < interval + 1, f"refused {seconds:.2f} s after removal (interval {interval:.0f} s, ±10 %)")
        report.hold(wrong == 0, f"{wrong} tokens of the other key refused")


@row(
    "a key is removed and SIGHUP is sent",
    "its tokens refused within 1 s, remembered ones too, those of other keys never; a changed policy is in use in the "
    "same second",
    quick=True,
)
async def key_removed_sighup(report: Report) -> None:
    async with alone(document=BOTH) as stage:
        def hang_up() -> None:
            stage.authz.policy_path.write_text(CLOSED, encoding="utf-8")
            stage.authz.send(signal.SIGHUP)

        seconds, wrong = await _remove(stage, hang_up, 0.5)
        report.hold(seconds < 1, f"refused {seconds * 1000:.0f} ms after the signal")
        report.hold(wrong == 0, f"{wrong} tokens of the other key refused for their key")
        closed = await until_verdict(stage, mint(signing_key(NEW)), "permission_denied", 3)
        report.hold(closed + 0.5 < 1, "the new policy decides within the same second")


BOTH = jwks(signing_key(OLD), signing_key(NEW))
CLOSED = """
version: 1
rules:
  - {name: list-groups, match: {path: /api/chat/groups, methods: [GET]}, require: {permission: "groups:nobody"}}
"""


async def _remove(stage: Alone, then: Callable[[], None], seconds: float) -> tuple[float, int]:
    """Remove the old key under load. Both keys' tokens have been accepted before, and would be remembered.

    :param then: happens right after.
    :param seconds: how long to look.
    :returns: for how long tokens of the removed key were accepted, and how many of the other's were refused for it.
    """
    old, new = (in_turn([mint(signing_key(kid))]) for kid in (OLD, NEW))
    removed, kept = Record(), Record()
    async with stage.channel() as channel:
        await constant_rate(channel.ask, old, KEY_LOAD, 0.2, removed)
        await constant_rate(channel.ask, new, KEY_LOAD, 0.2, kept)
        assert removed.failed + kept.failed == 0, "both keys are good at first"
        stage.issuer.document = jwks(signing_key(NEW))
        at = time.monotonic()
        then()
        await asyncio.gather(
            constant_rate(channel.ask, old, KEY_LOAD, seconds, removed),
            constant_rate(channel.ask, new, KEY_LOAD, seconds, kept),
        )
    accepted = [each.due + each.seconds for each in removed.outcomes if each.verdict != "key_not_found"]
    ended = max(removed.outcomes).verdict == "key_not_found"
    return max(0.0, max(accepted) - at) if ended else float("inf"), kept.verdicts["key_not_found"]


@row(
    "wall clock jumps ±1 h (clock of the process moved)",
    "`exp` follows the wall clock at once, also for a remembered token; refresh and backoff do not notice",
)
async def wall_clock_jumps(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        clock = Clock(Path(directory))
        async with alone({**clock.environ, "JWKS_REFRESH_INTERVAL_SECONDS": "1"}) as stage:
            await _expiry_follows(stage, clock, report)
            await _schedule_does_not(stage, clock, report)


async def _expiry_follows(stage: Alone, clock: Clock, report: Report) -> None:
    token = mint(issued=-2 * HOUR, lifetime=2.5 * HOUR)
    verdicts = []
    for shift in (0.0, HOUR, 0.0, -HOUR, 0.0):
        clock.move(shift, "wall")
        verdicts.append(await stage.ask(token))
    report.hold(
        verdicts == [ALLOWED, "token_expired", ALLOWED, ALLOWED, ALLOWED],
        f"a token with 30 minutes left, at 0, +1, 0, -1, 0 h: {', '.join(verdicts)}",
    )


async def _schedule_does_not(stage: Alone, clock: Clock, report: Report) -> None:
    counts: dict[str, list[int]] = {"refreshes": [], "attempts": []}
    for phase, seconds in (("refreshes", 3.5), ("attempts", 5.0)):
        if phase == "attempts":
            stage.issuer.behave(Status(503))
        for shift in (0.0, HOUR, -HOUR):
            clock.move(shift, "wall")
            before = len(stage.issuer.requests)
            await asyncio.sleep(seconds)
            counts[phase].append(len(stage.issuer.requests) - before)
    clock.move(0.0, "wall")
    stage.issuer.behave()
    refreshes, attempts = counts["refreshes"], counts["attempts"]
    report.hold(all(2 <= count <= 5 for count in refreshes), f"refreshes in 3.5 s, each after a jump: {refreshes}")
    report.hold(all(4 <= count <= 12 for count in attempts), f"attempts in 5 s of outage, the same: {attempts}")


@row("wall clock jumps while unknown key ids come", "the cooldown of 30 s does not notice: one fetch", quick=True)
async def wall_clock_cooldown(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        clock = Clock(Path(directory))
        async with alone(clock.environ) as stage:
            before, verdicts = len(stage.issuer.requests), []
            for number, shift in enumerate((0.0, HOUR, -HOUR, 0.0)):
                clock.move(shift, "wall")
                verdicts.append(await stage.ask(mint(signing_key(f"nobody-{number}"), issued=shift - 60)))
            report.hold(set(verdicts) == {"key_not_found"}, f"4 jumps: {', '.join(sorted(set(verdicts)))}")
            fetches = len(stage.issuer.requests) - before
            report.hold(fetches == 1, f"{fetches} fetch")
