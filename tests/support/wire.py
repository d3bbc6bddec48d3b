"""One HTTP/1.1 request, byte for byte, and all of its answer."""

import asyncio
from typing import NamedTuple
from urllib.parse import urlsplit

PATIENCE_SECONDS = 20.0


class Reply(NamedTuple):
    """What came back, as it was sent."""

    status: int
    headers: list[tuple[str, str]]
    """Names in lower case; repeated ones repeated."""
    text: str

    def values(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for other, value in self.headers if other == name]


class NoReply(Exception):
    """The connection or the stream ended without an answer."""


async def send(
    url: str, target: str | bytes, *lines: str | bytes, method: str = "GET", host: str | None = None, body: bytes = b""
) -> Reply:
    """One request on a connection of its own; :raises NoReply:.

    :param url: who is asked, ``http://host:port``.
    :param lines: header lines after ``Host`` and ``Connection: close``; text is sent as UTF-8.
    :param host: instead of the address.
    """
    netloc = urlsplit(url).netloc
    head = [b" ".join([method.encode(), _octets(target), b"HTTP/1.1"]), f"Host: {host or netloc}".encode()]
    request = b"\r\n".join([*head, b"Connection: close", *map(_octets, lines), b"", body])
    return read_reply(await exchange(url, request))


async def exchange(url: str, request: bytes) -> bytes:
    """Send these bytes and read until the other side closes."""
    parts = urlsplit(url)
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(request)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def read_reply(received: bytes) -> Reply:
    """An answer that ended with its connection; :raises NoReply: there is none."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        raise NoReply
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
    if ("transfer-encoding", "chunked") in headers:
        body = _unchunked(body)
    return Reply(int(status_line.split(" ")[1]), headers, body.decode("utf-8", "replace"))


def _unchunked(body: bytes) -> bytes:
    """RFC 9112 section 7.1, less trailers."""
    content = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        content, body = content + rest[:length], rest[length + 2 :] if length else b""
    return content


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
