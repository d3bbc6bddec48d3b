"""An HTTP/2 server connection for unary gRPC calls, without I/O: bytes in, calls out; answers in, bytes out.

.. code-block:: text

    connection                                   stream (RFC 9113 section 5.1), see http2_streams.py
    PREFACE   the client's 24 octets             idle         no Call yet
    SETTINGS  its first SETTINGS frame           OPEN         an Arriving call
    OPEN      calls, also while draining         HALF_CLOSED  handed out; the answer is due, or waits for a window
    CLOSED    GOAWAY was the last frame          CLOSED       no Call any more

:class:`Connection` reads frames in one hot loop, which knows the shape of nearly all calls (HEADERS and DATA, nothing
else, both here) and leaves everything else to one method for each frame type: of the :class:`.Receiver`, which puts
requests together, or of :class:`.Control`. The :class:`.Sender` lets answers out.
"""

from collections.abc import Callable
from enum import Enum
from typing import Final

from authz_service.transport import http2_frames as frames
from authz_service.transport.grpc_wire import DEADLINE_PASSED, MESSAGE_PREFIX_BYTES, Refusal
from authz_service.transport.http2_control import Control
from authz_service.transport.http2_floods import FAULT_COST, Patience
from authz_service.transport.http2_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    HEADERS,
    MAX_FRAME_BYTES,
    STREAM_ID_MASK,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    read_24,
    read_32,
)
from authz_service.transport.http2_receiver import (
    MAX_CONCURRENT_STREAMS,
    Receiver,
)
from authz_service.transport.http2_sender import MAX_WAITING_BYTES, Sender
from authz_service.transport.http2_streams import HALF_CLOSED, OPEN, Arrivals, Call

HANDSHAKE_SECONDS: Final = 10.0
"""For the preface and the first SETTINGS."""

OCTETS_OF_A_FRAME: Final = 64
"""To undo the compression of so many in a header block takes as long as a frame, about."""

OnFrame = Callable[[int, int, bytes, float], Call | None]
"""Flags, stream, payload, now."""


class Phase(Enum):
    """How far a connection is."""

    PREFACE = "waits for the client's preface"
    SETTINGS = "waits for the client's first SETTINGS"
    OPEN = "serves calls"
    CLOSED = "has failed, or is done; what arrives is not read"


class Connection:
    """One connection. Times are seconds on one monotonic clock, which the caller reads.

    :param everywhere: what arrives on all connections together, if there are others.
    """

    def __init__(self, now: float, everywhere: Arrivals | None = None) -> None:
        self.calls: dict[int, Call] = {}
        """Those that are not finished, by stream."""
        self.fault: ConnectionFault | None = None
        """Why the connection was ended by this side, if it was."""
        self._patience = Patience(now)
        self._sender = Sender(self.calls)
        self._receiver = Receiver(self.calls, self._sender, self._patience, Arrivals(everywhere))
        self._control = Control(self.calls, self._receiver, self._sender, self._patience)
        self._on = _frame_table(self._receiver, self._control)
        self._phase = Phase.PREFACE
        self._buffer = b""
        self._position = 0
        """How much of that was read."""
        self.unread = False
        """Whether :meth:`read_on` has something to read."""
        self._found: ConnectionFault | None = None
        """Behind calls that come first."""
        self._now = now
        self._handshake_deadline = now + HANDSHAKE_SECONDS
        self.output = self._sender.out
        """What waits in :meth:`take_output`: frames, or whole answers, of at most some 16 KiB each."""

    @property
    def finished(self) -> bool:
        """Whether the last frame has been given out, or waits in :meth:`take_output`."""
        drained = self._receiver.last_accepted_id < frames.MAX_STREAM_ID and not self.calls
        return self._phase is Phase.CLOSED or drained

    def answer(self, call: Call, message: bytes) -> None:
        """See :meth:`.Sender.answer`."""
        self._sender.answer(call, message)

    def refuse(self, call: Call, refusal: Refusal) -> None:
        """See :meth:`.Sender.refuse`."""
        self._sender.refuse(call, refusal)

    def take_output(self) -> bytes:
        """All that is to be written now."""
        output = b"".join(self._sender.out)
        self._sender.out.clear()
        return output

    def receive(self, data: bytes, now: float) -> None:
        """Take in what arrived, for :meth:`read_on` to read."""
        if self._phase is not Phase.CLOSED:
            self._now = now
            self._buffer = self._buffer + data if self._buffer else data
            self.unread = True

    def read_on(self, most: int) -> list[Call]:
        """Read the next few frames; :returns: the calls that are to be answered now, at once or later.

        However the bytes are cut, the calls and the output are the same.

        :param most: of frames; the HEADERS of a usual call do not count, its DATA do; what takes long counts for more.
        """
        ready: list[Call] = []
        if self._found is None:
            try:
                self._read(most, ready)
            except ConnectionFault as fault:
                self._found = fault
        if self._found is not None and not ready:
            self._fail(self._found)
        return ready

    def _read(self, most: int, ready: list[Call]) -> None:  # noqa: C901, PLR0912 - one loop, for the reason below
        """The hot loop; long because a call of a function costs a tenth of the whole.

        Its two shortcuts are for what nearly all frames are: HEADERS that were seen before, and DATA that is a whole
        message. Each condition that does not hold leaves the frame to the general way, which does the same.
        """
        data, position = self._buffer, self._position
        if self._phase is Phase.PREFACE:
            position = self._read_preface(data)
        end = len(data) if self._phase is not Phase.PREFACE else 0
        calls, receiver, sender, patience = self.calls, self._receiver, self._sender, self._patience
        headers, known_heads = receiver.headers, receiver.headers.heads
        while end - position >= FRAME_HEADER_BYTES:
            length, frame_type, flags = read_24(data, position), data[position + 3], data[position + 4]
            stream_id = read_32(data, position + 5)
            if length > MAX_FRAME_BYTES:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame larger than allowed")  # section 4.2
            payload = position + FRAME_HEADER_BYTES
            if payload + length > end:
                break
            if most <= 0:
                self._position = position
                return
            position = payload + length
            call: Call | None = None
            if frame_type == HEADERS and flags == END_HEADERS:
                head = known_heads.get(data[payload:position])
                if (
                    head is not None and receiver.last_stream_id < stream_id <= receiver.last_accepted_id
                    and stream_id & 1 and receiver.open_block is None and len(calls) < MAX_CONCURRENT_STREAMS
                ):  # fmt: skip
                    receiver.last_stream_id = stream_id
                    calls[stream_id] = Call(stream_id, head, self._now + head.timeout, sender.initial_window)
                    continue
            elif frame_type == DATA and flags == END_STREAM and length >= MESSAGE_PREFIX_BYTES:
                call = calls.get(stream_id)
                if (
                    call is not None and call.state is OPEN and not call.flow_bytes and call.head.refusal is None
                    and (call.head.content_length is None or call.head.content_length == length)
                    and not data[payload] and read_32(data, payload + 1) == length - MESSAGE_PREFIX_BYTES
                    and receiver.open_block is None
                ):  # fmt: skip
                    receiver.count(length)
                    call.message = data[payload + MESSAGE_PREFIX_BYTES : position]
                    call.state = HALF_CLOSED
                else:
                    call = None
            if call is None:
                undone = headers.undone
                call = self._on_frame(frame_type, flags, stream_id & STREAM_ID_MASK, data[payload:position])
                most -= (headers.undone - undone) // OCTETS_OF_A_FRAME
            if call is not None:
                patience.calls += 1
                ready.append(call)
            if sender.waiting_bytes > MAX_WAITING_BYTES:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many answers wait for a window")
            most -= 1
        self._buffer, self._position, self.unread = data[position:], 0, False

    def _read_preface(self, data: bytes) -> int:
        """Section 3.4."""
        if not frames.PREFACE.startswith(data[: len(frames.PREFACE)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        if len(data) < len(frames.PREFACE):
            return 0
        self._phase = Phase.SETTINGS
        return len(frames.PREFACE)

    def _on_frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> Call | None:
        """Any one frame, by its type."""
        if self._phase is Phase.SETTINGS:
            if frame_type != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS come first")  # section 3.4
            self._phase = Phase.OPEN
        if self._receiver.open_block is not None and frame_type != frames.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")  # section 6.10
        try:
            call = self._on.get(frame_type, self._control.on_unknown)(flags, stream_id, payload, self._now)
        except StreamFault as fault:
            self._patience.spend(FAULT_COST, self._now)
            self._sender.reset(stream_id, fault.code)
            return None
        if self._receiver.serves_calls:
            self._control.ask_for_no_table()
        return call

    def begin_drain(self) -> None:
        """Take no new streams, in two steps: see :meth:`.Control.begin_drain`. :attr:`finished` tells the end."""
        if self._phase is not Phase.CLOSED:
            self._control.begin_drain()

    def end_drain(self) -> None:
        """The second step, if the peer's PING does not come: see :meth:`.Control.end_drain`."""
        if self._phase is not Phase.CLOSED:
            self._control.end_drain()

    def expire(self, now: float) -> None:
        """End what took too long: handshakes, requests that do not arrive, answers that a window holds back."""
        if self._phase in {Phase.PREFACE, Phase.SETTINGS} and now >= self._handshake_deadline:
            self._fail(ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "no handshake in time"))
        for call in [call for call in self.calls.values() if now >= call.deadline]:
            if call.unsent:
                self._sender.reset(call.stream_id, ErrorCode.CANCEL)
            else:
                self._sender.refuse(call, DEADLINE_PASSED)

    def drop(self) -> None:
        """The peer is gone; nothing is kept of what it sent."""
        for call in self.calls.values():
            call.take_body()

    def _fail(self, fault: ConnectionFault) -> None:
        """Section 5.4.1."""
        self.fault = fault
        self._phase = Phase.CLOSED
        self._buffer, self._position, self.unread = b"", 0, False
        self._sender.out.append(frames.goaway_frame(self._receiver.last_stream_id, fault.code, fault.message))
        for call in list(self.calls.values()):
            self._sender.forget(call)


def _frame_table(receiver: Receiver, control: Control) -> dict[int, OnFrame]:
    return {
        DATA: receiver.on_data,
        HEADERS: receiver.on_headers,
        frames.CONTINUATION: receiver.on_continuation,
        frames.SETTINGS: control.on_settings,
        frames.PING: control.on_ping,
        frames.WINDOW_UPDATE: control.on_window_update,
        frames.RST_STREAM: control.on_reset,
        frames.PRIORITY: control.on_priority,
        frames.GOAWAY: control.on_goaway,
        frames.PUSH_PROMISE: control.on_push_promise,
    }
