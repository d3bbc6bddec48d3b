"""More than it can bear, and more people than it can remember."""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from itertools import cycle

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from chaos.grpc_client import CheckChannel
from chaos.record import ALLOWED, Ask, Done, Record, as_fast_as_answered, constant_rate, share_within, take_what_is_left
from chaos.stage import alone
from chaos.table import Report, row
from chaos.tokens import check_message, in_turn, mint, mint_many
from tests.support.tokens import SigningKey, jwks, signing_key

SHED_SECONDS = 0.05
RECOVERY_SECONDS = 5.0
MILLION = 1_000_000
MILLION_SECONDS = 360
BATCH = 2_000
AT_ONCE = 64
FEW_AT_ONCE = 16
"""Signatures that are seen for the first time take their time: this is no overload."""
CONNECTIONS = 16
UNREMEMBERED = {"AUTHZ_TOKEN_CACHE_BYTES": "0", "JWT_ALGORITHMS": "ES384"}
"""Each decision costs a signature of the slowest kind: the service is at its limit long before its one client is."""
OVERLOAD_SECONDS = 5.0
CACHE_MEGABYTES = 64


@row(
    "twice the load that it can bear",
    "what is too much is refused as `overloaded` within 50 ms; nothing is allowed that should not be; all is well "
    "again within 5 s",
)
async def overload(report: Report) -> None:
    key = signing_key("key-ec", "ES384")
    async with alone(UNREMEMBERED, document=jwks(key)) as stage, AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(stage.channel()) for _ in range(CONNECTIONS)]
        ask = _spread(channels)
        messages = in_turn(mint_many(key, count=50))
        bearable = await as_fast_as_answered(ask, messages, at_once=AT_ONCE, seconds=2)
        capacity = bearable.verdicts[ALLOWED] / 2
        report.show(f"bears {capacity:,.0f} requests a second")
        forged, valid = Record(), Record()
        lag = await _twice(ask, in_turn([mint(key), _forged(key)]), capacity * 2, valid, forged)
        over = time.monotonic()
        asked = (valid.asked + forged.asked) / OVERLOAD_SECONDS
        report.show(f"asked {asked:,.0f} a second, at most {lag * 1000:.0f} ms late")
        _judge_overload(valid, forged, report)
        recovery = await constant_rate(ask, messages, capacity / 4, RECOVERY_SECONDS + 1)
        bad = [outcome.due + outcome.seconds - over for outcome in recovery.outcomes if outcome.verdict != ALLOWED]
        report.hold(not bad or max(bad) < RECOVERY_SECONDS, f"well again after {max(bad, default=0.0):.1f} s")


def _spread(channels: Sequence[CheckChannel]) -> Ask:
    """One after the other: on a single connection, calls beyond the peer's limit would wait here."""
    turns = cycle(channels)

    def ask(message: bytes, done: Done) -> None:
        next(turns).ask(message, done)

    return ask


async def _twice(ask: Ask, messages: Iterator[bytes], per_second: float, valid: Record, forged: Record) -> float:
    """Good and forged tokens in turn, at a constant rate; :returns: how late we were ourselves, at worst (seconds)."""
    started, sent, lag = time.monotonic(), 0, 0.0
    while (now := time.monotonic() - started) < OVERLOAD_SECONDS:
        lag = max(lag, now - sent / per_second)
        while sent < now * per_second:
            (valid, forged)[sent % 2].ask(ask, next(messages), started + sent / per_second)
            sent += 1
        await asyncio.sleep(0.001)
    await valid.settle(10)
    await forged.settle(1)
    return lag


def _judge_overload(valid: Record, forged: Record, report: Report) -> None:
    report.hold(ALLOWED not in forged.verdicts, f"forged: {dict(forged.verdicts)}")
    shed = Record()
    shed.outcomes = [each for each in (*valid.outcomes, *forged.outcomes) if each.verdict == "overloaded"]
    report.hold(bool(shed.outcomes), f"valid: {dict(valid.verdicts)}, p99 {valid.percentile(99) * 1000:.0f} ms")
    if shed.outcomes:
        share = share_within(shed, SHED_SECONDS)
        report.hold(share > 0.99, f"{share:.1%} of the refusals within 50 ms, p99 {shed.percentile(99) * 1000:.0f} ms")
    others = set(valid.verdicts) - {ALLOWED, "overloaded"}
    report.hold(not others, f"no other answers{': ' + ', '.join(others) if others else ''}")


def _forged(key: SigningKey) -> str:
    """The right key id, another's signature."""
    return mint(key._replace(private=signing_key("another", key.algorithm).private))


@row(
    "a million distinct valid tokens",
    f"memory bounded, within the configured cache plus {CACHE_MEGABYTES} MB; 0 failed",
)
async def million_tokens(report: Report) -> None:
    key = signing_key("key-ec", "ES256")  # because a million RSA signatures take ten minutes
    async with alone({"JWT_ALGORITHMS": "RS256,ES256"}, document=jwks(signing_key(), key)) as stage:
        async with stage.channel() as channel:
            await as_fast_as_answered(channel.ask, in_turn(mint_many(count=10)), AT_ONCE, 0.5)
            before, worked, started = stage.authz.rss_bytes(), stage.authz.cpu_seconds(), time.monotonic()
            verdicts, peak = Counter[str](), 0
            async for tokens in _signed_in_another_process(key, MILLION):
                verdicts += await _verdicts(channel, tokens)
                peak = max(peak, stage.authz.rss_bytes())
                if time.monotonic() - started > MILLION_SECONDS:
                    break
            seconds, worked = time.monotonic() - started, stage.authz.cpu_seconds() - worked
        asked = verdicts.total()
        report.hold(asked == MILLION, f"{asked:,} tokens in {seconds:.0f} s ({asked / seconds:,.0f} a second)")
        report.hold(set(verdicts) == {ALLOWED}, ", ".join(f"{n:,} {verdict}" for verdict, n in verdicts.items()))
        report.show(f"{worked / asked * 1e6:.0f} µs of processor time each")
        growth = (peak - before) / 2**20
        report.hold(growth < CACHE_MEGABYTES, f"memory grew by {growth:.1f} MB at most, cache included")


async def _signed_in_another_process(key: SigningKey, count: int) -> AsyncIterator[list[str]]:
    """Batches of tokens; the next one is signed while this one is used."""
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), take_what_is_left) as pool:
        batches = [loop.run_in_executor(pool, signed, key.kid, pem, first) for first in range(0, 2 * BATCH, BATCH)]
        for first in range(0, count, BATCH):
            yield await batches.pop(0)
            batches.append(loop.run_in_executor(pool, signed, key.kid, pem, first + 2 * BATCH))


def signed(kid: str, pem: bytes, first: int) -> list[str]:
    """A batch of tokens; runs in a process of its own."""
    private = load_pem_private_key(pem, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    key = SigningKey(kid, "ES256", private)
    return [mint(key, f"user-{number:07}") for number in range(first, first + BATCH)]


async def _verdicts(channel: CheckChannel, tokens: Sequence[str]) -> Counter[str]:
    """Ask with each token once, a few at a time."""
    verdicts, free = Counter[str](), asyncio.Semaphore(FEW_AT_ONCE)

    def done(verdict: str) -> None:
        verdicts[verdict] += 1
        free.release()

    for token in tokens:
        await free.acquire()
        channel.ask(check_message(token), done)
    for _ in range(FEW_AT_ONCE):
        await free.acquire()
    return verdicts
