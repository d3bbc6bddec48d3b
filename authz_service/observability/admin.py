"""The admin port: ``/healthz``, ``/readyz``, ``/metrics``, ``/status``. Read-only; it takes no input at all."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiohttp import web

from authz_service.config import Address
from authz_service.errors import ConfigurationError
from authz_service.observability.metrics import CONTENT_TYPE


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
    """

    def __init__(
        self, subject: Subject, address: Address, update: Callable[[], Awaitable[None]] = _up_to_date
    ) -> None:
        self._subject = subject
        self._update = update
        self._address = address
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/status", self._status)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)

    async def start(self) -> Address:
        """Listen; :returns: the address, with the port that the system chose for port 0."""
        await self._runner.setup()
        address = self._address
        site: web.BaseSite = (
            web.UnixSite(self._runner, address.path) if address.path else web.TCPSite(self._runner, *address[:2])
        )
        try:
            await site.start()
        except OSError as error:
            message = f"AUTHZ_ADMIN_LISTEN: cannot listen on {address}: {error.strerror or error}"
            raise ConfigurationError([message]) from None
        return address if address.path else address._replace(port=self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port."""
        await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        if self._subject.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready: no usable keys, or no worker that answers; see /status\n")

    async def _metrics(self, _request: web.Request) -> web.Response:
        await self._update()
        return web.Response(body=self._subject.metrics_page(), headers={"Content-Type": CONTENT_TYPE})

    async def _status(self, _request: web.Request) -> web.Response:
        await self._update()
        return web.Response(text=json.dumps(self._subject.status(), indent=2) + "\n", content_type="application/json")
