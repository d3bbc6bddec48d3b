"""base64url without padding, RFC 7515 section 2: one octet sequence has exactly one accepted spelling."""

import binascii
from typing import Final

# "+", "/" and "=" become a character that no alphabet has, so that only the URL-safe alphabet passes.
_TO_STANDARD_ALPHABET: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING: Final = (b"", None, b"==", b"=")
# RFC 4648 section 3.5: the bits of the last character that belong to no octet must be zero.
_LAST_CHARACTERS: Final = ("", "", "AQgw", "AEIMQUYcgkosw048")


class NotBase64Url(ValueError):
    """The text is not canonical base64url."""


def decode(text: str) -> bytes:
    """The octets; the empty text stands for none; :raises NotBase64Url: for every other spelling of them."""
    rest = len(text) % 4
    padding = _PADDING[rest]
    if padding is None or (rest and text[-1] not in _LAST_CHARACTERS[rest]):
        raise NotBase64Url("the length or the last character is impossible")
    try:
        return binascii.a2b_base64(text.encode("ascii").translate(_TO_STANDARD_ALPHABET) + padding, strict_mode=True)
    except ValueError:  # binascii.Error and UnicodeEncodeError are both
        raise NotBase64Url("a character is outside the alphabet") from None


def encode(octets: bytes) -> str:
    """The one spelling that :func:`decode` accepts."""
    return binascii.b2a_base64(octets, newline=False).translate(_TO_URL_ALPHABET, b"=").decode("ascii")


_TO_URL_ALPHABET: Final = bytes.maketrans(b"+/", b"-_")
