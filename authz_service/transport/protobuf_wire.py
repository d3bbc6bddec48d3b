"""Fields of protobuf messages (its encoding guide), for what is written once for each request.

A message is its fields one after the other, in any order. So one can be put together from parts that were encoded
before, and the constructors of the generated classes cost several times what the octets do.
"""

from typing import Final

VARINT: Final = 0
"""The wire type of numbers."""
LENGTH_DELIMITED: Final = 2
"""The wire type of strings and of messages within messages."""
USUAL_LENGTHS: Final = 1024


class _Lengths(dict[int, bytes]):
    """The varint of each length; the usual ones are ready."""

    def __missing__(self, length: int) -> bytes:
        return _varint(length)


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits an octet
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


LENGTHS: Final = _Lengths((length, _varint(length)) for length in range(USUAL_LENGTHS))
"""What follows the tag of a field: how long its content is."""


def tag(field_number: int) -> bytes:
    """What leads a length-delimited field; its number is less than 16."""
    return bytes([field_number << 3 | LENGTH_DELIMITED])


def number(field_number: int, value: int) -> bytes:
    """A field that is one; the number of the field is less than 16, its value not negative."""
    return bytes([field_number << 3 | VARINT]) + _varint(value)


def delimited(field: bytes, content: bytes) -> bytes:
    """A field: its tag, the length, the content."""
    return field + LENGTHS[len(content)] + content
