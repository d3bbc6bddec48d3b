"""Where an issuer's keys are, by its own word: OpenID Connect Discovery 1.0 section 4."""

from collections.abc import Callable
from enum import StrEnum

from authz_service.errors import KeySetRefused
from authz_service.http_url import check_http_url, is_https
from authz_service.keys.source import Fetched, KeySetSource
from authz_service.token.strict_json import NotStrictJson, parse_object


class DiscoveryFault(StrEnum):
    """Why an issuer's metadata is not believed: the closed list of ``KeySetRefused.cause`` of this module."""

    NOT_JSON = "metadata_not_json"
    OTHER_ISSUER = "metadata_other_issuer"
    NO_JWKS_URI = "metadata_no_jwks_uri"


class DiscoveredSource:
    """A key set, found anew through the issuer's metadata at each fetch: keys that move are followed at once.

    Metadata that cannot be had or believed fail the fetch. The place where the keys were before is not asked then: it
    may belong to somebody else by now, and the last good keys serve on anyway.

    :param metadata: where the metadata are.
    :param open_source: where a key set is, by its URL.
    """

    def __init__(self, issuer: str, metadata: KeySetSource, open_source: Callable[[str], KeySetSource]) -> None:
        self._issuer = issuer
        self._metadata = metadata
        self._open_source = open_source
        self._jwks_uri = ""
        self._keys: KeySetSource | None = None

    @property
    def url(self) -> str:
        """The key set's, once it is known where that is."""
        return self._jwks_uri or self._metadata.url

    async def fetch(self, etag: str | None = None) -> Fetched:
        """The key set, or none if the one with ``etag`` is still right and where it was.

        :param etag: as an earlier answer had it: the ETag and its place, for two places may use the same one.
        :raises KeySetRefused: also with a :class:`DiscoveryFault` as cause.
        """
        metadata = await self._metadata.fetch()
        jwks_uri = read_metadata(metadata.document or b"", self._issuer)
        if self._keys is None or jwks_uri != self._jwks_uri:
            self._jwks_uri, self._keys = jwks_uri, self._open_source(jwks_uri)
        place = f"{jwks_uri} "
        known = etag.removeprefix(place) if etag is not None and etag.startswith(place) else None
        fetched = await self._keys.fetch(known)
        return fetched if fetched.etag is None else fetched._replace(etag=place + fetched.etag)


def read_metadata(document: bytes, issuer: str) -> str:
    """The ``jwks_uri`` in an issuer's metadata.

    :raises KeySetRefused: they are not this issuer's (section 4.3), or name no place that may be asked.
    """
    try:
        metadata = parse_object(document)
    except NotStrictJson as error:
        raise KeySetRefused(DiscoveryFault.NOT_JSON, f"the issuer's metadata are not JSON: {error}") from None
    if metadata.get("issuer") != issuer:
        raise KeySetRefused(DiscoveryFault.OTHER_ISSUER, "the metadata are another issuer's; compare to the letter")
    return _checked(metadata.get("jwks_uri"), issuer)


def _checked(jwks_uri: object, issuer: str) -> str:
    try:
        if isinstance(jwks_uri, str) and (is_https(check_http_url(jwks_uri)) or not is_https(issuer)):
            return jwks_uri
        problem = "must be an https:// URL, as the issuer"
    except ValueError as error:
        problem = str(error)
    raise KeySetRefused(DiscoveryFault.NO_JWKS_URI, f"the jwks_uri in the issuer's metadata {problem}")
