"""Sockets that listen, before there is an event loop to serve them."""

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

from authz_service.address import Address
from authz_service.errors import ConfigurationError

BACKLOG = 1_024
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
"""A peer that has been silent for a minute is asked four times in another one whether it is still there (tcp(7))."""


def listen(addresses: tuple[Address, ...]) -> list[tuple[Address, socket.socket]]:
    """One socket each, with the address that it got. :raises ConfigurationError: which one failed first, and why."""
    with ExitStack() as opened:
        listening = []
        for address in addresses:
            sock = opened.enter_context(_listen(address))
            listening.append((address if address.path else address._replace(port=sock.getsockname()[1]), sock))
        opened.pop_all()
    return listening


def unlink(address: Address) -> None:
    """Remove the file of a Unix socket, if it is one and is still there."""
    if address.path:
        with suppress(OSError):
            Path(address.path).unlink()


def is_served(address: Address) -> bool:
    """Whether a server answers at this Unix socket, or hangs there."""
    if not (address.path and Path(address.path).is_socket()):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(0)  # one that hangs, with more clients than it accepts, would have us wait for ever
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            return False
        except OSError:  # it hangs, or is not ours to ask
            pass
    return True


def _listen(address: Address) -> socket.socket:
    try:
        return _listen_unix(address) if address.path else _listen_tcp(address)
    except (OSError, UnicodeError) as error:  # the latter for a name that can be none
        problem = f"AUTHZ_LISTEN: cannot listen on {address}: {getattr(error, 'strerror', None) or error}"
        raise ConfigurationError([problem]) from None


def _listen_tcp(address: Address) -> socket.socket:
    """Without SO_REUSEPORT: a second server on the same port is a mistake, not a load balancer."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, where = found[0]
    dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()  # [::] means IPv4 as well
    sock = socket.create_server(where[:2], family=family, backlog=BACKLOG, dualstack_ipv6=dual)
    _notice_lost_peers(sock)
    return sock


def _notice_lost_peers(sock: socket.socket) -> None:
    """A machine that is lost closes no connection, and each one takes the place of another for good.

    Set here, for accepted sockets inherit it.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):  # each system has its own
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _listen_unix(address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if Path(address.path).is_socket() and not is_served(address):
            unlink(address)  # a server that is gone left it behind
        sock.bind(address.path)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
