"""The admin port: ``/``, ``/status``, ``/metrics``, ``/healthz``, ``/readyz``. Read-only; it takes no input at all.

It shares its process with decisions, so there is a bound to all that it does: how many connections there are, how long
each lasts, how often somebody is answered, and how much of the time pages are made.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from authz_service.address import Address
from authz_service.errors import ConfigurationError
from authz_service.http_library import Handler, Middleware, web
from authz_service.observability import page
from authz_service.observability.metrics import CONTENT_TYPE
from authz_service.observability.paced import SharedPage, Turnstile

CONNECTION_SECONDS = 10.0
"""For one connection, which carries one request: a client that sends or reads slowly is let go."""
MAX_CONNECTIONS = 64
SECONDS_BETWEEN_ANSWERS = 0.005
STOP_SECONDS = 1.0

SEALED = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On each answer: it is for whoever asked, now, and nothing that another site's page may make use of."""


class Subject(Protocol):
    """What the admin port tells about."""

    @property
    def ready(self) -> bool: ...  # noqa: D102
    def status(self) -> dict[str, Any]: ...  # noqa: D102
    def metrics_page(self) -> bytes: ...  # noqa: D102


async def _up_to_date() -> None:
    """One process always is."""


class AdminServer:
    """Serves a subject's state over HTTP.

    :param update: awaited before figures are shown.
    :param connection_seconds: see ``CONNECTION_SECONDS``.
    """

    def __init__(
        self, subject: Subject, address: Address, update: Callable[[], Awaitable[None]] = _up_to_date,
        *, connection_seconds: float = CONNECTION_SECONDS,
    ) -> None:  # fmt: skip
        self._subject = subject
        self._update = update
        self._address = address
        self._connection_seconds = connection_seconds
        self._metrics = SharedPage(self._make_metrics)
        self._status = SharedPage(self._make_status)
        self._runner = _runner(self._routes())
        self._listener: asyncio.Server | None = None
        self._letting_go: asyncio.Task[None] | None = None

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._show_page), web.get("/healthz", self._show_health),
            web.get("/readyz", self._show_readiness), web.get("/metrics", self._show_metrics),
            web.get("/status", self._show_status),
        ]  # fmt: skip

    async def start(self) -> Address:
        """Listen; :returns: the address, with the port that the system chose for port 0."""
        await self._runner.setup()
        address = self._address
        try:
            self._listener = await self._listen(address)
        except OSError as error:
            message = f"AUTHZ_ADMIN_LISTEN: cannot listen on {address}: {error.strerror or error}"
            raise ConfigurationError([message]) from None
        self._letting_go = asyncio.create_task(self._let_go())
        return address if address.path else address._replace(port=self._listener.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port; whoever is not answered by now is not waited for long."""
        if self._listener is not None:
            self._listener.close()
        if self._letting_go is not None:
            self._letting_go.cancel()
            await asyncio.gather(self._letting_go, return_exceptions=True)
        await self._runner.cleanup()

    async def _listen(self, address: Address) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        if address.path:
            return await loop.create_unix_server(self._accept, address.path)
        return await loop.create_server(self._accept, address.host, address.port)

    def _accept(self) -> asyncio.Protocol:
        server = _server(self._runner)
        return server() if len(server.connections) < MAX_CONNECTIONS else _Refusal()

    async def _let_go(self) -> None:
        """End connections that have had their time, whatever they are doing."""
        loop = asyncio.get_running_loop()
        since: dict[web.RequestHandler, float] = {}
        while True:
            now = loop.time()
            since = {connection: since.get(connection, now) for connection in _server(self._runner).connections}
            for connection, began in since.items():
                if now - began >= self._connection_seconds and connection.transport is not None:
                    _abort(connection.transport)  # close() would first wait until all is read
            await asyncio.sleep(self._connection_seconds / 10)

    async def _show_page(self, _request: web.Request) -> web.Response:
        return web.Response(text=page.PAGE, content_type="text/html", headers=page.HEADERS)

    async def _show_health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _show_readiness(self, _request: web.Request) -> web.Response:
        if self._subject.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready: no usable keys, or no worker that answers; see /status\n")

    async def _show_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._metrics.get(), headers={"Content-Type": CONTENT_TYPE})

    async def _show_status(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self._status.get(), content_type="application/json", charset="utf-8")

    async def _make_metrics(self) -> bytes:
        await self._update()
        return self._subject.metrics_page()

    async def _make_status(self) -> bytes:
        await self._update()
        return json.dumps(self._subject.status(), indent=2).encode() + b"\n"


class _Refusal(asyncio.Protocol):
    """For a connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _abort(transport)


def _abort(transport: asyncio.BaseTransport) -> None:
    cast("asyncio.Transport", transport).abort()  # a stream's, but uvloop has a class of its own


def _runner(routes: list[web.RouteDef]) -> web.AppRunner:
    app = web.Application(client_max_size=1024, middlewares=[_in_turn(Turnstile(SECONDS_BETWEEN_ANSWERS))])
    app.router.add_routes(routes)
    return web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=STOP_SECONDS, lingering_time=STOP_SECONDS
    )


def _server(runner: web.AppRunner) -> web.Server:
    if runner.server is None:
        raise RuntimeError("set up the runner first")
    return runner.server


def _in_turn(turnstile: Turnstile) -> Middleware:
    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        await turnstile.enter()
        try:
            return _sealed(await handler(request))
        except web.HTTPException as refusal:
            _sealed(refusal)
            raise

    return answer


def _sealed(response: web.StreamResponse) -> web.StreamResponse:
    """The last one on its connection, and to be used by nobody else."""
    response.force_close()
    response.headers.update(SEALED)
    return response
