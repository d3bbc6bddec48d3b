"""Endpoints, Envoy and the machine around the process go away or run out."""

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from fcntl import F_SETPIPE_SZ, fcntl
from itertools import cycle
from pathlib import Path

from chaos.grpc_client import ask_once
from chaos.http_client import get_request
from chaos.record import ALLOWED, Record, constant_rate
from chaos.sidecar import in_namespace, limited
from chaos.stage import Alone, BehindEnvoy, alone, behind_envoy, status_code, until, until_healthy, until_verdict
from chaos.table import Report, row
from chaos.tokens import PATH, check_message, in_turn, mint, mint_many
from demo.envoy_bootstrap import load, with_endpoints
from tests.support.envoy import run_envoy
from tests.support.tokens import jwks, signing_key

THROUGH_ENVOY_PER_SECOND = 500.0
AS_BEFORE_SECONDS = 2.5
"""Two health checks: only then does Envoy rely on an endpoint that has come back, and the fault is one at a time."""
LOAD_PER_SECOND = 200.0
EXIT_SECONDS = 10.0


@row(
    "SIGTERM under load with a second endpoint",
    "0 failed of at least 30,000 requests through the shipped Envoy configuration; exit within 10 s",
)
async def sigterm(report: Report) -> None:
    await _restart_in_turn(report, signal.SIGTERM, at_least=30_000)


@row("`kill -9` of one of two", "0 failed through the shipped Envoy configuration")
async def kill_9(report: Report) -> None:
    await _restart_in_turn(report, signal.SIGKILL, at_least=30_000)


@row("SIGTERM with a request under way and a second endpoint", "0 failed; exit code 0 within 10 s", quick=True)
async def sigterm_once(report: Report) -> None:
    async with behind_envoy(count=2) as stage:
        requests = asyncio.create_task(_load(stage, 100.0, 4.0))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        code = await stage.endpoints[0].stop(signal.SIGTERM)
        seconds = time.monotonic() - started
        report.hold(code == 0 and seconds < EXIT_SECONDS, f"exit code {code} after {seconds:.1f} s")
        record = await requests
        report.hold(record.failed == 0, record.failures)


async def _restart_in_turn(report: Report, number: signal.Signals, at_least: int) -> None:
    """One endpoint after the other is ended and started again, until enough requests have passed."""
    async with behind_envoy(count=2) as stage:
        requests = asyncio.create_task(_load(stage, THROUGH_ENVOY_PER_SECOND, at_least / THROUGH_ENVOY_PER_SECOND + 1))
        exits: list[float] = []
        while not requests.done():
            endpoint = stage.endpoints[len(exits) % 2]
            started = time.monotonic()
            await endpoint.stop(number)
            exits.append(time.monotonic() - started)
            await asyncio.sleep(0.5)
            await endpoint.start()
            await endpoint.until_ready()
            await asyncio.sleep(AS_BEFORE_SECONDS)
            await until_healthy(stage.envoy, 2)
        record = await requests
        report.hold(record.failed == 0, record.failures)
        report.hold(record.asked >= at_least, f"{record.asked:,} requests at {THROUGH_ENVOY_PER_SECOND:.0f} a second")
        slowest = max(exits)
        report.hold(slowest < EXIT_SECONDS, f"{len(exits)} times {number.name}, exit after at most {slowest:.1f} s")
        report.show(f"p50 {record.percentile(50) * 1000:.1f} ms, p99 {record.percentile(99) * 1000:.1f} ms")
        again = await asyncio.to_thread(stage.envoy.stats, "cluster.authz.upstream_rq_retry")
        report.show(f"Envoy asked {again} times again")


async def _load(stage: BehindEnvoy, per_second: float, seconds: float) -> Record:
    messages: Iterator[bytes] = cycle([get_request(PATH, token) for token in mint_many(count=50)])
    return await constant_rate(stage.pool.ask, messages, per_second, seconds)


@row("Envoy restarts, 1,000 reconnects", "file descriptors back to where they were within 5 s; memory within 8 MB")
async def reconnects(report: Report) -> None:
    async with alone() as stage:
        await _reconnect(stage, 50)
        await asyncio.sleep(0.5)
        before, memory = stage.authz.descriptors(), stage.authz.rss_bytes()
        verdicts = await _reconnect(stage, 1000)
        report.hold(verdicts == {ALLOWED}, f"1,000 connections, each with a request: {', '.join(verdicts)}")
        await _restart_envoy(stage, 3)
        report.show("3 real Envoys came and went")

        async def back() -> bool:
            return stage.authz.descriptors() <= before

        try:
            seconds = await until(back, 5)
            report.hold(True, f"descriptors {before} before, {stage.authz.descriptors()} after {seconds:.1f} s")  # noqa: FBT003
        except TimeoutError:
            report.hold(False, f"descriptors {before} before, {stage.authz.descriptors()} after 5 s")  # noqa: FBT003
        growth = (stage.authz.rss_bytes() - memory) / 2**20
        report.hold(growth < 8, f"memory grew by {growth:.1f} MB")


async def _reconnect(stage: Alone, times: int) -> set[str]:
    message, verdicts = check_message(mint()), set()
    for _ in range(times):
        verdicts.add(await ask_once(stage.authz.address, message))
    return verdicts


async def _restart_envoy(stage: Alone, times: int) -> None:
    bootstrap = with_endpoints(load(), listener_port=0, authz=[stage.authz.address], chat_api_port=9, admin_port=0)
    for _ in range(times):
        async with run_envoy(bootstrap) as envoy:
            await until_healthy(envoy, 1)


@row("log closed by its reader", "decisions go on, 0 failed", quick=True)
async def log_closed(report: Report) -> None:
    reader, writer = os.pipe()
    async with alone(output=writer) as stage:
        os.close(writer)
        os.close(reader)
        await _decide_while_logging(stage, report)


@row("log is a full pipe that nobody reads", "decisions go on, 0 failed", quick=True)
async def log_pipe_full(report: Report) -> None:
    reader, writer = os.pipe()
    fcntl(writer, F_SETPIPE_SZ, 4096)
    try:
        async with alone(output=writer) as stage:
            os.close(writer)
            await _decide_while_logging(stage, report)
    finally:
        os.close(reader)


@row("log and snapshot on a full disk", "decisions and refreshes go on, 0 failed", quick=True)
async def disk_full(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory, Path("/dev/full").open("wb") as full:
        fill = f"mount -t tmpfs -o size=4k none {directory} && head -c 4096 /dev/zero > {directory}/full"
        environ = {"JWKS_SNAPSHOT_PATH": f"{directory}/keys.json"}
        async with alone(environ, output=full, wrapper=in_namespace(fill)) as stage:
            await _decide_while_logging(stage, report)
            stage.issuer.document = jwks(signing_key("key-2"))
            stage.authz.send(signal.SIGHUP)
            seconds = await until_verdict(stage, mint(signing_key("key-2")), ALLOWED, 5)
            report.hold(seconds < 1, f"a new key is in use {seconds * 1000:.0f} ms after SIGHUP")


async def _decide_while_logging(stage: Alone, report: Report) -> None:
    """Each SIGHUP is a line or two of log; together more than any buffer in between holds."""
    async with stage.channel() as channel:
        requests = asyncio.create_task(constant_rate(channel.ask, in_turn(mint_many(count=5)), LOAD_PER_SECOND, 1.2))
        hurries = 0
        while not requests.done() and hurries < 200:
            stage.authz.send(signal.SIGHUP)
            hurries += 1
            await asyncio.sleep(0.004)
        record = await requests
    report.hold(record.failed == 0, record.failures)
    report.show(f"{hurries} SIGHUPs logged meanwhile")


@row(
    "`ulimit -n 64`, and 200 connections",
    "requests of the connections that stand go on, 0 failed; new ones are served once there is room",
    quick=True,
)
async def descriptors_used_up(report: Report) -> None:
    async with alone(wrapper=limited("-n 64")) as stage, stage.channel() as channel, AsyncExitStack() as stack:
        messages = in_turn(mint_many(count=5))
        await constant_rate(channel.ask, messages, LOAD_PER_SECOND, 0.1)
        for _ in range(200):
            with suppress(OSError):
                _, writer = await asyncio.open_unix_connection(stage.authz.address.path)
                stack.callback(writer.close)
        report.show(f"{stage.authz.descriptors()} descriptors open")
        record = await constant_rate(channel.ask, messages, LOAD_PER_SECOND, 1.0)
        report.hold(record.failed == 0, record.failures)
        await stack.aclose()
        seconds = await until_verdict(stage, mint(), ALLOWED, 10)
        report.hold(stage.authz.running, f"a new connection is served {seconds * 1000:.0f} ms after the others closed")


@row(
    "admin port abused",
    "decisions go on, 0 failed; the port answers again afterwards; memory within 32 MB",
    quick=True,
)
async def admin_abused(report: Report) -> None:
    async with alone() as stage, stage.channel() as channel:
        memory = stage.authz.rss_bytes()
        requests = asyncio.create_task(constant_rate(channel.ask, in_turn(mint_many(count=5)), LOAD_PER_SECOND, 1.5))
        async with AsyncExitStack() as stack:
            for octets in ABUSE * 50:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", stage.authz.admin_port)
                    stack.callback(writer.close)
                    writer.write(octets)
            record = await requests
            report.show(f"{stage.authz.descriptors()} descriptors open meanwhile")
        report.hold(record.failed == 0, f"{record.failures}; p99 {record.percentile(99) * 1000:.1f} ms")
        report.hold(await status_code(f"{stage.authz.admin_url}/readyz") == 200, "readyz 200 afterwards")
        growth = (stage.authz.rss_bytes() - memory) / 2**20
        report.hold(growth < 32, f"memory grew by {growth:.1f} MB")


ABUSE = (
    b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n" * 5,      # pipelined, and never read
    b"GET /status HT",                                     # never finished
    b"POST /metrics HTTP/1.1\r\nhost: a\r\ncontent-length: 9000000000\r\n\r\n" + b"x" * 100_000,
    b"GET / HTTP/1.1\r\n" + b"x-a: " + b"a" * 200_000,     # one endless header
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" * 20,  # TLS where there is none
    b"GET /metrics HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nfffffffff\r\n",
)
