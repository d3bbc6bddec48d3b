"""One HTTP/2 request of any header list, sensible or not, and all of its answer."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from tests.support.wire import PATIENCE_SECONDS, NoReply, Reply

Fields = Sequence[tuple[str | bytes, str | bytes]]

AS_GIVEN = H2Configuration(
    client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
)


async def send(url: str, target: str | bytes, *fields: tuple[str | bytes, str | bytes], method: str = "GET") -> Reply:
    """A request with the four pseudo-header fields that belong to one; :raises NoReply:."""
    authority = urlsplit(url).netloc
    pseudo = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", target)]
    return await send_fields(url, [*pseudo, *fields])


async def send_fields(url: str, fields: Fields, *, body: bytes = b"", trailers: Fields = ()) -> Reply:
    """Exactly these fields, in this order, on a connection of its own.

    :raises NoReply: the stream was reset or the connection ended first.
    """
    parts = urlsplit(url)
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            connection = H2Connection(AS_GIVEN)
            connection.initiate_connection()
            _ask(connection, fields, body, trailers)
            writer.write(connection.data_to_send())
            return await _answer(connection, reader, writer)
        except ConnectionError:
            raise NoReply from None
        finally:
            writer.close()


def _ask(connection: H2Connection, fields: Fields, body: bytes, trailers: Fields) -> None:
    connection.send_headers(1, fields, end_stream=not body and not trailers)
    if body:
        connection.send_data(1, body, end_stream=not trailers)
    if trailers:
        connection.send_headers(1, trailers, end_stream=True)


async def _answer(connection: H2Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Reply:
    events: list[Event] = []
    while not any(isinstance(event, StreamEnded) for event in events):
        received = await reader.read(65536)
        new = connection.receive_data(received)
        if not received or any(isinstance(event, StreamReset | ConnectionTerminated) for event in new):
            raise NoReply
        events += new
        writer.write(connection.data_to_send())
    return _reply(events)


def _reply(events: list[Event]) -> Reply:
    (response,) = (event for event in events if isinstance(event, ResponseReceived))
    fields = [(_text(name), _text(value)) for name, value in response.headers or ()]
    body = b"".join(event.data or b"" for event in events if isinstance(event, DataReceived))
    status = next(int(value) for name, value in fields if name == ":status")
    return Reply(status, [field for field in fields if not field[0].startswith(":")], body.decode("utf-8", "replace"))


def _text(octets: str | bytes) -> str:
    return octets if isinstance(octets, str) else octets.decode("latin-1")
