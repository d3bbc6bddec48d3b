"""One polite, bounded HTTP GET of a JWKS document. Whatever answers is not trusted with more than that."""

import asyncio
import logging
import ssl
from ipaddress import ip_address
from typing import NoReturn
from urllib.parse import urlsplit

from multidict import CIMultiDict, CIMultiDictProxy

from authz_service import __version__
from authz_service.errors import KeySetRefused
from authz_service.http_library import aiohttp
from authz_service.http_url import is_https, shown
from authz_service.keys.jwk import MAX_DOCUMENT_BYTES
from authz_service.keys.source import Fetched, FetchFailure

MAX_ETAG_LENGTH = 256

REQUEST_HEADERS = {
    "Accept": "application/jwk-set+json, application/json",
    # RFC 9110 section 12.5.3: nothing compressed, so that no body is larger than what travels.
    "Accept-Encoding": "identity",
    "User-Agent": f"authz-service/{__version__}",
}

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

log = logging.getLogger(__name__)


class Fetcher:
    """Fetches one URL. With https it trusts the system's certificates, or those of OpenSSL's ``SSL_CERT_FILE``.

    :param timeout_seconds: for all of it: name resolution, TLS and the last byte.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.url = url
        self._timeout_seconds = timeout_seconds
        self._tls = ssl.create_default_context() if is_https(url) else True
        if is_exposed(url):
            log.warning(
                "%s is plain http outside this cluster: whoever is on the way can replace the keys. "
                "Give an https:// URL: AUTH_API_JWKS_URL, or issuers in the policy file.", shown(url),
            )  # fmt: skip

    async def fetch(self, etag: str | None = None) -> Fetched:
        """Fetch the document, or learn that the one with ``etag`` is still right.

        :raises KeySetRefused: with a :class:`FetchFailure` as cause.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds), self._session() as session:
                return await self._get(session, etag)
        # ValueError: what IDNA and URL parsing raise for a host that cannot be one.
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            self._refuse(error)

    def _session(self) -> aiohttp.ClientSession:
        """A session for one fetch: names are resolved anew and nothing is kept, no connection and no cookie."""
        connector = aiohttp.TCPConnector(force_close=True, ssl=self._tls)
        return aiohttp.ClientSession(
            connector=connector, headers=REQUEST_HEADERS, trust_env=False, auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),  # the one time-out is in fetch()
        )  # fmt: skip

    async def _get(self, session: aiohttp.ClientSession, etag: str | None) -> Fetched:
        conditions = {} if etag is None else {"If-None-Match": etag}
        async with session.get(self.url, headers=conditions, allow_redirects=False) as response:
            if etag is not None and response.status == 304:  # noqa: PLR2004 - RFC 9110 section 15.4.5
                return Fetched(None, etag_of(response.headers) or etag, max_age_seconds(response.headers))
            check_head(response)
            document = await read_body(response, MAX_DOCUMENT_BYTES)
            return Fetched(document, etag_of(response.headers), max_age_seconds(response.headers))

    def _refuse(self, error: Exception) -> NoReturn:
        cause, message = in_our_words(error)
        if cause is FetchFailure.TIMEOUT:
            message = f"no complete answer within {self._timeout_seconds:g} s"
        raise KeySetRefused(cause, f"{message} ({_detail(error)})") from None


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


def in_our_words(error: Exception) -> tuple[FetchFailure, str]:
    """What an error of the client means: its own text may repeat what the other side sent."""
    return next((cause, message) for kinds, cause, message in _FAILURES if isinstance(error, kinds))


def _detail(error: Exception) -> str:
    certificate_error = getattr(error, "certificate_error", None)
    if isinstance(certificate_error, ssl.SSLCertVerificationError):
        return str(certificate_error.verify_message)
    strerror = getattr(error, "strerror", None)
    return strerror if isinstance(strerror, str) else type(error).__name__


def check_head(response: aiohttp.ClientResponse) -> None:
    """:raises KeySetRefused: unless this is a plain 200."""
    status = response.status
    if 300 <= status <= 399 and status != 304:  # noqa: PLR2004 - RFC 9110 section 15.4
        raise KeySetRefused(FetchFailure.REDIRECT, f"HTTP {status}: redirects are not followed; give the final URL")
    if status != 200:  # noqa: PLR2004
        raise KeySetRefused(FetchFailure.HTTP_STATUS, f"HTTP {status} instead of 200")
    codings = response.headers.getall("Content-Encoding", [])
    if any(coding.strip().lower() not in {"", "identity"} for coding in codings):
        raise KeySetRefused(FetchFailure.CONTENT_ENCODING, "the document is compressed although that was not asked for")


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """All of it; :raises KeySetRefused: ``too_large`` as soon as that is seen."""
    too_large = KeySetRefused(FetchFailure.TOO_LARGE, f"the document is larger than {max_bytes} bytes")
    if (response.content_length or 0) > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def etag_of(headers: Headers) -> str | None:
    """The ``ETag`` (RFC 9110 section 8.8.3), if it is one that we would send back."""
    etag = headers.get("ETag", "")
    sendable = 0 < len(etag) <= MAX_ETAG_LENGTH and etag.isascii() and etag.isprintable()
    return etag if sendable else None


def max_age_seconds(headers: Headers) -> float | None:
    """``max-age`` of ``Cache-Control``, perhaps infinite; what cannot be read is as if it were absent."""
    directives: dict[str, str] = {}
    for directive in ",".join(headers.getall("Cache-Control", [])).split(","):
        name, _, value = directive.partition("=")
        # RFC 9111 section 4.2.1: of several, the first. Section 5.2: both spellings of the value, 60 and "60".
        directives.setdefault(name.strip().lower(), value.strip().strip('"'))
    # What frameworks send with every answer says nothing about how long keys live.
    if "no-store" in directives or "no-cache" in directives:
        return None
    digits = directives.get("max-age", "")
    return float(digits) if digits.isascii() and digits.isdigit() else None


def is_exposed(url: str) -> bool:
    """Whether ``url`` is plain http to a host outside loopback and the names of a cluster."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "http":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".svc", ".cluster.local", ".internal"))
