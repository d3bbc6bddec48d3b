"""GET requests through Envoy on kept connections, and a chat-api that answers them: both as cheap as can be."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from chaos.record import ALLOWED, Done

END_OF_HEAD = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"
MOST_CONNECTIONS = 128


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, pool: "HttpPool") -> None:
        self._pool = pool
        self._done: Done | None = None
        self._buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, message: bytes, done: Done) -> None:
        self._done = done
        assert self.transport is not None
        self.transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(END_OF_HEAD)
        if not found or len(body) < _content_length(head):
            return
        self._buffer = b""
        done, self._done = self._done, None
        self._pool.free(self)
        if done:
            done(_verdict(head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.gone(self)
        done, self._done = self._done, None
        if done:
            done("disconnected")


class HttpPool:
    """Connections to one server; a new one is opened when all are busy."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening = 0
        self._waiting: deque[tuple[bytes, Done]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, message: bytes, done: Done) -> None:
        """A whole request; ``done`` is called once, with the verdict."""
        if self._idle:
            self._idle.pop().send(message, done)
            return
        self._waiting.append((message, done))
        if len(self._all) + self._opening < MOST_CONNECTIONS:
            task = asyncio.create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def free(self, connection: _Connection) -> None:
        """An answer came: the connection can take the next request."""
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def gone(self, connection: _Connection) -> None:
        """The server closed it."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Close every connection."""
        for connection in tuple(self._all):
            if connection.transport is not None:
                connection.transport.abort()

    async def _open(self) -> None:
        self._opening += 1
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), self._host, self._port
            )
        except OSError:
            if self._waiting:
                self._waiting.popleft()[1]("not_connected")
            return
        finally:
            self._opening -= 1
        self._all.add(connection)
        self.free(connection)


class _ChatApi(asyncio.Protocol):
    """200 for each request that comes; requests have no body here."""

    def __init__(self) -> None:
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._buffer = (self._buffer + data).split(END_OF_HEAD)
        assert self._transport is not None
        self._transport.write(OK * len(heads))


@asynccontextmanager
async def chat_api() -> AsyncIterator[int]:
    """:returns: the port that it listens on, on loopback."""
    server = await asyncio.get_running_loop().create_server(_ChatApi, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def get_request(path: str, token: str | None = None) -> bytes:
    """A GET as bytes."""
    lines = [f"GET {path} HTTP/1.1", "host: chat.example.com", *([f"authorization: Bearer {token}"] if token else [])]
    return "\r\n".join([*lines, "", ""]).encode()


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _verdict(head: bytes, body: bytes) -> str:
    status = head.split(b" ", 2)[1]
    if status == b"200":
        return ALLOWED
    try:
        return f"{status.decode()} {json.loads(body)['error']}"
    except (ValueError, KeyError, TypeError):
        return f"{status.decode()} {body[:60].decode(errors='replace')}"
