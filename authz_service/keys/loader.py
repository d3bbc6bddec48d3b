"""One load of a key set: fetched, read, or confirmed by the issuer to be still the same."""

import logging
from collections.abc import Callable
from typing import NamedTuple

from authz_service.errors import FetchFailure, KeySetRefused
from authz_service.keys.jwk import KeySet
from authz_service.keys.source import Fetched, KeySetSource

NO_USABLE_KEYS = "no_usable_keys"
"""The cause of :class:`NoUsableKeys`."""

log = logging.getLogger(__name__)


class NoUsableKeys(KeySetRefused):
    """The document is well-formed and of no use.

    :param key_set: what was found in it.
    """

    def __init__(self, key_set: KeySet) -> None:
        self.leaked = key_set.leaked
        why = ", ".join(sorted({skipped.cause for skipped in key_set.skipped})) or "it is empty"
        super().__init__(NO_USABLE_KEYS, f"the document holds no key that can be used: {why}")


class Loaded(NamedTuple):
    """A key set that may be used, and the document that it stands in."""

    key_set: KeySet
    document: bytes
    etag: str | None
    max_age_seconds: float | None


class KeySetLoader:
    """Loads, and remembers the last good load for the next 304 (RFC 9110 section 15.4.5) to confirm.

    :param parse: a JWKS document -> its usable keys; raises KeySetRefused.
    """

    def __init__(self, source: KeySetSource, parse: Callable[[bytes], KeySet]) -> None:
        self._source = source
        self._parse = parse
        self._good: Loaded | None = None

    @property
    def url(self) -> str:
        """Where the key set is fetched."""
        return self._source.url

    async def load(self) -> Loaded:
        """Fetch and read; :raises KeySetRefused: and then the next load is as if this one had not been."""
        before = self._good
        fetched = await self._source.fetch(before.etag if before else None)
        if fetched.document is not None:
            key_set = self.read(fetched.document)
            self._good = Loaded(key_set, fetched.document, fetched.etag, fetched.max_age_seconds)
        elif before is not None:
            self._good = _confirmed(before, fetched)
        else:
            raise KeySetRefused(FetchFailure.HTTP_STATUS, "HTTP 304 for a request without conditions")
        return self._good

    def read(self, document: bytes) -> KeySet:
        """The usable keys of a document, at least one; :raises KeySetRefused:."""
        try:
            key_set = self._parse(document)
        except KeySetRefused:
            raise
        except Exception as defect:
            log.exception("A key set broke its parser. This is a defect: please report this line.")
            raise KeySetRefused("internal_error", type(defect).__name__) from None
        if not key_set.keys:
            raise NoUsableKeys(key_set)
        return key_set


def _confirmed(before: Loaded, fetched: Fetched) -> Loaded:
    """RFC 9111 section 3.2: a 304 renews the headers that it carries; the others stay."""
    max_age = before.max_age_seconds if fetched.max_age_seconds is None else fetched.max_age_seconds
    return before._replace(etag=fetched.etag or before.etag, max_age_seconds=max_age)
