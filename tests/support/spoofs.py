"""Every way to write an identity header that some server could take for one."""

from collections.abc import Iterator
from itertools import product

CONTRACT_NAMES = (
    "x-auth-sub", "x-auth-org-id", "x-auth-roles", "x-auth-permissions", "x-auth-username", "x-auth-email",
    "x-auth-exp", "x-auth-contract", "x-auth-shadow",
)  # fmt: skip
NAMES = (*CONTRACT_NAMES, "x-auth-anything", "x-auth-", "x-auth--sub", "x-auth-sub.")
"""Those, one that may be in the next contract, and odd ones."""

LIE = "spoofed"


def dashed(name: str) -> tuple[str, ...]:
    """The name in different cases; to HTTP they are one."""
    odd = "".join(letter.upper() if place % 2 else letter for place, letter in enumerate(name))
    return name, name.upper(), name.title(), odd


def folded(name: str) -> Iterator[str]:
    """The names that CGI and WSGI fold into this one: any ``-`` may be a ``_``; less the name itself."""
    for spelling in product(*(("-", "_") if letter == "-" else (letter,) for letter in name)):
        if "_" in spelling:
            yield "".join(spelling)


def spellings(name: str) -> list[str]:
    """All of these."""
    return [*dashed(name), *folded(name), name.replace("-", "_").upper(), name.title().replace("-", "_")]
