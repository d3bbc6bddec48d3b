"""Why an address cannot be listened on is said as the system says it."""

import socket
from contextlib import ExitStack, suppress
from itertools import permutations
from pathlib import Path

import pytest

from authz_service.address import Address
from authz_service.errors import ConfigurationError
from authz_service.transport.grpcio_server import GrpcioServer
from authz_service.transport.listening import is_served, listen
from tests.support.check_level import Checks
from tests.support.ports import has_ipv6

POLICY = "{version: 1, rules: [{name: all, match: {path: /}, public: true}]}"


def refusal(address: Address) -> str:
    """The one problem with this address."""
    with pytest.raises(ConfigurationError) as caught:
        listen((address,))
    (problem,) = caught.value.problems
    return problem


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    address = Address(path=f"{tmp_path}/no/authz.sock")
    assert refusal(address) == f"AUTHZ_LISTEN: cannot listen on {address}: No such file or directory"


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(host="127.0.0.1", port=taken.getsockname()[1])
        assert f"cannot listen on {address}: Address already in use" in refusal(address)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize(("first", "second"), list(permutations(["0.0.0.0", "127.0.0.1", "[::]", "[::1]"], 2)))  # noqa: S104
def test_what_is_covered_is_taken_and_nothing_else(first: str, second: str) -> None:
    with ExitStack() as opened:
        ((one, sock),) = listen((Address.parse(f"{first}:0"),))
        opened.enter_context(sock)
        other = Address.parse(f"{second}:{one.port}")
        if one.covers(other) or other.covers(one):
            assert "Address already in use" in refusal(other)
        else:
            for _, also in listen((other,)):
                opened.enter_context(also)


def test_a_host_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    address = Address(host="no.such.host", port=9191)
    assert refusal(address) == f"AUTHZ_LISTEN: cannot listen on {address}: Name or service not known"


def test_a_reason_that_is_not_the_systems_own(tmp_path: Path) -> None:
    address = Address(path=f"{tmp_path}/{'long' * 50}.sock")
    assert refusal(address) == f"AUTHZ_LISTEN: cannot listen on {address}: AF_UNIX path too long"


def test_a_name_that_can_be_none() -> None:
    assert refusal(Address(host="a..b", port=9191)).startswith("AUTHZ_LISTEN: cannot listen on a..b:9191: ")


async def test_the_grpc_library_takes_no_socket_over(tmp_path: Path) -> None:
    address = Address(path=f"{tmp_path}/authz.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(address.path)
        other.listen()
        with pytest.raises(ConfigurationError, match=f"cannot listen on {address}: Address already in use"):
            GrpcioServer(Checks(POLICY).service, (address,))
        assert is_served(address)


def test_a_socket_of_a_server_that_hangs_is_taken(tmp_path: Path) -> None:
    address = Address(path=f"{tmp_path}/authz.sock")
    with ExitStack() as opened:
        hanging = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        hanging.bind(address.path)
        hanging.listen(0)
        with suppress(BlockingIOError):
            for _ in range(100):
                client = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                client.setblocking(False)
                client.connect(address.path)
        assert refusal(address) == f"AUTHZ_LISTEN: cannot listen on {address}: Address already in use"
