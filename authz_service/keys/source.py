"""Where a key set comes from. Apart from the fetcher, so that who only uses keys does not load an HTTP client."""

from typing import NamedTuple, Protocol


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
