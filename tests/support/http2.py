"""A hand-made HTTP/2 client for the connection without I/O: every byte that it sends is a test's own choice."""

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import NamedTuple

import hpack

from authz_service.transport import http2_frames as h2
from authz_service.transport.grpc_wire import MESSAGE_PREFIX
from authz_service.transport.http2 import Connection
from authz_service.transport.http2_frames import ErrorCode, frame
from authz_service.transport.http2_streams import Arrivals, Call

METHOD = b"/envoy.service.auth.v3.Authorization/Check"
CALL_HEADERS = (
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", METHOD), (b":authority", b"authz"),
    (b"te", b"trailers"), (b"content-type", b"application/grpc"), (b"grpc-timeout", b"200m"),
)  # fmt: skip
UINT32 = Struct(">L")


class Frame(NamedTuple):
    """A frame that was received."""

    type: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def number(self) -> int:
        """The payload of RST_STREAM and WINDOW_UPDATE."""
        return int(UINT32.unpack(self.payload)[0])


class Answer(NamedTuple):
    """What a stream brought back, all frames together."""

    headers: dict[bytes, bytes]
    body: bytes
    trailers: dict[bytes, bytes]


def read_frames(data: bytes) -> list[Frame]:
    """Whole frames only."""
    frames = []
    while data:
        high, length, kind, flags, stream_id = h2.FRAME_HEADER.unpack_from(data)
        assert high == 0
        assert len(data) >= 9 + length, "a frame cut short"
        frames.append(Frame(kind, flags, stream_id, data[9 : 9 + length]))
        data = data[9 + length :]
    return frames


def settings(*values: tuple[int, int]) -> bytes:
    return frame(h2.SETTINGS, 0, 0, b"".join(h2.SETTING.pack(*value) for value in values))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(h2.WINDOW_UPDATE, 0, stream_id, UINT32.pack(increment))


def reset(stream_id: int, code: ErrorCode = ErrorCode.CANCEL) -> bytes:
    return frame(h2.RST_STREAM, 0, stream_id, UINT32.pack(code))


def data(stream_id: int, payload: bytes, flags: int = h2.END_STREAM) -> bytes:
    """DATA, in as many frames as it takes."""
    size = h2.MAX_FRAME_BYTES
    pieces = [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]
    last = pieces.pop()
    return b"".join(frame(h2.DATA, 0, stream_id, piece) for piece in pieces) + frame(h2.DATA, flags, stream_id, last)


def message(content: bytes) -> bytes:
    """gRPC's Length-Prefixed-Message."""
    return MESSAGE_PREFIX.pack(0, len(content)) + content


ACK = frame(h2.SETTINGS, h2.ACK, 0)
HELLO = h2.PREFACE + settings()


def calls_in(connection: Connection, data: bytes, now: float = 0.0) -> Iterator[Call]:
    """Frame by frame: each call can be answered before the next frame is read."""
    connection.receive(data, now)
    while connection.unread:
        yield from connection.read_on(1)


class Client:
    """Talks to one connection.

    :param answer: what the service answers; None: the test answers :attr:`waiting` itself.
    :param everywhere: what arrives on all connections together.
    """

    def __init__(
        self, answer: Callable[[bytes], bytes] | None = bytes.upper, hello: bytes = HELLO,
        everywhere: Arrivals | None = None,
    ) -> None:  # fmt: skip
        self.connection = Connection(0.0, everywhere)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.now = 0.0
        self.waiting: list[Call] = []
        self.answered = 0
        self._answer = answer
        self.greeting = self.send(hello)

    def send(self, *pieces: bytes) -> list[Frame]:
        """Send bytes; returns the frames that came back."""
        for call in calls_in(self.connection, b"".join(pieces), self.now):
            if self._answer is None:
                self.waiting.append(call)
            else:
                self.answered += 1
                self.connection.answer(call, self._answer(call.message))
        return self.read()

    def read(self) -> list[Frame]:
        """The frames that have come since."""
        return read_frames(self.connection.take_output())

    def forget_table(self) -> None:
        """Acknowledge all SETTINGS, that without a header table among them."""
        self.encoder.header_table_size = 0
        self.send(ACK, ACK)

    def headers(
        self, stream_id: int, flags: int = h2.END_HEADERS, fields: Iterable[tuple[bytes, bytes]] = CALL_HEADERS
    ) -> bytes:
        return frame(h2.HEADERS, flags, stream_id, self.encoder.encode(fields))

    def call(self, stream_id: int, content: bytes = b"hello") -> bytes:
        """A usual call."""
        return self.headers(stream_id) + data(stream_id, message(content))

    def answer_in(self, frames: list[Frame], stream_id: int) -> Answer:
        """The answer on a stream; the decoder wants to see each block once, in order."""
        blocks: list[dict[bytes, bytes]] = []
        body = b""
        ended = False
        for each in frames:
            fields = dict(self.decoder.decode(each.payload, raw=True)) if each.type == h2.HEADERS else {}
            if each.stream_id == stream_id and each.type in {h2.HEADERS, h2.DATA}:
                assert not ended
                ended = bool(each.flags & h2.END_STREAM)
                blocks += [fields] if fields else []
                body += each.payload if each.type == h2.DATA else b""
        assert ended, "the stream did not end"
        return Answer(blocks[0], body, blocks[-1])

    def goaway(self, frames: list[Frame]) -> ErrorCode:
        """The error code of the GOAWAY that these frames end with."""
        assert frames, "no frame came back"
        assert frames[-1].type == h2.GOAWAY
        assert self.connection.finished
        return ErrorCode(UINT32.unpack_from(frames[-1].payload, 4)[0])


def resets(frames: list[Frame]) -> dict[int, ErrorCode]:
    """RST_STREAM by stream."""
    return {each.stream_id: ErrorCode(each.number) for each in frames if each.type == h2.RST_STREAM}
