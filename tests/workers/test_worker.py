"""What a worker carries with it: there are several, so each library counts several times."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("library", ["aiohttp", "grpc"])
def test_a_worker_loads_no_library_that_only_others_need(library: str) -> None:
    code = (
        "import sys, authz_service.workers.worker, authz_service.transport.native_server; "
        f"sys.exit({library!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
