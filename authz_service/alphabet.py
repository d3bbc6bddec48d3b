"""Whether a text keeps to an alphabet: asked of each request's path, token and headers, character by character."""

import re
from typing import Final

TCHARS: Final = r"!#$%&'*+.^_`|~0-9A-Za-z-"
"""What a method and the name of a header are made of (RFC 9110 section 5.6.2), as the set of a regular expression."""
HTTP_TOKEN: Final = re.compile(f"[{TCHARS}]+")


class Alphabet:
    """ASCII characters that may occur in a text.

    ``bytes.translate`` gives the octets back untouched where its table changes none of them. To have it delete those
    that may occur takes longer: for that it makes a table each time.
    """

    def __init__(self, octets: bytes) -> None:
        self._changes_others = bytes(octet if octet in octets else octet ^ 1 for octet in range(256))

    def spells(self, text: str) -> bool:
        """Whether nothing else occurs in it; true of the empty text."""
        if not text.isascii():
            return False
        octets = text.encode()
        return octets.translate(self._changes_others) == octets
