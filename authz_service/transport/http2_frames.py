"""HTTP/2 frames as bytes (RFC 9113 sections 4 and 6), and what ends a stream or a connection early."""

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import Final

from authz_service.errors import AuthzServiceError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4: what a client says first."""

# RFC 9113 section 6. Plain integers: the hot loop compares them for each frame.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FIELDS: Final = 0x20

FRAME_HEADER: Final = Struct(">BHBBL")
"""Length (24 bits, in two parts), type, flags, reserved bit and stream identifier: section 4.1."""
FRAME_HEADER_BYTES: Final = 9
STREAM_ID_MASK: Final = 0x7FFF_FFFF
MAX_STREAM_ID: Final = 0x7FFF_FFFF
MAX_WINDOW: Final = 0x7FFF_FFFF
DEFAULT_WINDOW: Final = 65_535
MAX_FRAME_BYTES: Final = 16_384
"""The least SETTINGS_MAX_FRAME_SIZE (section 6.5.2): each peer takes it, and this side asks for no more."""

UNSIGNED_32: Final = Struct(">L")
SETTING: Final = Struct(">HL")


class Setting(IntEnum):
    """RFC 9113 section 6.5.2."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """RFC 9113 section 7."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class ConnectionFault(AuthzServiceError):
    """RFC 9113 section 5.4.1: GOAWAY and the end of the connection.

    :param message: for the log and GOAWAY's debug data; constant text.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


class StreamFault(AuthzServiceError):
    """RFC 9113 section 5.4.2: RST_STREAM, and the connection goes on."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        self.code = code
        super().__init__(message)


def read_24(data: bytes, at: int) -> int:
    """An unsigned number of three octets. Reckoned here, because compiled that takes less than :mod:`struct`."""
    return data[at] << 16 | data[at + 1] << 8 | data[at + 2]


def read_32(data: bytes, at: int) -> int:
    """An unsigned number of four octets."""
    return data[at] << 24 | read_24(data, at + 1)


def frame(frame_type: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame of at most :data:`MAX_FRAME_BYTES`."""
    return FRAME_HEADER.pack(0, len(payload), frame_type, flags, stream_id) + payload


def settings_frame(values: Iterable[tuple[Setting, int]]) -> bytes:
    """Section 6.5."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(setting, value) for setting, value in values))


def reset_frame(stream_id: int, code: ErrorCode) -> bytes:
    """Section 6.4."""
    return frame(RST_STREAM, 0, stream_id, UNSIGNED_32.pack(code))


def goaway_frame(last_stream_id: int, code: ErrorCode, message: str = "") -> bytes:
    """Section 6.8."""
    return frame(GOAWAY, 0, 0, UNSIGNED_32.pack(last_stream_id) + UNSIGNED_32.pack(code) + message.encode())


def window_update_frame(stream_id: int, increment: int) -> bytes:
    """Section 6.9."""
    return frame(WINDOW_UPDATE, 0, stream_id, UNSIGNED_32.pack(increment))


def expect_length(payload: bytes, length: int) -> None:
    """:raises ConnectionFault: the frame's type has one right length, and it is another."""
    if len(payload) != length:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame of the wrong length for its type")


def without_padding(payload: bytes, flags: int) -> bytes:
    """Sections 6.1 and 6.2. :raises ConnectionFault: padding that is as long as the payload, or longer."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
