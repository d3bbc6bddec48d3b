"""Frames that bring no request: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, PRIORITY, GOAWAY (RFC 9113 section 6)."""

from collections import deque
from collections.abc import Callable
from typing import Final

from authz_service.transport import http2_frames as frames
from authz_service.transport.http2_floods import FRAME_COST, SETTINGS_COST, Patience
from authz_service.transport.http2_frames import ConnectionFault, ErrorCode, Setting, StreamFault
from authz_service.transport.http2_headers import MAX_HEADER_BYTES
from authz_service.transport.http2_receiver import (
    CONNECTION_WINDOW,
    MAX_CONCURRENT_STREAMS,
    STREAM_WINDOW,
    Receiver,
    check_priority,
)
from authz_service.transport.http2_sender import Sender
from authz_service.transport.http2_streams import Call

DRAIN_PING: Final = b"draining"

_FIRST_SETTINGS: Final = frames.settings_frame((
    (Setting.MAX_CONCURRENT_STREAMS, MAX_CONCURRENT_STREAMS),
    (Setting.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
    (Setting.MAX_HEADER_LIST_SIZE, MAX_HEADER_BYTES),
))  # fmt: skip
_WIDEN_WINDOW: Final = frames.window_update_frame(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
_NO_TABLE: Final = frames.settings_frame(((Setting.HEADER_TABLE_SIZE, 0),))


class Control:
    """Acts on those frames, for one connection."""

    def __init__(self, calls: dict[int, Call], receiver: Receiver, sender: Sender, patience: Patience) -> None:
        self._calls = calls
        self._receiver = receiver
        self._sender = sender
        self._patience = patience
        self._draining = False
        self._no_table_asked = False
        self._unacknowledged: deque[Callable[[], None]] = deque([lambda: None])
        """For each SETTINGS frame that was sent (section 6.5.3), what its acknowledgement lets us do."""
        sender.out += [_FIRST_SETTINGS, _WIDEN_WINDOW]

    def ask_for_no_table(self) -> None:
        """Ask, once, for header blocks that stand for themselves; see http2_headers.py."""
        if not self._no_table_asked:
            self._no_table_asked = True
            self._sender.out.append(_NO_TABLE)
            self._unacknowledged.append(self._receiver.headers.forget_table)

    def on_settings(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        """Section 6.5."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            self._on_acknowledged(payload, now)
            return
        self._patience.spend(SETTINGS_COST, now)
        window = read_settings(payload).get(Setting.INITIAL_WINDOW_SIZE)
        self._sender.out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))  # before any DATA that it lets out
        if window is not None:
            self._sender.change_initial_window(window)

    def _on_acknowledged(self, payload: bytes, now: float) -> None:
        frames.expect_length(payload, 0)
        self._patience.spend(FRAME_COST, now)
        if self._unacknowledged:
            self._unacknowledged.popleft()()

    def on_ping(self, flags: int, stream_id: int, payload: bytes, now: float) -> None:
        """Section 6.7."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        frames.expect_length(payload, 8)
        self._patience.spend(FRAME_COST, now)
        if not flags & frames.ACK:
            self._sender.out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif self._draining and payload == DRAIN_PING:
            self.end_drain()

    def on_reset(self, _flags: int, stream_id: int, payload: bytes, now: float) -> None:
        """Section 6.4."""
        self._expect_stream(stream_id)
        frames.expect_length(payload, 4)
        self._patience.spend(FRAME_COST, now)
        call = self._calls.get(stream_id)
        if call is not None:
            self._sender.forget(call)

    def on_window_update(self, _flags: int, stream_id: int, payload: bytes, now: float) -> None:
        """Section 6.9."""
        if stream_id:
            self._expect_stream(stream_id)
        frames.expect_length(payload, 4)
        self._patience.spend(FRAME_COST, now)
        increment = frames.UNSIGNED_32.unpack(payload)[0] & frames.MAX_WINDOW
        if stream_id == 0:
            if not increment:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._sender.open_connection_window(increment)
        elif stream_id in self._calls:
            if not increment:
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._sender.open_window(self._calls[stream_id], increment)

    def on_priority(self, _flags: int, stream_id: int, payload: bytes, now: float) -> None:
        """Section 6.3: read, and ignored."""
        if not stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        check_priority(payload, stream_id)
        self._patience.spend(FRAME_COST, now)

    def on_goaway(self, _flags: int, stream_id: int, payload: bytes, now: float) -> None:
        """Section 6.8: the client opens no more streams, and closes when it has its answers."""
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:  # noqa: PLR2004 - last stream and error code
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY cut short")
        self._patience.spend(FRAME_COST, now)

    def on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes, _now: float) -> None:
        """Section 8.4: clients do not push."""
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def on_unknown(self, _flags: int, _stream_id: int, _payload: bytes, now: float) -> None:
        """Section 5.5: what nobody knows is ignored."""
        self._patience.spend(FRAME_COST, now)

    def _expect_stream(self, stream_id: int) -> None:
        """Section 5.1: a frame on stream 0, or on an idle one, that cannot be there."""
        if stream_id == 0 or stream_id > self._receiver.last_stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame on an idle stream")

    def begin_drain(self) -> None:
        """Section 6.8, first step: no new streams, please; those that the peer opens before it knows are still served.

        The PING's acknowledgement tells when it knows.
        """
        if not self._draining:
            self._draining = True
            self._sender.out.append(frames.goaway_frame(frames.MAX_STREAM_ID, ErrorCode.NO_ERROR))
            self._sender.out.append(frames.frame(frames.PING, 0, 0, DRAIN_PING))

    def end_drain(self) -> None:
        """Section 6.8, second step: what did not arrive until now may be tried elsewhere."""
        if self._receiver.last_accepted_id == frames.MAX_STREAM_ID:
            self._receiver.last_accepted_id = self._receiver.last_stream_id
            self._sender.out.append(frames.goaway_frame(self._receiver.last_stream_id, ErrorCode.NO_ERROR))


def read_settings(payload: bytes) -> dict[int, int]:
    """Section 6.5: the last value of each. :raises ConnectionFault: a value that section 6.5.2 does not allow."""
    if len(payload) % frames.SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS cut short")
    settings = {}
    for name, value in frames.SETTING.iter_unpack(payload):
        if name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is 0 or 1")
        if name == Setting.INITIAL_WINDOW_SIZE and value > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
        if name == Setting.MAX_FRAME_SIZE and not frames.MAX_FRAME_BYTES <= value < 1 << 24:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
        settings[name] = value
    return settings
