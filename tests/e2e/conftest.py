"""Which server Envoy reaches: every test with the default one, those that are marked with the other one, too."""

import pytest

from authz_service.config import Config

DEFAULT = str(Config().transport)
OTHER = "grpcio"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on_both_transports: the gRPC library's server answers Envoy the same")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transport" in metafunc.fixturenames:
        on_both = metafunc.definition.get_closest_marker("on_both_transports")
        metafunc.parametrize("transport", [DEFAULT, OTHER] if on_both else [DEFAULT], indirect=True, scope="module")


@pytest.fixture(scope="module")
def transport(request: pytest.FixtureRequest) -> str:
    """For ``AUTHZ_TRANSPORT``."""
    return str(request.param)
