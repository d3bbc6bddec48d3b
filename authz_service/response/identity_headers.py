"""Verified claims -> ``x-auth-*`` request headers, header contract 1.

Values are printable ASCII. UTF-8 is percent-encoded wherever a byte is not visible ASCII, or is ``%`` or ``,``; a list
is joined by commas after that. So ``["a,b"]`` reads ``a%2Cb`` and can never grant ``b``.
"""

from collections.abc import Iterable
from typing import Any
from unicodedata import category
from urllib.parse import quote

from authz_service.errors import AccessRefused, Reason, TokenRefused
from authz_service.model import Claims

PREFIX = "x-auth-"
CONTRACT_HEADER = ("x-auth-contract", "1")
SHADOW_HEADER = "x-auth-shadow"

VISIBLE_ASCII_LESS_SEPARATORS = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%,")


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

    def render(self, claims: Claims) -> tuple[tuple[str, str], ...]:
        """An absent claim is an absent header, an empty list an empty one.

        :raises TokenRefused: ``claims_invalid`` for a claim that no header can carry.
        :raises AccessRefused: ``claims_too_large``; a list is never cut short.
        """
        headers = tuple(
            (header, value)
            for claim, header in self._claims_to_headers
            if (value := _header_value(_claim(claims, claim))) is not None
        )
        if sum(len(name) + len(value) for name, value in headers) > self._max_bytes:
            raise AccessRefused(Reason.CLAIMS_TOO_LARGE, "The token's claims are too large to be forwarded.")
        return headers


def is_identity_header(name: str) -> bool:
    """Whether an upstream could read this client-sent name as one of ours: CGI and WSGI fold ``-`` and ``_``."""
    # Asked for each header: most have another first or third letter, and need no copy of themselves.
    return name[:1] in "xX" and name[2:3] in "aA" and name.lower().replace("_", "-").startswith(PREFIX)


def _claim(claims: Claims, name: str) -> object:
    return claims.expires_at if name == "exp" else claims.payload.get(name)


def _header_value(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _encode(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return ",".join(_encode(item) for item in _texts(value))
    raise _unforwardable()


def _texts(items: Iterable[object]) -> Iterable[str]:
    for item in items:
        if not isinstance(item, str) or not item:
            raise _unforwardable()  # an empty item would read as an empty list
        yield item


def _encode(text: str) -> str:
    if text.isascii() and text.isprintable():
        return quote(text, safe=VISIBLE_ASCII_LESS_SEPARATORS)
    if any(category(character) in {"Cc", "Cs"} for character in text):
        raise _unforwardable()
    return quote(text, safe=VISIBLE_ASCII_LESS_SEPARATORS)


def _unforwardable() -> TokenRefused:
    return TokenRefused(Reason.CLAIMS_INVALID, "A claim of the token cannot be forwarded as a header.")
