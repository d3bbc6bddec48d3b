"""The sending half of a connection: answers out, within the windows that the peer grants (RFC 9113 section 6.9)."""

from typing import Final

from authz_service.transport.grpc_wire import MESSAGE_PREFIX, MESSAGE_PREFIX_BYTES, Refusal
from authz_service.transport.http2_frames import (
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    HEADERS,
    MAX_FRAME_BYTES,
    MAX_WINDOW,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    frame,
    reset_frame,
)
from authz_service.transport.http2_headers import ANSWER_BLOCK, TABLE_SIZE_ZERO, TRAILERS_BLOCK, refusal_block
from authz_service.transport.http2_streams import CLOSED, HALF_CLOSED, OPEN, Call

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""Of answers that the peer's windows hold back."""
IGNORED_STREAMS: Final = 1_000

# The usual answer less its stream, its message and their sizes: HEADERS, DATA that is one message, HEADERS again.
_STREAM: Final = FRAME_HEADER_BYTES - 4
_OPENS: Final = frame(HEADERS, END_HEADERS, 0, ANSWER_BLOCK)[:_STREAM]
_DATA_OF: Final = ANSWER_BLOCK + b"\0"
_ON_STREAM: Final = frame(DATA, 0, 0)[3:_STREAM]
_UNCOMPRESSED: Final = b"\0"
_ENDS: Final = frame(HEADERS, END_HEADERS | END_STREAM, 0, TRAILERS_BLOCK)[:_STREAM]


class Sender:
    """Frames to be written, in their order.

    :param calls: the connection's calls by stream; a call leaves it when its last frame does.
    """

    def __init__(self, calls: dict[int, Call]) -> None:
        self.out: list[bytes] = []
        self.initial_window = DEFAULT_WINDOW
        """What the peer grants to each new stream."""
        self.waiting_bytes = 0
        """Of answers that wait for a window, to be kept below :data:`MAX_WAITING_BYTES` by the connection."""
        self.ignored: dict[int, None] = {}
        """Streams that this side gave up, oldest first."""
        self._calls = calls
        self._window = DEFAULT_WINDOW
        self._table_announced = False
        self._waiting: dict[int, Call] = {}
        """Calls whose stream has a window and whose connection has none left."""

    def answer(self, call: Call, message: bytes) -> None:
        """Answer with a message and status OK; nothing happens if the stream was reset meanwhile."""
        size = len(message) + MESSAGE_PREFIX_BYTES
        if not (
            size <= MAX_FRAME_BYTES and size <= call.send_window and size <= self._window
            and call.state is HALF_CLOSED and self._table_announced
        ):  # fmt: skip
            self._answer_in_pieces(call, message)
            return
        # The usual answer: three frames at once. _answer_in_pieces would give the same bytes.
        self._window -= size
        stream = call.stream_id.to_bytes(4, "big")
        self.out.append(b"".join((
            _OPENS, stream, _DATA_OF, size.to_bytes(2, "big"), _ON_STREAM, stream,
            _UNCOMPRESSED, len(message).to_bytes(4, "big"), message, _ENDS, stream, TRAILERS_BLOCK,
        )))  # fmt: skip
        call.state = CLOSED
        del self._calls[call.stream_id]

    def refuse(self, call: Call, refusal: Refusal) -> None:
        """Answer with a status only; nothing happens if the stream was reset meanwhile."""
        if call.state is CLOSED or call.unsent:
            return
        if refusal.http_status == 200:  # noqa: PLR2004
            self._send_headers(call, refusal_block(refusal), END_STREAM)
            self._finish(call)
        else:
            self._send_headers(call, refusal_block(refusal), 0)
            self._send_body(call, refusal.text.encode(), None)

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Give up a stream: RST_STREAM (section 6.4)."""
        self.out.append(reset_frame(stream_id, code))
        self.ignore(stream_id)
        if stream_id in self._calls:
            self.forget(self._calls[stream_id])

    def ignore(self, stream_id: int) -> None:
        """Section 5.1, closed: what the peer sent on a stream before it knew of our RST_STREAM is no error."""
        if len(self.ignored) >= IGNORED_STREAMS:
            del self.ignored[next(iter(self.ignored))]  # the oldest
        self.ignored[stream_id] = None

    def forget(self, call: Call) -> None:
        """The stream is closed without an answer."""
        self._stop_waiting(call)
        del self._calls[call.stream_id]
        call.abandon()

    def open_connection_window(self, increment: int) -> None:
        """WINDOW_UPDATE on stream 0. :raises ConnectionFault: section 6.9.1, the window overflows."""
        self._window += increment
        if self._window > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overflow")
        while self._window > 0 and self._waiting:
            self._pump(next(iter(self._waiting.values())))

    def open_window(self, call: Call, increment: int) -> None:
        """WINDOW_UPDATE on a stream. :raises StreamFault: section 6.9.1, the window overflows."""
        call.send_window += increment
        if call.send_window > MAX_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow")
        if call.unsent:
            self._pump(call)

    def change_initial_window(self, size: int) -> None:
        """Section 6.9.2: the difference reaches each stream, and may make its window negative.

        :raises ConnectionFault: a window overflows.
        """
        difference = size - self.initial_window
        self.initial_window = size
        for call in list(self._calls.values()) if difference else ():
            call.send_window += difference
            if call.send_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow")
            if call.unsent:
                self._pump(call)

    def _answer_in_pieces(self, call: Call, message: bytes) -> None:
        if call.state is HALF_CLOSED and not call.unsent:
            self._send_headers(call, ANSWER_BLOCK, 0)
            self._send_body(call, MESSAGE_PREFIX.pack(0, len(message)) + message, TRAILERS_BLOCK)

    def _send_headers(self, call: Call, block: bytes, flags: int) -> None:
        if not self._table_announced:
            self._table_announced = True
            block = TABLE_SIZE_ZERO + block
        self.out.append(frame(HEADERS, END_HEADERS | flags, call.stream_id, block))

    def _send_body(self, call: Call, body: bytes, trailers: bytes | None) -> None:
        call.unsent = body
        call.trailers = trailers
        self.waiting_bytes += len(body)
        self._pump(call)

    def _pump(self, call: Call) -> None:
        """Send as much of an answer as both windows let through."""
        body, sent = call.unsent, 0
        while sent < len(body):
            size = min(len(body) - sent, MAX_FRAME_BYTES, call.send_window, self._window)
            if size <= 0:
                break
            last = END_STREAM if call.trailers is None and sent + size == len(body) else 0
            self.out.append(frame(DATA, last, call.stream_id, body[sent : sent + size]))
            sent += size
            call.send_window -= size
            self._window -= size
        call.unsent = body[sent:]
        self.waiting_bytes -= sent
        self._after_pump(call)

    def _after_pump(self, call: Call) -> None:
        if not call.unsent:
            self._waiting.pop(call.stream_id, None)
            if call.trailers is not None:
                self._send_headers(call, call.trailers, END_STREAM)
            self._finish(call)
        elif call.send_window > 0:
            self._waiting[call.stream_id] = call
        else:  # its own WINDOW_UPDATE comes first
            self._waiting.pop(call.stream_id, None)

    def _finish(self, call: Call) -> None:
        """Section 8.1: an answer that comes before the end of the request is followed by RST_STREAM with NO_ERROR."""
        if call.state is OPEN:
            self.reset(call.stream_id, ErrorCode.NO_ERROR)
            return
        call.state = CLOSED
        del self._calls[call.stream_id]

    def _stop_waiting(self, call: Call) -> None:
        self.waiting_bytes -= len(call.unsent)
        self._waiting.pop(call.stream_id, None)
