"""Addresses as people configure them: where a server listens."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Self

MAX_PATH_BYTES = 107
"""unix(7): ``sun_path`` less the zero at its end."""


class Address(NamedTuple):
    """Where a server listens: a TCP host and port, or a Unix socket path."""

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """``127.0.0.1:9191``, ``[::1]:9191`` or ``unix:///run/authz.sock``; :raises ValueError: for anything else."""
        if "," in text:  # not in a path either: in a list it would end the address
            raise ValueError("must be one address only, without a comma")
        if text.startswith("unix://"):
            path = text.removeprefix("unix://")
            if not path.startswith("/") or path != path.rstrip():
                raise ValueError("a Unix socket is written unix:///absolute/path, without a space at its end")
            if len(path.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
                raise ValueError(f"the path of a Unix socket has at most {MAX_PATH_BYTES} bytes")
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:  # noqa: PLR2004
            raise ValueError("must be host:port or unix:///path")
        return cls(host=_host(host), port=int(port))

    @property
    def is_one_place(self) -> bool:
        """Whether it names the same place each time it is listened on; port 0 is another one each time."""
        return bool(self.path or self.port)

    def covers(self, other: Self, *, ipv4_too: bool = True) -> bool:
        """Whether a server here leaves ``other`` to nobody: it is the same, or one that 0.0.0.0 or [::] stands for.

        A host name covers only itself: what it stands for shows when it is listened on.

        :param ipv4_too: whether [::] stands for IPv4 as well.
        """
        if not self.is_one_place or (self.port, self.path) != (other.port, other.path):
            return False
        mine, others = _ip(self.host), _ip(other.host)
        if mine == others:
            return True
        if isinstance(mine, str) or isinstance(others, str) or not mine.is_unspecified:
            return False
        return mine.version == others.version or (ipv4_too and isinstance(mine, IPv6Address))

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _host(text: str) -> str:
    """``localhost`` as it is, ``[::1]`` without its brackets; :raises ValueError: for what no server can listen on."""
    if text == "*":
        raise ValueError("* is no address; write 0.0.0.0 for all of IPv4, or [::]")
    if any(map(str.isspace, text)):
        raise ValueError("must be host:port or unix:///path, without spaces")
    if not set(text) & set("[]:"):
        return text
    if not (text.startswith("[") and text.endswith("]") and isinstance(_ip(text[1:-1]), IPv6Address)):
        raise ValueError("an IPv6 address is written in brackets: [::1]:port")
    return text[1:-1]


def _ip(host: str) -> IPv4Address | IPv6Address | str:
    """A name as it is."""
    try:
        return ip_address(host)
    except ValueError:
        return host
