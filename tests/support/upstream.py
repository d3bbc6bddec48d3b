"""A chat-api that keeps every byte that reaches it: no framework in between that folds, drops or rejects."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.support.wire import read_body

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nreached"


class Seen(NamedTuple):
    """One HTTP/1.1 request."""

    request_line: str
    headers: list[tuple[str, str]]
    rest: bytes
    """The body as it was framed, trailers included."""


class Upstream:
    """Remembers and answers."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.port = 0

    @property
    def last(self) -> Seen:
        """The request that came last."""
        return self.seen[-1]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            request_line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
            headers = [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
            self.seen.append(Seen(request_line, headers, await read_body(reader, dict(headers))))
            writer.write(ANSWER)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # Envoy closed an idle connection
        finally:
            writer.close()


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """It listens, on loopback."""
    recorder = Upstream()
    server = await asyncio.start_server(recorder.answer, "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
