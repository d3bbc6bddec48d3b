"""gRPC over HTTP/2, as far as a unary call needs it (PROTOCOL-HTTP2.md of gRPC): messages, timeouts, statuses."""

import re
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from authz_service.errors import AuthzServiceError

MESSAGE_PREFIX: Final = Struct(">BL")
"""Length-Prefixed-Message: compressed flag, length."""
MESSAGE_PREFIX_BYTES: Final = 5
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
MAX_BODY_BYTES: Final = MESSAGE_PREFIX_BYTES + MAX_MESSAGE_BYTES

LONGEST_CALL_SECONDS: Final = 60.0
"""What ``grpc-timeout`` cannot exceed, and what holds without it: no call stays for ever."""

_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_UNIT_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class Status(IntEnum):
    """The gRPC status codes that the transport gives by itself."""

    OK = 0
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13


class Refusal(NamedTuple):
    """An answer without a message.

    :param text: constant, printable ASCII without ``%``, because ``grpc-message`` is percent-encoded.
    :param http_status: other than 200 for what is not gRPC at all; ``text`` is the body then.
    """

    status: Status
    text: str
    http_status: int = 200


class CallRefused(AuthzServiceError):
    """The call is answered with a status instead of a message."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.text)


NOT_POST: Final = Refusal(Status.UNIMPLEMENTED, "gRPC calls are POST requests", 405)
NOT_GRPC: Final = Refusal(Status.UNIMPLEMENTED, "the content-type of gRPC calls is application/grpc", 415)
BAD_TIMEOUT: Final = Refusal(Status.INTERNAL, "malformed grpc-timeout")
UNKNOWN_METHOD: Final = Refusal(Status.UNIMPLEMENTED, "unknown method")
COMPRESSED: Final = Refusal(Status.UNIMPLEMENTED, "compressed messages are not supported")
NOT_ONE_MESSAGE: Final = Refusal(Status.INTERNAL, "a unary call is one whole message")
TOO_LARGE: Final = Refusal(Status.RESOURCE_EXHAUSTED, "the message is larger than 4 MiB")
TOO_MUCH_WAITING: Final = Refusal(Status.RESOURCE_EXHAUSTED, "too many unfinished messages")
DEADLINE_PASSED: Final = Refusal(Status.DEADLINE_EXCEEDED, "the deadline passed")
FAILED: Final = Refusal(Status.INTERNAL, "internal error")


def read_message(body: bytes) -> bytes:
    """The one message of a unary call. :raises CallRefused: it is none, several, cut short or compressed."""
    if len(body) < MESSAGE_PREFIX_BYTES:
        raise CallRefused(NOT_ONE_MESSAGE)
    compressed, length = MESSAGE_PREFIX.unpack_from(body)
    if compressed == 1:
        raise CallRefused(COMPRESSED)
    if compressed or length != len(body) - MESSAGE_PREFIX_BYTES:
        raise CallRefused(NOT_ONE_MESSAGE)
    return body[MESSAGE_PREFIX_BYTES :]


def timeout_seconds(value: bytes) -> float:
    """``grpc-timeout`` in seconds, at most :data:`LONGEST_CALL_SECONDS`. :raises ValueError: it is malformed."""
    match = _TIMEOUT.fullmatch(value)
    if match is None:
        raise ValueError("malformed grpc-timeout")
    return min(int(match[1]) * _UNIT_SECONDS[match[2]], LONGEST_CALL_SECONDS)


def is_grpc(content_type: bytes) -> bool:
    """``application/grpc``, protobuf said or implied; other codecs (``+json``) and ``grpc-web`` are not spoken here."""
    media_type = content_type.partition(b";")[0].rstrip()
    return media_type in {b"application/grpc", b"application/grpc+proto"}
