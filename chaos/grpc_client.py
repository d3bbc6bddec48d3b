"""Check calls on one HTTP/2 connection, for a fraction of what a gRPC library costs: the load must not be the fault.

Only what a unary client needs of RFC 9113: no push, no priorities, no padding of its own, header blocks never decoded.
"""

import asyncio
import json
import struct
from collections import deque
from typing import cast

from authz_service._pb.external_auth_pb2 import CheckResponse
from authz_service.address import Address
from authz_service.transport.check_service import METHOD
from chaos.record import ALLOWED, Done

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = 9
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 3, 4
NO_TABLE = b"\x20"
"""RFC 7541 section 4.2: said once, at the start of the next header block, when the peer has changed the size."""
OUR_WINDOW = 1 << 30
GRPC_PREFIX = 5
LAST_STREAM = (1 << 31) - 1


class CheckChannel(asyncio.Protocol):
    """A connection. Make it by :func:`connect`."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: deque[tuple[bytes, Done]] = deque()
        self._under_way: dict[int, Done] = {}
        self._answers: dict[int, bytes] = {}
        self._buffer = b""
        self._next_stream = 1
        self._window = 65535
        self._most_at_once = 100
        self._unacknowledged = 0
        self._announcement = b""
        self._going_away = False
        self._ready = False
        self._transport: asyncio.Transport | None = None

    @property
    def under_way(self) -> int:
        """How many calls are unanswered."""
        return len(self._under_way) + len(self._waiting)

    def ask(self, message: bytes, done: Done) -> None:
        """An encoded ``CheckRequest``; ``done`` is called once, with the verdict."""
        if self._going_away or self.closed.done():
            done("disconnected")
            return
        self._waiting.append((message, done))
        self._send_waiting()

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, OUR_WINDOW)
        window = _frame(WINDOW_UPDATE, 0, 0, _number(OUR_WINDOW))
        self._transport.write(PREFACE + _frame(SETTINGS, 0, 0, settings) + window)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        left = [*self._under_way.values(), *(done for _, done in self._waiting)]
        self._under_way.clear()
        self._waiting.clear()
        if not self.closed.done():
            self.closed.set_result(None)
        for done in left:
            done("disconnected")

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        buffer, start = self._buffer + data, 0
        while len(buffer) - start >= HEAD:
            end = start + HEAD + int.from_bytes(buffer[start : start + 3])
            if len(buffer) < end:
                break
            stream = int.from_bytes(buffer[start + 5 : start + HEAD])
            self._received(buffer[start + 3], buffer[start + 4], stream, buffer[start + HEAD : end])
            start = end
        self._buffer = buffer[start:]
        self._send_waiting()

    def _received(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._answers[stream] = self._answers.get(stream, b"") + payload
            self._give_window(len(payload))
        elif kind == RST_STREAM:
            self._finish(stream, "reset")
        elif kind == SETTINGS and not flags & ACK:
            self._configure(payload)
        elif kind == PING and not flags & ACK:
            self._write(_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._go_away(int.from_bytes(payload[:4]))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload[:4])
        if kind in {DATA, HEADERS} and flags & END_STREAM:
            self._finish(stream, verdict(self._answers.pop(stream, b"")[GRPC_PREFIX:]))

    def _configure(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == MAX_CONCURRENT_STREAMS:
                self._most_at_once = value
            elif name == HEADER_TABLE_SIZE:
                self._announcement = NO_TABLE
        self._ready = True
        self._write(_frame(SETTINGS, ACK, 0, b""))

    def _go_away(self, last_stream: int) -> None:
        if last_stream >= LAST_STREAM:
            return  # the notice (RFC 9113 section 6.8); the real one follows
        self._going_away = True
        for stream in [stream for stream in self._under_way if stream > last_stream]:
            self._finish(stream, "disconnected")
        while self._waiting:
            self._waiting.popleft()[1]("disconnected")

    def _give_window(self, octets: int) -> None:
        self._unacknowledged += octets
        if self._unacknowledged > OUR_WINDOW // 2:
            self._write(_frame(WINDOW_UPDATE, 0, 0, _number(self._unacknowledged)))
            self._unacknowledged = 0

    def _send_waiting(self) -> None:
        waiting, under_way = self._waiting, self._under_way
        while self._ready and waiting and len(under_way) < self._most_at_once:
            size = len(waiting[0][0]) + GRPC_PREFIX
            if size > self._window:
                break
            message, done = waiting.popleft()
            stream, self._next_stream = self._next_stream, self._next_stream + 2
            self._window -= size
            under_way[stream] = done
            body = b"\0" + len(message).to_bytes(4) + message
            block, self._announcement = self._announcement + HEADER_BLOCK, b""
            self._write(_frame(HEADERS, END_HEADERS, stream, block) + _frame(DATA, END_STREAM, stream, body))

    def _finish(self, stream: int, outcome: str) -> None:
        if done := self._under_way.pop(stream, None):
            done(outcome)

    def _write(self, octets: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)


def verdict(answer: bytes) -> str:
    """``allowed``, or the word in the body of the refusal."""
    if not answer:
        return "grpc_error"
    response = CheckResponse.FromString(answer)
    if response.HasField("status") and response.status.code == 0 and response.HasField("ok_response"):
        return ALLOWED
    part = response.error_response if response.HasField("error_response") else response.denied_response
    return str(json.loads(part.body)["error"])


async def connect(address: Address) -> CheckChannel:
    """A new connection; it is ready for calls at once."""
    loop = asyncio.get_running_loop()
    if address.path:
        _, channel = await loop.create_unix_connection(CheckChannel, address.path)
    else:
        _, channel = await loop.create_connection(CheckChannel, address.host, address.port)
    return channel


async def ask_once(address: Address, message: bytes) -> str:
    """One call on a connection of its own; :returns: the verdict."""
    channel = await connect(address)
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    channel.ask(message, lambda outcome: None if answered.done() else answered.set_result(outcome))
    try:
        async with asyncio.timeout(10):
            return await answered
    finally:
        channel.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _number(value: int) -> bytes:
    return value.to_bytes(4)


def _literal(name: str, value: str) -> bytes:
    """RFC 7541 section 6.2.2: without indexing, so that the same block always means the same."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


HEADER_BLOCK = b"\x83\x86" + b"".join((  # :method POST, :scheme http
    _literal(":path", METHOD), _literal(":authority", "authz"), _literal("content-type", "application/grpc"),
    _literal("te", "trailers"), _literal("user-agent", "chaos"),
))  # fmt: skip
