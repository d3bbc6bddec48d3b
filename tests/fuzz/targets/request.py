r"""The head of a request, through the whole service: ``GET /healthz\nhost: chat.example.com\naccept: */*``.

It becomes a ``CheckRequest`` as Envoy makes one, so that no mutation is spent on lengths. A ``!`` before the method
stands for ``encode_raw_headers``.
"""

from collections.abc import Iterable

from tests.fuzz.judge import judge

MAX_LENGTH = 4096

Header = tuple[bytes, bytes]


def fuzz(data: bytes) -> bool:
    """Accepted is what is let through."""
    return judge(check_request(data))


def check_request(head: bytes) -> bytes:
    """The wire format, written out (numbers of fields as in ``protos/``)."""
    first, *lines = head.split(b"\n")
    method, _, path = _as_envoy_sends(first.removeprefix(b"!")).partition(b" ")
    headers = [(_as_envoy_sends(name), value.removeprefix(b" ")) for name, _, value in (_split(line) for line in lines)]
    host = next((_as_envoy_sends(value) for name, value in headers if name == b"host"), b"")
    rest = [(name, value) for name, value in headers if name != b"host"]
    sent = _header_map(rest) if first.startswith(b"!") else _headers(rest)
    http = _field(2, method) + _field(4, path) + _field(5, host) + sent
    return _field(1, _field(4, _field(2, http)))


def _split(line: bytes) -> tuple[bytes, bytes, bytes]:
    return line.partition(b":")


def _headers(headers: Iterable[Header]) -> bytes:
    """One entry per name, in lower case, the values of a repeated header joined by commas."""
    joined: dict[bytes, bytes] = {}
    for name, value in headers:
        key, text = name.lower(), _as_envoy_sends(value)
        joined[key] = joined[key] + b"," + text if key in joined else text
    return b"".join(_field(3, _field(1, name) + _field(2, value)) for name, value in joined.items())


def _header_map(headers: Iterable[Header]) -> bytes:
    return _field(13, b"".join(_field(1, _field(1, name) + _field(3, value)) for name, value in headers))


def _as_envoy_sends(octets: bytes) -> bytes:
    return octets.decode("utf-8", "replace").replace("\N{REPLACEMENT CHARACTER}", "!").encode()


def _field(number: int, content: bytes) -> bytes:
    """Length-delimited, wire type 2."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*octets, value))
