"""The parts of a row, running: the scripted issuer, the service (one or two), a real Envoy in front if wanted."""

import asyncio
import json
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import grpc
from aiohttp import ClientSession
from grpc_health.v1 import health_pb2

from chaos.grpc_client import CheckChannel, ask_once, connect
from chaos.http_client import HttpPool, chat_api
from chaos.sidecar import Output, Sidecar
from chaos.tokens import ISSUER, check_message
from demo.envoy_bootstrap import load, with_endpoints
from tests.support.envoy import RunningEnvoy, run_envoy
from tests.support.issuer import Issuer, issuer
from tests.support.tokens import jwks, signing_key

POLL_SECONDS = 0.01


class Alone(NamedTuple):
    """A service and its issuer; load goes straight to the service's socket."""

    issuer: Issuer
    authz: Sidecar

    async def ask(self, token: str | None, path: str = "/api/chat/groups") -> str:
        """The verdict on one request, on a connection of its own."""
        return await ask_once(self.authz.address, check_message(token, path))

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[CheckChannel]:
        """A connection as Envoy keeps one."""
        channel = await connect(self.authz.address)
        try:
            yield channel
        finally:
            channel.close()


class BehindEnvoy(NamedTuple):
    """The shipped Envoy configuration, with the service as one or more endpoints."""

    issuer: Issuer
    endpoints: Sequence[Sidecar]
    envoy: RunningEnvoy
    pool: HttpPool


@asynccontextmanager
async def sidecar(
    auth_api: Issuer, environ: Mapping[str, str] | None = None, *, ready: bool = True, wrapper: Sequence[str] = (),
    output: Output | None = None,
) -> AsyncIterator[Sidecar]:  # fmt: skip
    """A service of this issuer; ended at the end of the row, whatever happened. See :class:`Sidecar`."""
    settings = {"AUTH_API_ISSUER": ISSUER, "AUTH_API_JWKS_URL": auth_api.url, **(environ or {})}
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        running = Sidecar(Path(directory), settings, wrapper=wrapper, output=output)
        try:
            await running.start()
            if ready:
                await running.until_ready()
            yield running
        finally:
            if running.running:
                await running.stop(signal.SIGKILL)


@asynccontextmanager
async def alone(
    environ: Mapping[str, str] | None = None, *, document: bytes | None = None, ready: bool = True,
    wrapper: Sequence[str] = (), output: Output | None = None,
) -> AsyncIterator[Alone]:  # fmt: skip
    """A service whose issuer is up and publishes ``signing_key()``, if nothing else is said; see :class:`Sidecar`."""
    async with (
        issuer(document or jwks(signing_key())) as auth_api,
        sidecar(auth_api, environ, ready=ready, wrapper=wrapper, output=output) as authz,
    ):
        yield Alone(auth_api, authz)


@asynccontextmanager
async def behind_envoy(count: int = 1, environ: Mapping[str, str] | None = None) -> AsyncIterator[BehindEnvoy]:
    """Everything up, and every endpoint found healthy by Envoy."""
    async with AsyncExitStack() as stack:
        auth_api = await stack.enter_async_context(issuer(jwks(signing_key())))
        endpoints = [await stack.enter_async_context(sidecar(auth_api, environ)) for _ in range(count)]
        port = await stack.enter_async_context(chat_api())
        bootstrap = with_endpoints(
            load(), listener_port=0, authz=[each.address for each in endpoints], chat_api_port=port, admin_port=0
        )
        envoy = await stack.enter_async_context(run_envoy(bootstrap))
        await until_healthy(envoy, count)
        where = urlsplit(envoy.url)
        pool = HttpPool(where.hostname or "", where.port or 0)
        stack.callback(pool.close)
        yield BehindEnvoy(auth_api, endpoints, envoy, pool)


async def until_healthy(envoy: RunningEnvoy, count: int) -> None:
    """Until Envoy finds so many endpoints of the service healthy."""
    await until(lambda: asyncio.to_thread(lambda: envoy.stats("cluster.authz.membership_healthy") == count))


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> float:
    """Wait for a condition; :returns: the seconds it took. :raises TimeoutError:."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - started


async def until_verdict(stage: Alone, token: str, wanted: str, seconds: float = 20.0) -> float:
    """Ask until the verdict is this one; :returns: the seconds it took."""

    async def is_so() -> bool:
        return await stage.ask(token) == wanted

    return await until(is_so, seconds)


async def metric(authz: Sidecar, name: str) -> float:
    """One figure of ``/metrics``, by its name and labels as printed there; 0 if it is not there."""
    lines = (line for line in (await authz.metrics()).splitlines() if line.startswith(name + " "))
    return next((float(line.rpartition(" ")[2]) for line in lines), 0.0)


async def status_code(url: str) -> int:
    """What a page answers."""
    async with ClientSession() as session, session.get(url) as response:
        return response.status


def names(document: bytes) -> list[str]:
    """The key ids of a JWKS document."""
    return [key["kid"] for key in json.loads(document)["keys"]]


async def serving(authz: Sidecar) -> bool:
    """Whether ``grpc.health.v1`` says SERVING, as Envoy asks."""
    question = health_pb2.HealthCheckRequest(service="envoy.service.auth.v3.Authorization")
    async with grpc.aio.insecure_channel(f"unix:{authz.address.path}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = health_pb2.HealthCheckResponse.FromString(await call(question.SerializeToString()))
    return answer.status == health_pb2.HealthCheckResponse.SERVING
