"""The admin port tells the state of the process, to anybody who asks, and takes nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession

from authz_service.config import Address
from authz_service.errors import ConfigurationError
from authz_service.observability.admin import AdminServer


class Subject:
    ready = False

    def status(self) -> dict[str, Any]:
        return {"ready": self.ready}

    def metrics_page(self) -> bytes:
        return b"authz_up 1\n"


@asynccontextmanager
async def admin_port(subject: Subject) -> AsyncIterator[str]:
    server = AdminServer(subject, Address("127.0.0.1", 0))
    address = await server.start()
    try:
        yield f"http://{address}"
    finally:
        await server.stop()


async def test_alive_is_not_yet_ready() -> None:
    subject = Subject()
    async with admin_port(subject) as url, ClientSession() as session:
        assert (await session.get(f"{url}/healthz")).status == 200
        assert (await session.get(f"{url}/readyz")).status == 503
        subject.ready = True
        assert (await session.get(f"{url}/readyz")).status == 200


async def test_status_is_json_and_metrics_are_what_prometheus_expects() -> None:
    async with admin_port(Subject()) as url, ClientSession() as session:
        assert await (await session.get(f"{url}/status")).json() == {"ready": False}
        metrics = await session.get(f"{url}/metrics")
        assert metrics.headers["Content-Type"].startswith("text/plain")
        assert await metrics.text() == "authz_up 1\n"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_nothing_can_be_changed_here(method: str) -> None:
    async with admin_port(Subject()) as url, ClientSession() as session:
        assert (await session.request(method, f"{url}/status")).status == 405


async def test_a_port_that_is_taken_is_said_in_words() -> None:
    async with admin_port(Subject()) as url:
        taken = AdminServer(Subject(), Address.parse(url.removeprefix("http://")))
        with pytest.raises(ConfigurationError, match=r"AUTHZ_ADMIN_LISTEN: cannot listen on 127\.0\.0\.1"):
            await taken.start()
        await taken.stop()
