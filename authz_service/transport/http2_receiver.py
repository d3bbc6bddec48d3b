"""The receiving half of a connection: HEADERS, CONTINUATION and DATA in, calls out (RFC 9113 sections 5.1, 8.1)."""

from typing import Final, NamedTuple

from authz_service.transport.grpc_wire import (
    MAX_BODY_BYTES,
    TOO_LARGE,
    TOO_MUCH_WAITING,
    CallRefused,
    read_message,
)
from authz_service.transport.http2_floods import FAULT_COST, FRAME_COST, Patience
from authz_service.transport.http2_frames import (
    END_HEADERS,
    END_STREAM,
    MAX_STREAM_ID,
    PRIORITY_FIELDS,
    STREAM_ID_MASK,
    UNSIGNED_32,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    window_update_frame,
    without_padding,
)
from authz_service.transport.http2_headers import MAX_HEADER_BYTES, HeaderDecoder, check_trailers, malformed
from authz_service.transport.http2_sender import Sender
from authz_service.transport.http2_streams import HALF_CLOSED, OPEN, Arrivals, Call

MAX_CONCURRENT_STREAMS: Final = 1_000
STREAM_WINDOW: Final = 2 * MAX_BODY_BYTES
"""Holds the largest message with as much padding again, so that no stream ever needs a WINDOW_UPDATE."""
CONNECTION_WINDOW: Final = 16 * 1024 * 1024
LOW_WINDOW: Final = CONNECTION_WINDOW // 2
"""The connection's window is filled up again from here: one WINDOW_UPDATE for thousands of calls."""
MAX_ARRIVING_BYTES: Final = 8 * 1024 * 1024
"""Of messages that are not whole yet. The window is no bound: it opens at once, lest streams block each other."""
MAX_ARRIVING_EVERYWHERE: Final = 32 * 1024 * 1024
"""On all connections together: a thousand of them, each with that much, would be more than a pod has memory."""
ALWAYS_ARRIVING_BYTES: Final = 128 * 1024
"""So much may arrive on a connection whatever others do: more than the largest Check that a client can bring about."""
SMALL_DATA_BYTES: Final = 256
"""A frame of less that does not end a request is paid for, see http2_floods.py."""


class HeaderBlock(NamedTuple):
    """HEADERS without END_HEADERS, as far as CONTINUATION frames have brought it."""

    stream_id: int
    end_stream: bool
    fragments: bytes


class Receiver:
    """Puts the frames of each stream together.

    :param calls: the connection's calls by stream, shared with ``sender``.
    """

    def __init__(self, calls: dict[int, Call], sender: Sender, patience: Patience, arrivals: Arrivals) -> None:
        self.last_stream_id = 0
        """Streams above it are idle (section 5.1.1)."""
        self.last_accepted_id = MAX_STREAM_ID
        """Streams above it are ignored: GOAWAY has told the peer so (section 6.8)."""
        self.window = CONNECTION_WINDOW
        self.open_block: HeaderBlock | None = None
        """Nothing but CONTINUATION may come while there is one (section 6.10)."""
        self.headers = HeaderDecoder()
        self.serves_calls = False
        """Whether there was a gRPC call yet."""
        self._calls = calls
        self._sender = sender
        self._patience = patience
        self._arrivals = arrivals

    def on_headers(self, flags: int, stream_id: int, payload: bytes, now: float) -> Call | None:
        """Section 6.2."""
        if not stream_id & 1:  # section 5.1.1: clients use odd numbers
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that no client can open")
        fragment = without_padding(payload, flags)
        if flags & PRIORITY_FIELDS:
            check_priority(fragment[:5], stream_id)
            fragment = fragment[5:]
        block = HeaderBlock(stream_id, bool(flags & END_STREAM), fragment)
        return self._on_fragment(block, flags, now)

    def on_continuation(self, flags: int, stream_id: int, payload: bytes, now: float) -> Call | None:
        """Section 6.10."""
        block = self.open_block
        if block is None or block.stream_id != stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._patience.spend(FRAME_COST, now)
        return self._on_fragment(block._replace(fragments=block.fragments + payload), flags, now)

    def _on_fragment(self, block: HeaderBlock, flags: int, now: float) -> Call | None:
        if len(block.fragments) > MAX_HEADER_BYTES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block larger than allowed")
        if not flags & END_HEADERS:
            self.open_block = block
            return None
        self.open_block = None
        return self._on_block(block, now)

    def _on_block(self, block: HeaderBlock, now: float) -> Call | None:
        """Each block is decoded, wanted or not: the dynamic table goes on (section 4.3)."""
        stream_id = block.stream_id
        call = self._calls.get(stream_id)
        if call is not None:
            return self._on_trailers(call, block)
        if stream_id in self._sender.ignored:
            self._patience.spend(FRAME_COST, now)
            self.headers.decode(block.fragments)
            return None
        if stream_id <= self.last_stream_id:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream")
        self.last_stream_id = stream_id
        if stream_id > self.last_accepted_id:
            self.headers.decode(block.fragments)
            self._sender.ignore(stream_id)
            return None
        return self._open(block, now)

    def _open(self, block: HeaderBlock, now: float) -> Call | None:
        head = self.headers.call_head(block.fragments)
        if len(self._calls) >= MAX_CONCURRENT_STREAMS:  # section 5.1.2
            raise StreamFault(ErrorCode.REFUSED_STREAM, "too many streams")
        call = Call(block.stream_id, head, now + head.timeout, self._sender.initial_window)
        self._calls[block.stream_id] = call
        self.serves_calls |= head.refusal is None
        if not block.end_stream:
            return None
        self._patience.spend(FAULT_COST, now)  # there is no call without a message
        return self._end(call)

    def _on_trailers(self, call: Call, block: HeaderBlock) -> Call | None:
        """Section 8.1: trailers end the request."""
        fields = self.headers.decode(block.fragments)
        if call.state is not OPEN:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "HEADERS on a half-closed stream")
        check_trailers(fields)
        if not block.end_stream:
            raise malformed("HEADERS in the middle of a request")
        return self._end(call)

    def on_data(self, flags: int, stream_id: int, payload: bytes, now: float) -> Call | None:
        """Section 6.1; padding counts against both windows."""
        if stream_id == 0 or stream_id > self.last_stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on an idle stream")
        chunk = without_padding(payload, flags)
        self.count(len(payload))
        call = self._calls.get(stream_id)
        if len(payload) < SMALL_DATA_BYTES and (call is None or not flags & END_STREAM):
            self._patience.spend(FRAME_COST, now)
        if call is not None and call.state is OPEN:
            return self._on_chunk(call, chunk, len(payload), ends=bool(flags & END_STREAM))
        if stream_id not in self._sender.ignored:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "DATA on a closed stream")
        return None

    def _on_chunk(self, call: Call, chunk: bytes, size: int, *, ends: bool) -> Call | None:
        call.flow_bytes += size
        if call.flow_bytes > STREAM_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        call.take(chunk, self._arrivals)
        if ends:
            return self._end(call)
        if call.received_bytes > MAX_BODY_BYTES:
            self._sender.refuse(call, call.refusal or TOO_LARGE)
        elif self._arrivals.size > ALWAYS_ARRIVING_BYTES and self._too_much_arrives():
            self._sender.refuse(call, TOO_MUCH_WAITING)
        return None

    def _too_much_arrives(self) -> bool:
        everywhere = self._arrivals.everywhere
        if everywhere is not None and everywhere.size > MAX_ARRIVING_EVERYWHERE:
            return True
        return self._arrivals.size > MAX_ARRIVING_BYTES

    def _end(self, call: Call) -> Call | None:
        """The request is whole: a call to be answered, unless the answer is known."""
        call.state = HALF_CLOSED
        body = call.take_body()
        if call.head.content_length not in {None, call.received_bytes}:
            raise malformed("content-length differs from the length of the body")  # section 8.1.1
        refusal = call.refusal
        if refusal is None:
            try:
                call.message = read_message(body)
            except CallRefused as refused:
                refusal = refused.refusal
            else:
                return call
        self._sender.refuse(call, refusal)
        return None

    def count(self, size: int) -> None:
        """Charge DATA to the connection's window, and open it again in time.

        A frame is far smaller than :data:`LOW_WINDOW`: the window never reaches its end, whatever the peer does.
        """
        self.window -= size
        if self.window < LOW_WINDOW:
            self._sender.out.append(window_update_frame(0, CONNECTION_WINDOW - self.window))
            self.window = CONNECTION_WINDOW


def check_priority(fields: bytes, stream_id: int) -> None:
    """:raises ConnectionFault: not five octets, or a stream that depends on itself (RFC 7540 section 5.3.1).

    RFC 9113 section 5.3.2 deprecates the rest, and 5.4 lets a stream error be a connection error.
    """
    if len(fields) != 5:  # noqa: PLR2004 - section 6.3
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "priority fields of the wrong length")
    if UNSIGNED_32.unpack_from(fields)[0] & STREAM_ID_MASK == stream_id:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
