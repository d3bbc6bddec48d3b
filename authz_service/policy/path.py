"""A raw request target -> exact path segments, or a refusal.

What Envoy forwards is what the upstream will decode, normalise and route by its own lights. So a path that two readers
could take for two routes is refused here, not interpreted: what is left has one meaning, and is matched as it stands.
"""

from itertools import product
from typing import Final

from authz_service.alphabet import Alphabet
from authz_service.errors import Reason, RequestRefused

MAX_PATH_BYTES: Final = 8192
MAX_SEGMENTS: Final = 64

UNRESERVED: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
# RFC 3986 section 3.3, pchar less ";": servers differ in whether parameters (/a;x=1/b) belong to the segment.
PCHAR: Final = UNRESERVED + "!$&'()*+,=" + ":@"

_PATH: Final = Alphabet((PCHAR + "/%").encode("ascii"))

UNSAFE_WHEN_DECODED: Final = frozenset(b"/\\?#;%." + bytes(range(0x20)) + b"\x7f")
"""Octets that change the meaning of a path when somebody decodes it once more, or once too early."""

_OCTETS: Final = {
    f"{high}{low}": chr(octet)
    for high, low in product("0123456789abcdefABCDEF", repeat=2)
    if (octet := int(high + low, 16)) not in UNSAFE_WHEN_DECODED
}
"""What may follow a percent sign, and the octet that it stands for, as Latin-1."""

_C1_CONTROLS: Final = frozenset(map(chr, range(0x80, 0xA0)))


def split_target(target: str) -> tuple[str, ...]:
    """The segments of a request target in origin-form (RFC 9112 section 3.2.1), still percent-encoded.

    ``/a/b?c`` gives ``("a", "b")``, ``/a/b/`` gives ``("a", "b", "")`` and ``/`` gives ``("",)``.

    :raises RequestRefused: ``path_ambiguous`` for all that is not plain.
    """
    path = target.partition("?")[0]
    if path[:1] != "/" or "#" in target or len(path) > MAX_PATH_BYTES or not _PATH.spells(path):
        raise _ambiguous()
    segments = path[1:].split("/")
    follow = len(segments)
    if follow > MAX_SEGMENTS:
        raise _ambiguous()
    for segment in segments:
        follow -= 1
        if segment in ("", ".", "..") and (segment or follow):  # an empty one may be the last: /a/b/
            raise _ambiguous()
    if "%" in path:
        for segment in segments:
            decode_segment(segment)
    return tuple(segments)


def decode_segment(segment: str) -> str:
    """The text that a percent-encoded segment stands for (RFC 3986 section 2.1, in UTF-8).

    :raises RequestRefused: ``path_ambiguous`` unless it decodes to text that is safe to decode.
    """
    if "%" not in segment:
        return segment
    plain, *encoded = segment.split("%")
    try:
        octets = plain + "".join([_OCTETS[part[:2]] + part[2:] for part in encoded])
        text = octets.encode("latin-1").decode("utf-8")  # strict: neither overlong forms nor surrogates
    except (KeyError, UnicodeError):
        raise _ambiguous() from None
    if segment.isascii() and _C1_CONTROLS.isdisjoint(text):
        return text
    raise _ambiguous()


def _ambiguous() -> RequestRefused:
    return RequestRefused(Reason.PATH_AMBIGUOUS, "The path can be read in more than one way.")
