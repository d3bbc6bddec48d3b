"""Verified claims -> ``x-auth-*`` request headers, header contract 1.

Values are printable ASCII. UTF-8 is percent-encoded wherever a byte is not visible ASCII, or is ``%`` or ``,``; a list
is joined by commas after that. So ``["a,b"]`` reads ``a%2Cb`` and can never grant ``b``.
"""

from typing import Any, Final
from unicodedata import category
from urllib.parse import quote

from authz_service.alphabet import Alphabet
from authz_service.errors import AccessRefused, Reason, TokenRefused
from authz_service.model import Claims, Headers

PREFIX: Final = "x-auth-"
CONTRACT_HEADER: Final = ("x-auth-contract", "1")
SHADOW_HEADER: Final = "x-auth-shadow"
EVERY_ALLOW: Final[Headers] = (CONTRACT_HEADER,)
"""Set on each allowed request, whoever calls."""

VISIBLE_ASCII_LESS_SEPARATORS: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%,")
_needs_no_encoding: Final = Alphabet(VISIBLE_ASCII_LESS_SEPARATORS.encode()).spells


class IdentityHeaders:
    """Renders the identity that chat-api reads.

    :param claims_to_headers: pairs of claim and header name, in the order of rendering.
    :param max_bytes: cap on all names and values together; Envoy fails a request whose headers outgrow its own limits.
    """

    def __init__(self, claims_to_headers: tuple[tuple[str, str], ...], max_bytes: int) -> None:
        self._claims_to_headers = claims_to_headers
        self._max_bytes = max_bytes
        self.reserved = (*(header for _, header in claims_to_headers), SHADOW_HEADER)
        """Names that no client may speak; each one that an answer does not set, it removes."""

    def render(self, claims: Claims) -> Headers:
        """An absent claim is an absent header, an empty list an empty one.

        :raises TokenRefused: ``claims_invalid`` for a claim that no header can carry.
        :raises AccessRefused: ``claims_too_large``; a list is never cut short.
        """
        payload = claims.payload
        headers: list[tuple[str, str]] = []
        size = 0
        for claim, header in self._claims_to_headers:
            value = (claims.expires_at or None) if claim == "exp" else payload.get(claim)
            if value is not None:
                text = _header_value(value)
                headers.append((header, text))
                size += len(header) + len(text)
        if size > self._max_bytes:
            raise AccessRefused(Reason.CLAIMS_TOO_LARGE, "The token's claims are too large to be forwarded.")
        return tuple(headers)


def identity_headers_in(headers: Headers) -> list[str]:
    """The client-sent names, in lower case, that an upstream could read as ours: CGI and WSGI fold ``-`` and ``_``."""
    names = []
    for name, _ in headers:
        # Asked of each header: most have another first or third letter, and need no copy of themselves.
        if name[:1] in "xX" and name[2:3] in "aA" and name.lower().replace("_", "-").startswith(PREFIX):
            names.append(name.lower())
    return names


def _header_value(value: Any) -> str:
    if isinstance(value, str):
        return _encode(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return _encode_list(value)
    raise _unforwardable()


def _encode_list(items: list[Any]) -> str:
    for item in items:
        if not isinstance(item, str) or not item:
            raise _unforwardable()  # an empty item would read as an empty list
    if _needs_no_encoding("".join(items)):
        return ",".join(items)
    return ",".join(map(_encode, items))


def _encode(text: str) -> str:
    if _needs_no_encoding(text):
        return text  # as nearly all are; quote() would give the same, at twice the price
    if text.isascii() and text.isprintable():
        return quote(text, safe=VISIBLE_ASCII_LESS_SEPARATORS)
    if any(category(character) in {"Cc", "Cs"} for character in text):
        raise _unforwardable()
    return quote(text, safe=VISIBLE_ASCII_LESS_SEPARATORS)


def _unforwardable() -> TokenRefused:
    return TokenRefused(Reason.CLAIMS_INVALID, "A claim of the token cannot be forwarded as a header.")
