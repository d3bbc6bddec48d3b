"""python-jose, less X.509: it loads what reads keys out of certificates, a megabyte of memory that nobody here uses.

Keys come as numbers (RFC 7517). So python-jose is shown a stand-in for ``cryptography.x509`` as it is imported, which
reads no certificate, should it ever be asked. Whoever imports that module later gets the real one.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

X509 = "cryptography.x509"


def load_pem_x509_certificate(_data: bytes) -> NoReturn:
    """What python-jose asks of that module; :raises ValueError:."""
    raise ValueError("no keys are read out of certificates")


@contextmanager
def _no_x509() -> Iterator[None]:
    if X509 in sys.modules:
        yield  # loaded already: nothing to spare
        return
    stand_in = ModuleType(X509)
    stand_in.__dict__["load_pem_x509_certificate"] = load_pem_x509_certificate
    sys.modules[X509] = stand_in
    try:
        yield
    finally:
        del sys.modules[X509]


with _no_x509():
    from jose import jwk

__all__ = ["jwk"]
