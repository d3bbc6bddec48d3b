"""What one test has had remembered answers no other."""

import pytest

from authz_service.token import jws


@pytest.fixture(autouse=True)
def no_known_headers() -> None:
    jws._known_header.cache_clear()
