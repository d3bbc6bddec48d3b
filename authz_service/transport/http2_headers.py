"""Header blocks: compressed bytes -> the head of one call, and our few answers -> compressed bytes.

After the peer has acknowledged ``SETTINGS_HEADER_TABLE_SIZE = 0`` and has said so in a header block (RFC 7541 section
4.2), there is no dynamic table any more: equal bytes mean equal headers, for a whole block and for each field in it.
Envoy sends the same block for each call, so that whole heads are remembered; with tracing on, ``traceparent`` differs
each time, so that fields are remembered, too.
"""

import re
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Final, TypeVar

import hpack

from authz_service.transport.grpc_wire import (
    BAD_TIMEOUT,
    COMPRESSED,
    LONGEST_CALL_SECONDS,
    NOT_GRPC,
    NOT_POST,
    Refusal,
    is_grpc,
    timeout_seconds,
)
from authz_service.transport.http2_frames import ConnectionFault, ErrorCode, StreamFault

MAX_HEADER_BYTES: Final = 80 * 1024
"""Of a header block, and of the list in it as RFC 9113 section 6.5.2 counts it (32 bytes more for each field).

More than a client's headers can be (``max_request_headers_kb``, 60): with tracing on, Envoy copies its ``tracestate``
into the call, and the end of the connection would be the end of everybody's calls.
"""
MAX_FIELDS: Final = 256
"""Of a header block. A call has a dozen, and the names are Envoy's; each takes time, however small it is."""
MAX_SIZE_UPDATES: Final = 2
"""Of a header block, RFC 7541 section 4.2: the smallest size that there was, and the one that is."""
REMEMBERED_HEADS: Final = 64
REMEMBERED_FIELDS: Final = 256
REMEMBERED_BYTES: Final = 1_024
"""Longer blocks and fields are decoded each time: what is remembered stays below half a megabyte a connection."""

# RFC 9113 section 8.2.1
_NAME: Final = re.compile(rb":?[!-9;-@\[-~]+")
_BAD_VALUE: Final = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
# RFC 9113 section 8.2.2
_CONNECTION_SPECIFIC = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
# RFC 9113 sections 8.3.1 and 8.5
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_REQUIRED: Final = frozenset({b":method", b":scheme", b":path"})
_REQUIRED_BY_CONNECT: Final = frozenset({b":method", b":authority"})

_READ = _PSEUDO | _CONNECTION_SPECIFIC | {b"te", b"content-type", b"content-length", b"grpc-timeout", b"traceparent"}
"""Names whose values mean something here."""

_LONG_INTEGER: Final = 0x7F
"""RFC 7541 section 5.1: a 7-bit prefix full of ones goes on in the next octets, 7 bits in each."""
_MAX_INTEGER_BITS: Final = 21
"""Of those; far more than a block can be long."""

Field = tuple[bytes, bytes]
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class CallHead:
    """What the headers say about a call."""

    path: bytes
    timeout: float
    """Seconds."""
    content_length: int | None
    refusal: Refusal | None
    """Set if the call cannot be served, whatever its message."""
    traceparent: bytes = b""
    """Of Envoy's own span around this call (W3C Trace Context section 3.2), as it came."""


class HeaderDecoder:
    """Decodes the header blocks of one connection, in their order."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEADER_BYTES)
        self._fields: dict[bytes, Field] = {}
        self.heads: dict[bytes, CallHead] = {}
        """Blocks whose meaning is known; to be asked before :meth:`call_head`."""
        self.undone = 0
        """Octets from which the compression was undone, ever: what is remembered, or stepped over, takes no time."""

    def forget_table(self) -> None:
        """The peer acknowledged ``SETTINGS_HEADER_TABLE_SIZE = 0``; hpack demands the size update in the next block."""
        self._decoder.max_allowed_table_size = 0

    @property
    def _self_contained(self) -> bool:
        return self._decoder.max_allowed_table_size == 0 and self._decoder.header_table_size == 0

    def call_head(self, block: bytes) -> CallHead:
        """The head of a call.

        :raises ConnectionFault: the block cannot be decoded, or is too large.
        :raises StreamFault: it is no well-formed request.
        """
        head = self.heads.get(block)
        if head is None:
            head = read_head(self.decode(block))
            if self._self_contained:
                _remember(self.heads, block, head, REMEMBERED_HEADS)
        return head

    def decode(self, block: bytes) -> list[Field]:
        """All fields of a block.

        :raises ConnectionFault: it cannot be decoded, or is too large.
        :raises StreamFault: a field is malformed.
        """
        pieces = split_fields(block) if self._self_contained else None
        if pieces is not None:
            return self._decode_pieces(pieces)
        _check_size_updates(block)
        fields = self._decode(block)
        _check_number(fields)
        for name, value in fields:
            check_field(name, value)
        return fields

    def _decode_pieces(self, pieces: list[bytes]) -> list[Field]:
        _check_number(pieces)
        fields = []
        size = 0
        for piece in pieces:
            field = self._fields.get(piece)
            if field is None:
                field = self._read_piece(piece)
                _remember(self._fields, piece, field, REMEMBERED_FIELDS)
            size += max(len(field[0]) + len(field[1]), len(piece)) + 32
            fields.append(field)
        if size > MAX_HEADER_BYTES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list larger than allowed")
        return fields

    def _read_piece(self, piece: bytes) -> Field:
        """One field. A long value that means nothing here is stepped over: to undo Huffman's code takes long, too."""
        if len(piece) > REMEMBERED_BYTES and (end_of_name := _value_start(piece)) is not None:
            ((name, _),) = self._decode(piece[:end_of_name] + b"\0")
            if name not in _READ:
                check_field(name, b"")
                return name, b""
        (field,) = self._decode(piece)
        check_field(*field)
        return field

    def _decode(self, block: bytes) -> list[Field]:
        self.undone += len(block)
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError:
            # The rest of the block is unread, so that the table is no longer the peer's: the connection cannot go on.
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list larger than allowed") from None
        except hpack.HPACKError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block that cannot be decoded") from None


def _check_number(fields: Sized) -> None:
    if len(fields) > MAX_FIELDS:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list of more fields than allowed")


def _check_size_updates(block: bytes) -> None:
    """Section 6.3 of RFC 7541. They come first, hpack sees to that, and would take any number of them."""
    at = 0
    for _ in range(MAX_SIZE_UPDATES + 1):
        if at == len(block) or block[at] & 0xE0 != 0x20:  # noqa: PLR2004
            return
        more = block[at] & 0x1F == 0x1F  # noqa: PLR2004 - section 5.1, the size goes on
        at += 1
        while more and at < len(block):
            more = block[at] > _LONG_INTEGER
            at += 1
    raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block with more size updates than allowed")


def _remember(memory: dict[bytes, V], key: bytes, value: V, limit: int) -> None:
    if len(key) > REMEMBERED_BYTES:
        return
    if len(memory) >= limit:
        del memory[next(iter(memory))]  # the oldest
    memory[key] = value


def split_fields(block: bytes) -> list[bytes] | None:
    """The fields of a block (RFC 7541 section 6); None for what hpack must see: size updates, errors."""
    pieces = []
    start, end = 0, len(block)
    try:
        while start < end:
            stop = _field_end(block, start)
            if stop is None or stop > end:
                return None
            pieces.append(block[start:stop])
            start = stop
    except IndexError:
        return None
    return pieces


def _field_end(block: bytes, start: int) -> int | None:
    if block[start] & 0x80:  # section 6.1, indexed; an index of more octets is beyond the static table: hpack says so
        return start + 1
    position = _value_start(block, start)
    return None if position is None else _string_end(block, position)


def _value_start(block: bytes, start: int = 0) -> int | None:
    """Where the value of a literal begins; None: there is none, or hpack must see it."""
    first = block[start]
    if first & 0x80 or first & 0x60 == 0x20:  # section 6.1, and 6.3, a size update  # noqa: PLR2004
        return None
    mask = 0x3F if first & 0x40 else 0x0F  # section 6.2, a literal with or without indexing
    position = start + 1
    if first & mask == mask:  # an index of two octets or more
        if block[position] & 0x80:
            return None
        position += 1
    return position if first & mask else _string_end(block, position)  # the name is indexed, or stands here


def _string_end(block: bytes, start: int) -> int | None:
    """Section 5.2; None for a length that no block can have."""
    length = block[start] & 0x7F
    position = start + 1
    if length == _LONG_INTEGER:
        shift = 0
        while True:
            octet = block[position]
            position += 1
            length += (octet & 0x7F) << shift
            if octet < 0x80:  # noqa: PLR2004 - the last one
                break
            shift += 7
            if shift > _MAX_INTEGER_BITS:
                return None
    return position + length


def read_head(fields: Iterable[Field]) -> CallHead:
    """:raises StreamFault: the request is malformed (RFC 9113 section 8.1.1)."""
    headers: dict[bytes, bytes] = {}
    pseudo_allowed = True
    for name, value in fields:
        if name.startswith(b":"):
            if not pseudo_allowed or name not in _PSEUDO or name in headers:
                raise malformed("pseudo-header fields: unknown, repeated or late")
        else:
            pseudo_allowed = False
        if headers.setdefault(name, value) != value and name == b"content-length":
            raise malformed("two lengths")
    _check_pseudo(headers)
    return CallHead(
        headers.get(b":path", b""), _timeout(headers), _content_length(headers), _refusal(headers),
        headers.get(b"traceparent", b""),
    )  # fmt: skip


def check_trailers(fields: Iterable[Field]) -> None:
    """:raises StreamFault: they are malformed; RFC 9113 section 8.1 has no pseudo-header fields in trailers."""
    for name, _ in fields:
        if name.startswith(b":"):
            raise malformed("a pseudo-header field among the trailers")


def malformed(message: str) -> StreamFault:
    """RFC 9113 section 8.1.1: a malformed request is a stream error."""
    return StreamFault(ErrorCode.PROTOCOL_ERROR, message)


def check_field(name: bytes, value: bytes) -> None:
    """:raises StreamFault: RFC 9113 section 8.2 does not allow it in a request."""
    if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
        raise malformed("a field name or value with characters that none may have")
    if name in _CONNECTION_SPECIFIC or (name == b"te" and value != b"trailers"):
        raise malformed("a connection-specific field")


def _check_pseudo(headers: dict[bytes, bytes]) -> None:
    if headers.get(b":method") == b"CONNECT":
        complete = headers.keys() & _PSEUDO == _REQUIRED_BY_CONNECT
    else:
        complete = headers.keys() >= _REQUIRED and headers[b":path"] != b""
    if not complete:
        raise malformed("pseudo-header fields: one is missing or empty")


def _timeout(headers: dict[bytes, bytes]) -> float:
    try:
        return timeout_seconds(headers[b"grpc-timeout"])
    except (KeyError, ValueError):  # a malformed one is refused by _refusal
        return LONGEST_CALL_SECONDS


def _content_length(headers: dict[bytes, bytes]) -> int | None:
    value = headers.get(b"content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:  # noqa: PLR2004 - far more than any message, far less than Python minds
        raise malformed("content-length is a number")
    return int(value)


def _refusal(headers: dict[bytes, bytes]) -> Refusal | None:
    if headers[b":method"] != b"POST":
        return NOT_POST
    if not is_grpc(headers.get(b"content-type", b"")):
        return NOT_GRPC
    try:
        timeout_seconds(headers.get(b"grpc-timeout", b"1H"))
    except ValueError:
        return BAD_TIMEOUT
    return None


def _literal(name: bytes, value: bytes) -> bytes:
    """RFC 7541 section 6.2.2: a literal without indexing, new name; both shorter than 127 octets."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


# Indices of the static table (RFC 7541 appendix A): 8 is ":status: 200", 31 is "content-type".
_STATUS_200: Final = b"\x88"
_CONTENT_TYPE: Final = b"\x0f\x10"

TABLE_SIZE_ZERO: Final = b"\x20"
"""RFC 7541 section 6.3. Leads the first block that we send: we never index, so the peer may choose any table size."""
ANSWER_BLOCK: Final = _STATUS_200 + _CONTENT_TYPE + b"\x10application/grpc"
TRAILERS_BLOCK: Final = _literal(b"grpc-status", b"0")


def refusal_block(refusal: Refusal) -> bytes:
    """GRPC's Trailers-Only response, or the head of a plain HTTP response where the request is not gRPC."""
    if refusal.http_status != 200:  # noqa: PLR2004
        status = str(refusal.http_status).encode()
        return b"\x08" + bytes([len(status)]) + status + _CONTENT_TYPE + b"\x0atext/plain"
    block = ANSWER_BLOCK + _literal(b"grpc-status", b"%d" % refusal.status)
    block += _literal(b"grpc-message", refusal.text.encode())
    return block + _literal(b"grpc-accept-encoding", b"identity") if refusal is COMPRESSED else block
