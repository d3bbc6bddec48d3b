"""The optional allow-list of hosts: exact names, and ``*.suffix`` for all names below one."""

from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final

from authz_service.alphabet import Alphabet

MAX_HOST_LENGTH: Final = 253
"""RFC 1035 section 2.3.4, written without the trailing dot."""
MAX_LABEL_LENGTH: Final = 63

HOST_PATTERN: Final = r"^((\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*|\[[0-9A-Fa-f:.]+\])$"

_NAME: Final = Alphabet(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")


class HostList:
    """Which ``:authority`` values are served.

    :param patterns: as :func:`parse_host_pattern` gives them; ``None`` permits any host.
    """

    def __init__(self, patterns: Iterable[str] | None = None) -> None:
        patterns = None if patterns is None else tuple(patterns)
        self._any = patterns is None
        self._names = frozenset(pattern for pattern in patterns or () if not pattern.startswith("*"))
        self._suffixes = tuple(pattern[1:] for pattern in patterns or () if pattern.startswith("*"))

    def permits(self, host: str) -> bool:
        """Whether this ``:authority``, port or not, is on the list, if there is one; a malformed one is on none."""
        if self._any:
            return True
        if not host.isascii():  # lower-casing maps the Kelvin sign to "k"
            return False
        name = _without_port(host).lower()
        return name in self._names or (name.endswith(self._suffixes) and _is_name(name))


def parse_host_pattern(text: str) -> str:
    """The lower-case form of a pattern; :raises ValueError: saying what would be right."""
    pattern = text.lower()
    name = pattern.removeprefix("*.")
    if text.isascii() and (_is_name(name) or _is_ipv6_literal(pattern)):
        return pattern
    raise ValueError(
        'must be a host name such as "chat.example.com" or "*.chat.internal", without scheme, port or path '
        "(international names in their xn-- form)"
    )


def _without_port(host: str) -> str:
    """RFC 3986 section 3.2: ``host [ ":" port ]``; an IPv6 literal keeps its brackets."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _is_name(name: str) -> bool:
    if len(name) > MAX_HOST_LENGTH or not _NAME.spells(name):
        return False
    labels = name.split(".")
    return "" not in labels and max(map(len, labels)) <= MAX_LABEL_LENGTH


def _is_ipv6_literal(text: str) -> bool:
    if not (text.startswith("[") and text.endswith("]")) or "%" in text:  # no zones: they mean something on one host
        return False
    try:
        return str(IPv6Address(text[1:-1])) == text[1:-1]  # compared as text, so in its one canonical form
    except ValueError:
        return False
