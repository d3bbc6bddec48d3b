"""An issuer that misbehaves on demand: a real HTTP server on loopback, with a JWKS document or whatever it is told.

.. code-block:: python

    async with issuer(jwks(signing_key())) as auth_api:
        Fetcher(auth_api.url, timeout_seconds=5)
        auth_api.document = jwks(signing_key("key-2"))  # rotate
        auth_api.behave(Status(503))                    # from now on
        auth_api.behave()                               # well again
        auth_api.behave_next(Reset(), Hang())           # the next two requests, one each
        await auth_api.stop(); await auth_api.start()   # down, and back on the same port
        auth_api.requests, auth_api.most_at_once        # what it saw

Each connection carries one request. A behaviour writes raw bytes (:class:`Exchange`), so that it can break any rule.
"""

import asyncio
import gzip
import socket
import ssl
import struct
import zlib
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, Self, cast

PATH = "/.well-known/jwks.json"
HTML = b"<!doctype html><title>Welcome</title><p>Please sign in."

Headers = tuple[tuple[str, str], ...]


class Request(NamedTuple):
    """A request that arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    """Names in lower case."""


class Exchange:
    """One request, and the connection to answer it on."""

    def __init__(self, request: Request, document: bytes, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.document = document
        self._writer = writer

    async def send(self, *parts: bytes) -> None:
        """Send raw bytes; waits while the other side does not read. ConnectionError once it is gone."""
        self._writer.write(b"".join(parts))
        await self._writer.drain()
        await asyncio.sleep(0)  # drain() alone neither gives way nor, over TLS, tells that nobody is there

    async def answer(self, status: int, body: bytes = b"", headers: Headers = ()) -> None:
        """Send a whole, correct response."""
        length = () if status == HTTPStatus.NOT_MODIFIED else (("Content-Length", str(len(body))),)
        await self.send(head(status, *length, *headers), body)

    def reset(self) -> None:
        """Break the connection off with a TCP RST."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def hang(self) -> None:
        """Keep the connection open and send nothing, until the issuer stops."""
        await asyncio.Event().wait()


class Behaviour(Protocol):
    """How one request is answered. When ``__call__`` returns, the connection is closed."""

    async def __call__(self, exchange: Exchange, /) -> None: ...


@dataclass(frozen=True)
class Serve:
    """The document. With an ETag, 304 to who has it already (RFC 9110 section 13.1.2)."""

    etag: str | None = None
    cache_control: str | None = None
    headers: Headers = ()

    async def __call__(self, exchange: Exchange) -> None:
        own = (("ETag", self.etag), ("Cache-Control", self.cache_control))
        headers = (*((name, value) for name, value in own if value is not None), *self.headers)
        if self.etag is not None and exchange.request.headers.get("if-none-match") == self.etag:
            await exchange.answer(304, headers=headers)
        else:
            await exchange.answer(200, exchange.document, headers)


@dataclass(frozen=True)
class Status:
    """A status code, by itself or with a body; ``Status(200, HTML)`` is the captive portal."""

    code: int
    body: bytes = b""
    headers: Headers = ()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.answer(self.code, self.body, self.headers)


def redirect(to: str, code: int = 302) -> Status:
    """A redirect."""
    return Status(code, headers=(("Location", to),))


@dataclass(frozen=True)
class SlowHead:
    """The document, after this long."""

    seconds: float

    async def __call__(self, exchange: Exchange) -> None:
        await asyncio.sleep(self.seconds)
        await exchange.answer(200, exchange.document)


@dataclass(frozen=True)
class Drip:
    """The document byte by byte, so that each single read is quick and the whole never ends."""

    pause_seconds: float = 0.01

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(head(200, ("Content-Length", str(len(exchange.document)))))
        for octet in exchange.document:
            await exchange.send(bytes([octet]))
            await asyncio.sleep(self.pause_seconds)


@dataclass(frozen=True)
class DripHead:
    """Header lines without end, slowly."""

    pause_seconds: float = 0.01

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await exchange.send(b"X-More: to come\r\n")
            await asyncio.sleep(self.pause_seconds)


@dataclass(frozen=True)
class EndlessHead:
    """Header lines without end, as fast as they are read."""

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            await exchange.send(b"X-More: to come\r\n" * 1000)


@dataclass(frozen=True)
class EndlessBody:
    """A body without end, as fast as it is read; of unknown length, or in chunks of ``octets``."""

    chunked: bool = False
    octets: bytes = b" " * 16384

    async def __call__(self, exchange: Exchange) -> None:
        framing = (("Transfer-Encoding", "chunked"),) if self.chunked else ()
        await exchange.send(head(200, *framing))
        part = chunk(self.octets) if self.chunked else self.octets
        while True:
            await exchange.send(part * (65536 // len(part)))


@dataclass(frozen=True)
class Padded:
    """The document with white space behind it, this large altogether; the length declared, or in chunks."""

    size: int
    declared: bool = True

    async def __call__(self, exchange: Exchange) -> None:
        body = exchange.document.ljust(self.size)
        if self.declared:
            await exchange.answer(200, body)
        else:
            await exchange.send(head(200, ("Transfer-Encoding", "chunked")), chunk(body), chunk(b""))


@dataclass(frozen=True)
class Announce:
    """A length, and then nothing of it."""

    size: int

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(head(200, ("Content-Length", str(self.size))))
        await exchange.hang()


@dataclass(frozen=True)
class Compressed:
    """The document with ``padding`` bytes of white space behind it, compressed: a bomb, if that is much."""

    coding: str = "gzip"
    padding: int = 0

    async def __call__(self, exchange: Exchange) -> None:
        plain = exchange.document + b" " * self.padding
        body = gzip.compress(plain) if self.coding == "gzip" else zlib.compress(plain)
        await exchange.answer(200, body, (("Content-Encoding", self.coding),))


@dataclass(frozen=True)
class CodingLie:
    """The plain document under the name of a content coding."""

    coding: str = "gzip"

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.answer(200, exchange.document, (("Content-Encoding", self.coding),))


@dataclass(frozen=True)
class Reset:
    """RST instead of an answer, or after half of the document."""

    mid_body: bool = False

    async def __call__(self, exchange: Exchange) -> None:
        if self.mid_body:
            await exchange.send(*half(exchange.document))
        exchange.reset()


@dataclass(frozen=True)
class CloseMidBody:
    """Half of the document, then an orderly end."""

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(*half(exchange.document))


@dataclass(frozen=True)
class Garbage:
    """Bytes that are not HTTP; none at all is a connection that closes at once."""

    octets: bytes = b"\x16\x03\x01\x02SSH-2.0-nobody\r\n\r\n"

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(self.octets)


@dataclass(frozen=True)
class Hang:
    """Nothing, for ever."""

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.hang()


@dataclass(frozen=True)
class HoldUntil:
    """The document, once ``release`` is set: the test decides when."""

    release: asyncio.Event

    async def __call__(self, exchange: Exchange) -> None:
        await self.release.wait()
        await exchange.answer(200, exchange.document)


class Issuer:
    """The server. Make it by :func:`issuer`.

    :param tls: a server context makes it ``https``; see :class:`tests.support.certificates.Authority`.
    """

    def __init__(self, document: bytes, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.document = document
        self.requests: list[Request] = []
        self.most_at_once = 0
        """The largest number of requests that were unanswered at one time."""
        self._host = host
        self._port = 0
        self._tls = tls
        self._always: Behaviour = Serve()
        self._next: deque[Behaviour] = deque()
        self._at_once = 0
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """Where the document is; in truth, every path is answered alike."""
        return self.origin + PATH

    def behave(self, behaviour: Behaviour | None = None) -> Self:
        """From now on, like this; well, if nothing is said. Forgets what :meth:`behave_next` has left."""
        self._always = behaviour or Serve()
        self._next.clear()
        return self

    def behave_next(self, *behaviours: Behaviour) -> Self:
        """Like this for the next requests, one each."""
        self._next.extend(behaviours)
        return self

    async def start(self) -> None:
        """Listen; on the same port as before, if there was one."""
        self._server = await asyncio.start_server(self._accept, self._host, self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and break off whatever is going on."""
        if self._server is not None:
            self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._server = None

    async def until_requests(self, count: int) -> None:
        """Wait until so many requests have come, altogether."""
        while len(self.requests) < count:
            await self._changed.wait()

    async def until_idle(self) -> None:
        """Wait until no connection is open any more."""
        while self._tasks:
            await self._changed.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._tasks.add(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = read_request(await reader.readuntil(b"\r\n\r\n"))
            # read() ends when the client goes away: then there is nobody to answer, not even slowly.
            await first_of(self._answer(Exchange(request, self.document, writer)), reader.read())
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone, as it may
        finally:
            writer.transport.abort()
            self._tasks.remove(cast("asyncio.Task[None]", asyncio.current_task()))
            self._tell()

    async def _answer(self, exchange: Exchange) -> None:
        self.requests.append(exchange.request)
        behaviour = self._next.popleft() if self._next else self._always
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self._tell()
        try:
            await behaviour(exchange)
        finally:
            self._at_once -= 1

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()  # who waits, waits for one change


@asynccontextmanager
async def issuer(document: bytes, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> AsyncIterator[Issuer]:
    """An issuer that listens on a port that the system chose, and behaves."""
    running = Issuer(document, tls, host)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


def head(status: int, *headers: tuple[str, str]) -> bytes:
    """A status line and header lines."""
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers), "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(octets: bytes) -> bytes:
    """RFC 9112 section 7.1; the empty one is the last."""
    return b"%x\r\n%s\r\n" % (len(octets), octets)


def half(document: bytes) -> tuple[bytes, bytes]:
    """The head for the whole document, and the first half of it."""
    return head(200, ("Content-Length", str(len(document)))), document[: len(document) // 2]


def read_request(octets: bytes) -> Request:
    """The head of a request, from a client that is trusted to send one."""
    start, *lines = octets.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = start.split(" ")
    pairs = (line.split(":", 1) for line in lines)
    return Request(method, target, {name.lower(): value.strip() for name, value in pairs})


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Run them until one is done, end the others; raises what that one raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
