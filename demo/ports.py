"""Which TCP ports the demo uses, and whether they can be had."""

import random
import socket
from typing import NamedTuple, Self

LOOPBACK = "127.0.0.1"

CHOOSABLE = range(20_000, 32_000)
"""Below Linux's range for outgoing connections (32768-60999), which take ports at any moment."""


class Ports(NamedTuple):
    """One port for each part; the defaults are those of ``envoy/envoy.yaml`` and of authz-service."""

    envoy: int = 10000
    envoy_admin: int = 9901
    authz: int = 9191
    authz_admin: int = 9902
    auth_api: int = 8000
    chat_api: int = 8080

    @classmethod
    def any(cls) -> Self:
        """Ports that are free now."""
        chosen: list[int] = []
        while len(chosen) < len(cls._fields):
            port = free_port()
            if port not in chosen:
                chosen.append(port)
        return cls._make(chosen)

    def problems(self) -> list[str]:
        """One line for each port that cannot be had."""
        lines = [
            f"port {port}, wanted by {field.replace('_', '-')} (--{field.replace('_', '-')}-port), is taken"
            for field, port in self._asdict().items()
            if not is_free(port)
        ]
        if len(set(self)) < len(self):
            lines.append("two parts cannot share a port")
        return lines


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    while True:
        port = random.choice(CHOOSABLE)  # noqa: S311 - nothing secret about a port
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server could listen here."""
    with socket.socket() as candidate:
        # As servers do: a closed connection that lingers (TIME_WAIT) is no obstacle.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
