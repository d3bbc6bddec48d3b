"""What python-jose loads as it is imported is what keys are made of, and no more."""

import subprocess
import sys

import pytest

from authz_service.token import jose_library

LOADED = """
import sys
import authz_service.server
print(*sorted(name for name in sys.modules if name.startswith("cryptography.x509")))
from cryptography import x509
print(x509.__spec__ is not None, x509.load_pem_x509_certificate.__module__.startswith("authz_service"))
"""


def test_the_service_does_not_load_what_reads_certificates_and_others_still_can() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "True False"]


def test_a_certificate_would_not_be_read() -> None:
    with pytest.raises(ValueError, match="no keys are read out of certificates"):
        jose_library.load_pem_x509_certificate(b"-----BEGIN CERTIFICATE-----")
