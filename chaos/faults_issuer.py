"""The issuer is down, slow, flapping, moved, or somebody tries to make us hammer it."""

import asyncio
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from chaos import flood
from chaos.clock import Clock
from chaos.compare import compare, on_one_core
from chaos.record import ALLOWED, Record, constant_rate
from chaos.sidecar import in_namespace
from chaos.stage import Alone, alone, metric, serving, status_code, until, until_verdict
from chaos.table import Report, row
from chaos.tokens import forged_with_unknown_kids, in_turn, mint, mint_many
from tests.support.issuer import Behaviour, Drip, Reset, Serve, SlowHead, Status, issuer
from tests.support.tokens import jwks, signing_key

HOUR = 3600.0
LOAD_PER_SECOND = 400.0


@row(
    "issuer down at start, then back",
    "port up, public routes work, 503 `keys_unavailable` and never 401, health NOT_SERVING; SERVING within 1 s of a "
    "good fetch",
    quick=True,
)
async def issuer_down_at_start(report: Report) -> None:
    async with issuer(jwks(signing_key())) as auth_api:
        url, token = auth_api.url, mint()
        await auth_api.stop()
        async with alone({"AUTH_API_JWKS_URL": url, "JWKS_REFRESH_INTERVAL_SECONDS": "1"}, ready=False) as stage:
            verdicts = {await stage.ask(token) for _ in range(20)}
            report.hold(verdicts == {"keys_unavailable"}, f"20 requests with a token: {', '.join(sorted(verdicts))}")
            public = await stage.ask(None, "/healthz")
            report.hold(public == ALLOWED, f"public route: {public}")
            report.hold(not await serving(stage.authz), "health NOT_SERVING")
            report.hold(await status_code(f"{stage.authz.admin_url}/readyz") == 503, "readyz 503")
            await auth_api.start()
            await auth_api.until_requests(1)
            seconds = await until(lambda: serving(stage.authz))
            report.hold(seconds < 1, f"SERVING {seconds * 1000:.0f} ms after the first good answer")
            report.hold(await stage.ask(token) == ALLOWED, "then allowed")


@row("issuer down, attempts counted", "attempts back off, doubling to the cap; one at a time")
async def issuer_backoff(report: Report) -> None:
    async with alone({"JWKS_REFRESH_INTERVAL_SECONDS": "4"}, ready=False) as stage:
        await stage.authz.until_ready()
        stage.issuer.behave(Status(503))
        came: list[float] = []
        for number in range(2, 9):
            await stage.issuer.until_requests(number)
            came.append(time.monotonic())
        gaps = [later - sooner for sooner, later in pairwise(came)]
        report.hold(max(gaps) <= 4.2, f"gaps {', '.join(f'{gap:.1f}' for gap in gaps)} s with a cap of 4 s")
        report.hold(max(gaps[-2:]) > gaps[0], "growing")
        report.hold(stage.issuer.most_at_once == 1, f"at most {stage.issuer.most_at_once} attempt at once")


@row(
    "issuer down for a day (clocks of the process moved)",
    "0 false denials, no added latency; after `JWKS_MAX_STALE_SECONDS` 503, never 401; well within 1 s of a good fetch",
)
async def issuer_down_for_a_day(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        clock = Clock(Path(directory))
        every_second = {"JWKS_REFRESH_INTERVAL_SECONDS": "1"}
        async with alone({**clock.environ, **every_second}) as stage, alone(every_second) as beside:
            with on_one_core(stage, beside):
                await _serve_for_a_day(stage, beside, clock, report)
            await _outlast(stage, clock, report)


OUTAGE_HOURS = (0.0, 0.5, 6.0, 12.0, 18.0, 23.9)


async def _outlast(stage: Alone, clock: Clock, report: Report) -> None:
    age = float((await stage.authz.status())["keys"]["age_seconds"])
    report.hold(23.8 * HOUR < age < 24 * HOUR, f"the service says that its keys are {age / HOUR:.1f} h old")
    clock.move(24.1 * HOUR, "wall", "monotonic")
    late = mint(issued=24.1 * HOUR - 60)
    verdict = await stage.ask(late)
    report.hold(verdict == "keys_unavailable", f"after 24.1 h: {verdict}")
    requests = len(stage.issuer.requests)
    await stage.issuer.start()
    await stage.issuer.until_requests(requests + 1)
    seconds = await until_verdict(stage, late, ALLOWED)
    report.hold(seconds < 1, f"allowed {seconds * 1000:.0f} ms after the first good answer")


async def _serve_for_a_day(stage: Alone, beside: Alone, clock: Clock, report: Report) -> None:
    """Two seconds of load at each of these hours, and on a service whose issuer is up at the same time."""
    normal, outage = (Record(), Record()), (Record(), Record())
    async with stage.channel() as channel, beside.channel() as other:

        async def both(records: tuple[Record, Record], issued: float) -> None:
            await asyncio.gather(*(
                constant_rate(each.ask, in_turn([mint(issued=at - 60)]), LOAD_PER_SECOND, 2.0, record)
                for each, at, record in zip((channel, other), (issued, 0.0), records, strict=True)
            ))  # fmt: skip

        for _ in OUTAGE_HOURS:
            await both(normal, 0.0)
        await stage.issuer.stop()
        for hours in OUTAGE_HOURS:
            clock.move(hours * HOUR, "wall", "monotonic")
            await both(outage, hours * HOUR)
    report.hold(normal[0].failed + outage[0].failed == 0, f"over 23.9 h without an issuer {outage[0].failures}")
    before, then = (mine.percentile(50) / others.percentile(50) for mine, others in (normal, outage))
    p50 = outage[0].percentile(50) * 1000
    report.hold(then <= 1.1 * before, f"p50 {p50:.2f} ms in the outage, {then / before:.2f} x normal")


@row(
    "issuer slow, dripping, flapping 50 %",
    "p99 of decisions within 10 % of normal; 0 failed; at most one fetch in flight",
)
async def issuer_slow(report: Report) -> None:
    environ = {"JWKS_REFRESH_INTERVAL_SECONDS": "1", "JWKS_FETCH_TIMEOUT_SECONDS": "1"}
    faults: dict[str, Callable[[Alone], None]] = {
        "slow": lambda stage: _behave(stage, SlowHead(60)),
        "dripping": lambda stage: _behave(stage, Drip()),
        "flapping": lambda stage: _behave(stage, *FLAPPING),
    }
    async with alone(environ) as stage, alone(environ) as beside:
        with on_one_core(stage, beside):
            await compare(stage, beside, faults, lambda: _behave(stage, Serve()), report)
        at_once = stage.issuer.most_at_once
        report.hold(at_once == 1, f"at most {at_once} fetch in flight, {len(stage.issuer.requests)} in all")


FLAPPING = (Status(503), Serve(), Reset(), Serve(), Status(500), Serve(), Reset(mid_body=True), Serve()) * 50


def _behave(stage: Alone, *behaviours: Behaviour) -> None:
    if len(behaviours) == 1:
        stage.issuer.behave(behaviours[0])
    else:
        stage.issuer.behave().behave_next(*behaviours)


@row(
    "DNS gone, issuer's address changed",
    "p99 of decisions within 10 % of normal, 0 failed; the new address is used at the next fetch",
)
async def issuer_dns(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        hosts, resolver = Path(directory, "hosts"), Path(directory, "resolv.conf")
        resolver.write_text("nameserver 127.0.0.66\noptions timeout:1 attempts:1\n", encoding="ascii")  # nobody there
        _point(hosts, "127.0.0.7")
        mounts = (f"mount --bind {hosts} /etc/hosts", f"mount --bind {resolver} /etc/resolv.conf")
        async with issuer(jwks(signing_key()), host="127.0.0.7") as first:
            port = int(first.origin.rpartition(":")[2])
            every_second = {"JWKS_REFRESH_INTERVAL_SECONDS": "1"}
            named = {"AUTH_API_JWKS_URL": f"http://auth-api.test:{port}/", **every_second}
            async with alone(named, wrapper=in_namespace(*mounts)) as stage, alone(every_second) as beside:
                await _lose_names(stage, beside, hosts, report)
                failures = await metric(stage.authz, 'jwks_refresh_failures_total{cause="dns"}')
                report.hold(failures > 0, f"{failures:.0f} fetches failed for want of an address")
                await _move_house(stage, hosts, port, report)


async def _lose_names(stage: Alone, beside: Alone, hosts: Path, report: Report) -> None:
    faults: dict[str, Callable[[Alone], None]] = {"no DNS": lambda _stage: _point(hosts, None)}
    with on_one_core(stage, beside):
        await compare(stage, beside, faults, lambda: _point(hosts, "127.0.0.7"), report)


async def _move_house(stage: Alone, hosts: Path, port: int, report: Report) -> None:
    async with issuer(jwks(signing_key(), signing_key("key-2"))) as elsewhere:
        await elsewhere.stop()
        elsewhere._host, elsewhere._port = "127.0.0.8", port  # noqa: SLF001 - the same port at another address
        await elsewhere.start()
        _point(hosts, "127.0.0.8")
        await elsewhere.until_requests(1)
        seconds = await until_verdict(stage, mint(signing_key("key-2")), ALLOWED)
        report.hold(seconds < 1, f"a key of the new address works {seconds * 1000:.0f} ms after its first answer")


def _point(hosts: Path, address: str | None) -> None:
    """Rewrite in place: the file itself is mounted."""
    hosts.write_text("127.0.0.1 localhost\n" + (f"{address} auth-api.test\n" if address else ""), encoding="ascii")


@row(
    "10,000 distinct unknown key ids a second for a minute",
    "at most 3 fetches; valid traffic's p99 at most doubled, 0 failed; memory flat",
)
async def unknown_kids(report: Report) -> None:
    async with alone() as stage:
        with on_one_core(stage):
            await _flood(report, stage, seconds=60, per_second=10_000)


@row("a burst of distinct unknown key ids", "one fetch; valid traffic goes on; every forged token refused", quick=True)
async def unknown_kids_burst(report: Report) -> None:
    async with alone() as stage, stage.channel() as channel:
        before = len(stage.issuer.requests)
        forged = await constant_rate(channel.ask, forged_with_unknown_kids(), 500, 0.5)
        valid = await constant_rate(channel.ask, in_turn(mint_many(count=5)), 100, 0.2)
        report.hold(set(forged.verdicts) == {"key_not_found"}, f"{forged.asked} forged: {dict(forged.verdicts)}")
        report.hold(valid.failed == 0, f"valid: {valid.failures}")
        fetches = len(stage.issuer.requests) - before
        report.hold(fetches <= 1, f"{fetches} fetch")


async def _flood(report: Report, stage: Alone, seconds: float, per_second: float) -> None:
    measured = seconds * 5 / 6
    async with stage.channel() as channel:
        fetches, messages = len(stage.issuer.requests), in_turn(mint_many(count=50))
        normal = await constant_rate(channel.ask, messages, LOAD_PER_SECOND, measured / 2)
        async with flood.flooding(stage.authz.address, per_second, seconds) as flooded:
            warm = await constant_rate(channel.ask, messages, LOAD_PER_SECOND, seconds - measured)
            memory, worked = stage.authz.rss_bytes(), stage.authz.cpu_seconds()
            record = await constant_rate(channel.ask, messages, LOAD_PER_SECOND, measured)
            growth = (stage.authz.rss_bytes() - memory) / 2**20
            worked = stage.authz.cpu_seconds() - worked
            sent = await flooded
        after = await constant_rate(channel.ask, messages, LOAD_PER_SECOND, measured / 2)
    report.show(f"the service was busy for {worked / measured:.0%} of the time")
    _judge_flood(report, sent, growth, len(stage.issuer.requests) - fetches)
    records = (normal, warm, record, after)
    failed = sum(each.failed for each in records)
    report.hold(failed == 0, f"valid: {failed} of {sum(each.asked for each in records)} failed")
    _judge_slowdown(report, normal, record, after)


def _judge_slowdown(report: Report, before: Record, under: Record, after: Record) -> None:
    """Held against what it was before, and against as many requests on both sides: the machine does not keep still."""
    without = Record()
    without.outcomes = before.outcomes + after.outcomes
    normal, first, last, flooded = (each.percentile(99) * 1000 for each in (without, before, after, under))
    told = f"their p99 {normal:.2f} ms without it ({first:.2f} before, {last:.2f} after), {flooded:.2f} ms under it"
    report.hold(flooded <= 2 * min(normal, first), told)


def _judge_flood(report: Report, sent: flood.Sent, growth: float, fetches: int) -> None:
    rate = f"{sent.answered / sent.seconds:,.0f} a second answered ({sent.answered:,}; wanted {sent.wanted:,})"
    report.hold(sent.answered >= 0.99 * sent.wanted, rate)
    report.hold(set(sent.verdicts) <= {"key_not_found", "overloaded"}, f"verdicts {sent.verdicts}")
    report.hold(fetches <= 3, f"{fetches} fetches")
    report.hold(growth < 8, f"memory grew by {growth:.1f} MB after the first ten seconds")
