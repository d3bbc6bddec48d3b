"""What aiohttp loads as it is imported is nothing that anybody uses."""

import os
import subprocess
import sys
from pathlib import Path

from tests.support.certificates import Authority

COUNT = """
import gc, os, ssl
import authz_service.server
print(sum(len(each.get_ca_certs()) for each in gc.get_objects() if isinstance(each, ssl.SSLContext)))
print(*(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")))
print(len(ssl.create_default_context().get_ca_certs()))
"""


def test_the_service_loads_no_certificates_until_it_needs_them(tmp_path: Path) -> None:
    authority_file = Authority(tmp_path).ca_file
    environ = {name: value for name, value in os.environ.items() if name != "SSL_CERT_DIR"}
    environ["SSL_CERT_FILE"] = str(authority_file)
    done = subprocess.run([sys.executable, "-c", COUNT], env=environ, capture_output=True, text=True, check=True)
    loaded, left, own = done.stdout.splitlines()
    assert loaded == "0"
    assert left == f"{authority_file} None"  # the environment is as it was
    assert own == "1"
