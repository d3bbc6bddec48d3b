"""Length-delimited fields of protobuf messages (its encoding guide), for what is written once for each request.

A message is its fields one after the other, in any order. So one can be put together from parts that were encoded
before, and the constructors of the generated classes cost several times what the octets do.
"""

LENGTH_DELIMITED = 2
"""The wire type of strings and of messages within messages."""

_ONE_OCTET = tuple(bytes([length]) for length in range(0x80))


def tag(field_number: int) -> bytes:
    """What leads a length-delimited field; its number is less than 16."""
    return bytes([field_number << 3 | LENGTH_DELIMITED])


def delimited(field: bytes, content: bytes) -> bytes:
    """A field: its tag, the length as a varint, the content."""
    length = len(content)
    if length < 0x80:  # noqa: PLR2004 - seven bits an octet
        return field + _ONE_OCTET[length] + content
    if length < 0x4000:  # noqa: PLR2004 - nearly all that are longer
        return field + bytes((length & 0x7F | 0x80, length >> 7)) + content
    return field + _varint(length) + content


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - as above
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
