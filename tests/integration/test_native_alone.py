"""With the native transport, which is the default, no process of the service holds a gRPC library."""

from pathlib import Path

import pytest

from tests.support.service import Service, service


def libraries(running: Service) -> str:
    """What is mapped into the process: an extension module that was imported once stays there."""
    return Path(f"/proc/{running.pid}/maps").read_text(encoding="utf-8")


@pytest.mark.parametrize(("environ", "expected"), [
    pytest.param({}, False, id="default"),
    pytest.param({"AUTHZ_TRANSPORT": "native"}, False, id="native"),
    pytest.param({"AUTHZ_TRANSPORT": "grpcio"}, True, id="grpcio, or this test would see nothing"),
])  # fmt: skip
async def test_the_grpc_library_is_loaded_only_on_demand(environ: dict[str, str], expected: bool) -> None:
    async with service(environ) as running:
        assert ("/grpc/_cython/cygrpc" in libraries(running)) == expected
