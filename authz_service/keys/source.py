"""Where a key set comes from. Apart from the fetcher, so that who only uses keys does not load an HTTP client."""

from enum import StrEnum
from typing import NamedTuple, Protocol


class FetchFailure(StrEnum):
    """Why no document arrived: the closed list of ``KeySetRefused.cause`` of :mod:`authz_service.keys.fetch`."""

    TIMEOUT = "timeout"
    DNS = "dns"
    CONNECTION = "connection"
    TLS = "tls"
    HTTP_MALFORMED = "http_malformed"
    HTTP_STATUS = "http_status"
    REDIRECT = "redirect"
    CONTENT_ENCODING = "content_encoding"
    TOO_LARGE = "too_large"


class Fetched(NamedTuple):
    """A good answer.

    ``document`` is None when the issuer says that the one with our ETag is still right (304).
    ``max_age_seconds`` comes from ``Cache-Control`` (RFC 9111 section 5.2.2.1), None when it says nothing usable.
    """

    document: bytes | None
    etag: str | None
    max_age_seconds: float | None


class KeySetSource(Protocol):
    """Where documents come from; see :class:`authz_service.keys.fetch.Fetcher`."""

    @property
    def url(self) -> str:
        """What is asked, or was last."""
        ...

    async def fetch(self, etag: str | None = None, /) -> Fetched:
        """The document, or none if the one with ``etag`` is still right; raises KeySetRefused."""
        ...
