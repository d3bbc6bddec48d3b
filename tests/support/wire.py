"""One HTTP/1.1 request, byte for byte, and all of its answer."""

import asyncio
from collections.abc import Mapping
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
    return await exchange(url, b"\r\n".join([*head, b"Connection: close", *map(_octets, lines), b"", body]))


async def exchange(url: str, request: bytes) -> Reply:
    """Send these bytes and read one answer; :raises NoReply:."""
    parts = urlsplit(url)
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(request)
            return await _reply(reader, is_head=request.startswith(b"HEAD "))
        except (ConnectionError, asyncio.IncompleteReadError):
            raise NoReply from None
        finally:
            writer.close()


async def _reply(reader: asyncio.StreamReader, *, is_head: bool) -> Reply:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n")
    status_line, *lines = head.split("\r\n")
    headers = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
    body = b"" if is_head else await read_body(reader, dict(headers))
    return Reply(int(status_line.split(" ")[1]), headers, body.decode("utf-8", "replace"))


async def read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """RFC 9112 section 6.3, with what frames a chunked body and its trailers."""
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = size = await reader.readuntil(b"\r\n")
    while int(size, 16):
        body += await reader.readexactly(int(size, 16) + 2)
        body += (size := await reader.readuntil(b"\r\n"))
    while not body.endswith(b"\r\n\r\n"):
        body += await reader.readuntil(b"\r\n")
    return body


def _octets(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
