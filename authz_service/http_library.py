"""aiohttp, less the certificates of the system: it loads all of them as it is imported.

Nobody here uses the TLS context that it keeps them in: whoever connects with TLS brings one. So aiohttp is shown a
place without certificates for that moment. Its context trusts nobody then, should it ever be used.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _no_certificates() -> Iterator[None]:
    paths = ssl.get_default_verify_paths()
    before = {name: os.environ.get(name) for name in (paths.openssl_cafile_env, paths.openssl_capath_env)}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


with _no_certificates():
    import aiohttp
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware

__all__ = ["Handler", "Middleware", "aiohttp", "web"]
