"""Every part of the demo, started in order and ended in the opposite one."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from authz_service.address import Address
from authz_service.config import OWN_PREFIXES, SHARED_PREFIXES
from demo.auth_api import Issuer, auth_api
from demo.chat_api import ChatApi
from demo.children import Child, DemoFailed
from demo.envoy_bootstrap import ENVOY, load, with_endpoints
from demo.ports import LOOPBACK, Ports

POLICY = Path(__file__).with_name("policy.yaml")
FOREIGN_PREFIXES = (*OWN_PREFIXES, *SHARED_PREFIXES)
"""What the person's own environment says about an authorizer is not meant for this one."""


class Stage(NamedTuple):
    """What runs."""

    ports: Ports
    issuer: Issuer
    chat_api: ChatApi
    children: tuple[Child, ...]
    logs: Path | None
    """The directory with the children's logs; None when they go to standard error."""

    @property
    def url(self) -> str:
        """Where Envoy answers."""
        return _url(self.ports.envoy)


@asynccontextmanager
async def stage(ports: Ports, *, verbose: bool) -> AsyncIterator[Stage]:
    """Start all parts; :raises DemoFailed: when one does not start. They need a moment more to answer."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authz-demo-")))
        issuer = Issuer(_url(ports.auth_api))
        chat = ChatApi()
        await _serve(stack, auth_api(issuer), "auth-api", ports.auth_api)
        await _serve(stack, chat.app(), "chat-api", ports.chat_api)
        logs = None if verbose else directory
        authz = await _authz(ports, issuer, logs)
        stack.push_async_callback(authz.stop)
        envoy = await _envoy(ports, directory, logs)
        stack.push_async_callback(envoy.stop)
        yield Stage(ports, issuer, chat, (authz, envoy), logs)


async def _serve(stack: AsyncExitStack, app: web.Application, name: str, port: int) -> None:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
    except OSError as error:
        raise DemoFailed(f"{name} cannot listen on port {port}: {error.strerror or error}") from None


async def _authz(ports: Ports, issuer: Issuer, logs: Path | None) -> Child:
    command = [sys.executable, "-m", "authz_service", "serve", "--reflection"]
    environ = _authz_environ(os.environ, ports, issuer)
    # SIGTERM would drain first, for seconds; nobody is served here who would notice.
    log = logs / "authz-service.log" if logs else None
    return await Child.start("authz-service", command, log=log, environ=environ, stop_signal=signal.SIGINT)


def _authz_environ(environ: Mapping[str, str], ports: Ports, issuer: Issuer) -> dict[str, str]:
    inherited = {name: value for name, value in environ.items() if not name.startswith(FOREIGN_PREFIXES)}
    return inherited | {
        "AUTH_API_ISSUER": issuer.url,
        "AUTH_API_JWKS_URL": f"{issuer.url}/.well-known/jwks.json",
        "AUTHZ_POLICY_FILE": str(POLICY),
        "AUTHZ_LISTEN": f"{LOOPBACK}:{ports.authz}",
        "AUTHZ_ADMIN_LISTEN": f"{LOOPBACK}:{ports.authz_admin}",
        "AUTHZ_LOG_FORMAT": "text",
        "AUTHZ_TRANSPORT": "grpcio",  # which offers reflection
        "JWKS_UNKNOWN_KID_COOLDOWN_SECONDS": "1",  # so that rotating again and again shows the same
    }


async def _envoy(ports: Ports, directory: Path, logs: Path | None) -> Child:
    authz = [Address(LOOPBACK, ports.authz)]
    bootstrap = with_endpoints(
        load(), listener_port=ports.envoy, authz=authz, chat_api_port=ports.chat_api, admin_port=ports.envoy_admin
    )
    config = directory / "envoy.json"
    config.write_text(json.dumps(bootstrap), encoding="utf-8")
    command: list[str | Path] = [
        ENVOY, "--config-path", config, "--use-dynamic-base-id", "--concurrency", "1",
        "--log-level", "warning", "--file-flush-interval-msec", "200",
    ]  # fmt: skip
    return await Child.start("envoy", command, log=logs / "envoy.log" if logs else None)


def _url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}"
