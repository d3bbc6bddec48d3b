"""One polite, bounded HTTP GET: so keys are fetched, and so the Auth-API is asked. Whatever answers is not trusted with
more than that.
"""

import ssl

from authz_service import __version__
from authz_service.errors import FetchFailure, NoAnswer
from authz_service.http_library import aiohttp
from authz_service.http_url import is_https

TlsOfConnector = ssl.SSLContext | bool


def tls_for(url: str) -> TlsOfConnector:
    """What a connector to a checked URL wants to know of TLS; loads certificates only where they are needed.

    Those of the system are trusted, or of OpenSSL's ``SSL_CERT_FILE``.
    """
    return ssl.create_default_context() if is_https(url) else True


def new_session(connector: aiohttp.TCPConnector, accept: str) -> aiohttp.ClientSession:
    """A session without a proxy and without cookies: what one answer sets does not go with the next question.

    Nor has it a time-out: whoever asks bounds the whole.

    :param accept: the media types that are wanted.
    """
    headers = {
        "Accept": accept,
        # RFC 9110 section 12.5.3: nothing compressed, so that no body is larger than what travels.
        "Accept-Encoding": "identity",
        "User-Agent": f"authz-service/{__version__}",
    }
    return aiohttp.ClientSession(
        connector=connector, headers=headers, trust_env=False, auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None),
    )  # fmt: skip


# The first that fits counts: TimeoutError and most of aiohttp's connection errors are OSErrors as well.
_FAILURES: tuple[tuple[type[Exception] | tuple[type[Exception], ...], FetchFailure, str], ...] = (
    (TimeoutError, FetchFailure.TIMEOUT, "no complete answer in time"),
    ((aiohttp.ClientConnectorDNSError, UnicodeError), FetchFailure.DNS, "the host name does not resolve"),
    ((aiohttp.ClientSSLError, ssl.SSLError), FetchFailure.TLS, "no trusted TLS connection; check certificate and CA"),
    (
        (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError),
        FetchFailure.CONNECTION, "the connection failed or broke off",
    ),
    (Exception, FetchFailure.HTTP_MALFORMED, "the answer is not HTTP"),
)  # fmt: skip

FAILURES = (TimeoutError, aiohttp.ClientError, OSError, ValueError)
"""What asking raises beside :class:`.NoAnswer`. ValueError: IDNA and URL parsing, for a host that cannot be one."""


def in_our_words(error: Exception) -> NoAnswer:
    """What an error of the client means: its own text may repeat what the other side sent."""
    return next(NoAnswer(cause, message) for kinds, cause, message in _FAILURES if isinstance(error, kinds))


def check_head(response: aiohttp.ClientResponse) -> None:
    """:raises NoAnswer: unless this is a plain 200."""
    status = response.status
    if 300 <= status <= 399 and status != 304:  # noqa: PLR2004 - RFC 9110 section 15.4
        raise NoAnswer(FetchFailure.REDIRECT, f"HTTP {status}: redirects are not followed; give the final URL")
    if status != 200:  # noqa: PLR2004
        raise NoAnswer(FetchFailure.HTTP_STATUS, f"HTTP {status} instead of 200")
    codings = response.headers.getall("Content-Encoding", [])
    if any(coding.strip().lower() not in {"", "identity"} for coding in codings):
        raise NoAnswer(FetchFailure.CONTENT_ENCODING, "the document is compressed although that was not asked for")


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """All of it; :raises NoAnswer: ``too_large`` as soon as that is seen."""
    too_large = NoAnswer(FetchFailure.TOO_LARGE, f"the document is larger than {max_bytes} bytes")
    if (response.content_length or 0) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)
