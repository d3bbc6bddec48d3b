"""Ports for tests: none is fixed."""

import socket

from demo.ports import free_port

__all__ = ["free_port", "has_ipv6"]


def has_ipv6() -> bool:
    """Whether this machine can be listened on at [::1]; in many a container it cannot."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
