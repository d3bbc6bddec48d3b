"""A ``CheckRequest`` as Envoy writes it, read in one pass over its octets.

A decision needs five fields of it, and protobuf's library builds a tree of objects around them. That takes time, and
more where requests come one at a time: then neither the objects nor their code are in the processor's caches. What is
not written as Envoy does it, or is wrong, is :class:`Unusual` here and left to the library; what is read here is what
the library would read (protobuf's encoding guide).
"""

from typing import Final

from authz_service.errors import Reason, RequestRefused
from authz_service.transport.protobuf_wire import LENGTH_DELIMITED, VARINT

WIRE_TYPE: Final = 0x07
FIRST_TAG: Final = 0x08
"""Of field number 1."""
MORE: Final = 0x80
"""Of a tag, a number or a length: another octet follows."""
LONGEST_NUMBER: Final = 10
"""Octets; the last has one bit of the 64."""

# Tags, each a field number and a wire type in one octet.
ATTRIBUTES: Final = 0x0A
"""Of ``CheckRequest``."""
REQUEST: Final = 0x22
"""Of ``AttributeContext``."""
HTTP: Final = 0x12
"""Of ``AttributeContext.Request``."""
ID: Final = 0x0A
"""This and the next of ``AttributeContext.HttpRequest``."""
METHOD: Final = 0x12
HEADERS: Final = 0x1A
PATH: Final = 0x22
HOST: Final = 0x2A
HEADER_MAP: Final = 0x6A
NAME: Final = 0x0A
"""Of an entry of ``headers``."""
VALUE: Final = 0x12

Fields = tuple[str, str, str, str, list[tuple[str, str]]]
"""``id``, ``method``, ``path``, ``host`` and ``headers``; what is not there is empty."""


class Unusual(Exception):
    """To be read in the general way."""


def malformed() -> RequestRefused:
    """Of whatever is not a ``CheckRequest`` about an HTTP request."""
    return RequestRefused(Reason.REQUEST_MALFORMED, "The request cannot be read.")


def read_fields(message: bytes) -> Fields:
    """Of ``attributes.request.http``.

    :raises Unusual: it may or may not be a ``CheckRequest``.
    """
    try:
        at, end = _only_one(message, ATTRIBUTES, 0, len(message))
        at, end = _only_one(message, REQUEST, at, end)
        at, end = _only_one(message, HTTP, at, end)
        return _read_http(message, at, end)
    except (IndexError, UnicodeDecodeError):
        raise Unusual from None


def _only_one(message: bytes, wanted: int, at: int, end: int) -> tuple[int, int]:
    """Where the content of a field begins and ends, among others. Of two, the library would make one."""
    found = found_end = -1
    while at < end:
        tag = message[at]
        if tag != wanted:
            at = _skip(message, tag, at + 1, end)
        elif found < 0:
            found, at = _content(message, at + 1, end)
            found_end = at
        else:
            raise Unusual
    if found < 0:
        raise Unusual
    return found, found_end


def _read_http(message: bytes, at: int, end: int) -> Fields:
    own_id = method = path = host = ""
    headers: list[tuple[str, str]] = []
    while at < end:
        tag = message[at]
        if tag == HEADERS:
            start, at = _content(message, at + 1, end)
            headers.append(_read_header(message, start, at))
        elif tag == METHOD:
            method, at = _text(message, at + 1, end)
        elif tag == PATH:
            path, at = _text(message, at + 1, end)
        elif tag == HOST:
            host, at = _text(message, at + 1, end)
        elif tag == ID:
            own_id, at = _text(message, at + 1, end)
        elif tag == HEADER_MAP:
            raise Unusual
        else:
            at = _skip(message, tag, at + 1, end)
    if len(headers) > 1 and _named_twice(headers):
        raise Unusual  # the last counts
    return own_id, method, path, host, headers


def _named_twice(headers: list[tuple[str, str]]) -> bool:
    if len(headers) == 2:  # noqa: PLR2004 - as in most requests: without a table
        return headers[0][0] == headers[1][0]
    return len(dict(headers)) < len(headers)


def _read_header(message: bytes, at: int, end: int) -> tuple[str, str]:
    """An entry of a map: a name and a value, in this order."""
    name, name_end = _text(message, at + 1, end)
    value, value_end = _text(message, name_end + 1, end)
    if message[at] != NAME or message[name_end] != VALUE or value_end != end:
        raise Unusual
    return name, value


def _text(message: bytes, at: int, end: int) -> tuple[str, int]:
    """Of a field that is text, whose length stands here: the text, and where it ends."""
    start, stop = _content(message, at, end)
    return message[start:stop].decode(), stop


def _content(message: bytes, at: int, end: int) -> tuple[int, int]:
    """Of a length-delimited field, whose length stands here: where it begins and ends."""
    length = message[at]
    at += 1
    if length & MORE:
        length = (length - MORE) | message[at] << 7
        if message[at] & MORE:
            raise Unusual  # longer than 16 KiB
        at += 1
    if at + length > end:
        raise Unusual
    return at, at + length


def _skip(message: bytes, tag: int, at: int, end: int) -> int:
    """Where a field ends that is not needed."""
    if tag & MORE or tag < FIRST_TAG:
        raise Unusual
    wire_type = tag & WIRE_TYPE
    if wire_type == LENGTH_DELIMITED:
        return _content(message, at, end)[1]
    if wire_type != VARINT:
        raise Unusual
    for last in range(at, at + LONGEST_NUMBER):
        if message[last] < MORE:
            break
    else:
        raise Unusual
    if last >= end or (last == at + LONGEST_NUMBER - 1 and message[last] > 1):
        raise Unusual
    return last + 1
