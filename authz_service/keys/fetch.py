"""One GET of a JWKS document, and what its answer says of how long it is good."""

import asyncio
import logging
import ssl

from multidict import CIMultiDict, CIMultiDictProxy

from authz_service.errors import FetchFailure, KeySetRefused, NoAnswer
from authz_service.http_get import FAILURES, check_head, in_our_words, new_session, read_body, tls_for
from authz_service.http_library import aiohttp
from authz_service.http_url import is_exposed, shown
from authz_service.keys.jwk import MAX_DOCUMENT_BYTES
from authz_service.keys.source import Fetched

MAX_ETAG_LENGTH = 256

ACCEPT = "application/jwk-set+json, application/json"

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

log = logging.getLogger(__name__)


class Fetcher:
    """Fetches one URL.

    :param timeout_seconds: for all of it: name resolution, TLS and the last byte.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.url = url
        self._timeout_seconds = timeout_seconds
        self._tls = tls_for(url)
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
        except NoAnswer as failure:
            raise KeySetRefused(failure.cause, str(failure)) from None
        except FAILURES as error:
            raise self._refused(error) from None

    def _session(self) -> aiohttp.ClientSession:
        """A session for one fetch: names are resolved anew, and no connection is kept."""
        return new_session(aiohttp.TCPConnector(force_close=True, ssl=self._tls), ACCEPT)

    async def _get(self, session: aiohttp.ClientSession, etag: str | None) -> Fetched:
        conditions = {} if etag is None else {"If-None-Match": etag}
        async with session.get(self.url, headers=conditions, allow_redirects=False) as response:
            if etag is not None and response.status == 304:  # noqa: PLR2004 - RFC 9110 section 15.4.5
                return Fetched(None, etag_of(response.headers) or etag, max_age_seconds(response.headers))
            check_head(response)
            document = await read_body(response, MAX_DOCUMENT_BYTES)
            return Fetched(document, etag_of(response.headers), max_age_seconds(response.headers))

    def _refused(self, error: Exception) -> KeySetRefused:
        failure = in_our_words(error)
        late = failure.cause is FetchFailure.TIMEOUT
        message = f"no complete answer within {self._timeout_seconds:g} s" if late else str(failure)
        return KeySetRefused(failure.cause, f"{message} ({_detail(error)})")


def _detail(error: Exception) -> str:
    certificate_error = getattr(error, "certificate_error", None)
    if isinstance(certificate_error, ssl.SSLCertVerificationError):
        return str(certificate_error.verify_message)
    strerror = getattr(error, "strerror", None)
    return strerror if isinstance(strerror, str) else type(error).__name__


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
