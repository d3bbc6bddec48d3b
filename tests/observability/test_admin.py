"""The admin port tells the state of the process, to anybody who asks, and takes nothing."""

import asyncio
import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, UnixConnector

from authz_service.address import Address
from authz_service.errors import ConfigurationError
from authz_service.observability.admin import MAX_CONNECTIONS, AdminServer
from tests.support.ports import has_ipv6

PATIENCE_SECONDS = 60.0


class Subject:
    ready = False

    def __init__(self, metrics_page: bytes = b"authz_up 1\n") -> None:
        self._metrics_page = metrics_page

    def status(self) -> dict[str, Any]:
        return {"ready": self.ready}

    def metrics_page(self) -> bytes:
        return self._metrics_page


@asynccontextmanager
async def admin_port(subject: Subject, connection_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[str]:
    server = AdminServer(subject, Address("127.0.0.1", 0), connection_seconds=connection_seconds)
    address = await server.start()
    try:
        yield f"http://{address}"
    finally:
        await server.stop()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = Address.parse(url.removeprefix("http://"))
    return await asyncio.open_connection(address.host, address.port)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    """All that comes, until the other side ends the connection."""
    received = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        try:
            while octets := await reader.read(65536):
                received += octets
        except ConnectionError:
            pass
    return received


async def test_alive_is_not_yet_ready() -> None:
    subject = Subject()
    async with admin_port(subject) as url, ClientSession() as session:
        assert (await session.get(f"{url}/healthz")).status == 200
        assert (await session.get(f"{url}/readyz")).status == 503
        subject.ready = True
        assert (await session.get(f"{url}/readyz")).status == 200


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_the_unspecified_ipv6_address_leaves_ipv4_to_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as others:
        server = AdminServer(Subject(), Address("::", others.getsockname()[1]))
        await server.start()
        await server.stop()


async def test_status_is_json_and_metrics_are_what_prometheus_expects() -> None:
    async with admin_port(Subject()) as url, ClientSession() as session:
        assert await (await session.get(f"{url}/status")).json() == {"ready": False}
        metrics = await session.get(f"{url}/metrics")
        assert metrics.headers["Content-Type"].startswith("text/plain")
        assert await metrics.text() == "authz_up 1\n"


@pytest.mark.parametrize("path", ["/", "/status", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_nothing_can_be_changed_here(method: str, path: str) -> None:
    async with admin_port(Subject()) as url, ClientSession() as session:
        assert (await session.request(method, f"{url}{path}")).status == 405


async def test_the_page_may_run_and_fetch_only_what_is_in_it() -> None:
    async with admin_port(Subject()) as url, ClientSession() as session:
        response = await session.get(url)
        page = await response.text()
    assert response.content_type == "text/html"
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    for element in ("script", "style"):
        content = page.split(f"<{element}>")[1].split(f"</{element}>")[0]
        assert policy.pop(f"{element}-src") == f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
    assert policy == {
        "default-src": "'none'", "connect-src": "'self'", "img-src": "data:", "base-uri": "'none'",
        "form-action": "'none'", "frame-ancestors": "'none'", "require-trusted-types-for": "'script'",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/status", "/metrics", "/readyz", "/nowhere"])
async def test_no_answer_is_kept_guessed_about_or_lent_to_another_site(path: str) -> None:
    async with admin_port(Subject()) as url, ClientSession() as session:
        headers = (await session.get(f"{url}{path}")).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_a_unix_socket_serves_the_same(tmp_path: Path) -> None:
    server = AdminServer(Subject(), Address(path=str(tmp_path / "admin.sock")))
    address = await server.start()
    try:
        async with ClientSession(connector=UnixConnector(address.path)) as session:
            assert (await session.get("http://admin/healthz")).status == 200
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "octets",
    [
        b"", b"GET /status HTTP/1.1\r\nhost:", b"GET /status HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nx",
        b"POST /status HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nx",
    ],
    ids=["silent", "half a head", "half a body", "half a chunk"],
)  # fmt: skip
async def test_a_connection_that_is_half_open_is_let_go(octets: bytes) -> None:
    async with admin_port(Subject(), connection_seconds=0.1) as url:
        reader, writer = await connect(url)
        writer.write(octets)
        await until_closed(reader)
        writer.close()


async def test_a_client_that_drips_is_let_go() -> None:
    async with admin_port(Subject(), connection_seconds=0.1) as url:
        reader, writer = await connect(url)
        closed = asyncio.create_task(until_closed(reader))
        while not closed.done():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        writer.close()


async def test_a_client_that_does_not_read_is_let_go() -> None:
    server = AdminServer(Subject(b"x" * 50_000_000), Address("127.0.0.1", 0), connection_seconds=0.1)
    address = await server.start()
    try:
        with socket.create_connection((address.host, address.port)) as unread:
            unread.sendall(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
            await until_connections(server, 1)
            await until_connections(server, 0)
    finally:
        await server.stop()


async def until_connections(server: AdminServer, count: int) -> None:
    assert server._runner.server is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(server._runner.server.connections) != count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_connection_carries_one_request() -> None:
    async with admin_port(Subject()) as url:
        reader, writer = await connect(url)
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n" * 3)
        assert (await until_closed(reader)).count(b"HTTP/1.1 200 OK") == 1
        writer.close()


async def test_connections_are_bounded_and_the_rest_turned_away_until_there_is_room() -> None:
    async with admin_port(Subject()) as url:
        held = [await connect(url) for _ in range(MAX_CONNECTIONS)]
        reader, writer = await connect(url)
        assert await until_closed(reader) == b""
        for _, open_writer in (*held, (reader, writer)):
            open_writer.close()
        async with ClientSession() as session, asyncio.timeout(PATIENCE_SECONDS):
            while not await _healthy(session, url):  # noqa: ASYNC110 - as a client has it
                await asyncio.sleep(0.01)


async def _healthy(session: ClientSession, url: str) -> bool:
    try:
        return (await session.get(f"{url}/healthz")).status == 200
    except ConnectionError:
        return False


async def test_the_end_of_the_process_does_not_wait_for_who_does_not_read() -> None:
    server = AdminServer(Subject(b"x" * 50_000_000), Address("127.0.0.1", 0), connection_seconds=3600)
    address = await server.start()
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=1)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
    await reader.read(1)
    began = asyncio.get_running_loop().time()
    await server.stop()
    assert asyncio.get_running_loop().time() - began < 50, "aiohttp itself waits for a minute"
    writer.close()


async def test_a_port_that_is_taken_is_said_in_words() -> None:
    async with admin_port(Subject()) as url:
        taken = AdminServer(Subject(), Address.parse(url.removeprefix("http://")))
        with pytest.raises(ConfigurationError, match=r"AUTHZ_ADMIN_LISTEN: cannot listen on 127\.0\.0\.1"):
            await taken.start()
        await taken.stop()
