"""The keys of all trusted issuers: one ring each, and nothing shared, so that one issuer's outage touches no other."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator

from authz_service.errors import Reason, TokenRefused
from authz_service.issuers import TrustedIssuer
from authz_service.keys.current import CurrentKeysByIssuer
from authz_service.keys.followed import FollowedRing
from authz_service.keys.jwks import KeyRing
from authz_service.keys.source import KeySetSource
from authz_service.token.jws import VerificationKey

log = logging.getLogger(__name__)

OpenSource = Callable[[TrustedIssuer], KeySetSource]
Ring = KeyRing | FollowedRing
OpenRing = Callable[[str, KeySetSource], Ring]


class KeyRings:
    """Key rings by the exact ``iss``; the source of keys for token verification. Trusts nobody before :meth:`use`.

    :param open_source: where an issuer's key set comes from.
    :param open_ring: a ring of this issuer and source that is not started.
    """

    def __init__(self, open_source: OpenSource, open_ring: OpenRing) -> None:
        self._open_source = open_source
        self._open_ring = open_ring
        self._trusted: dict[str, TrustedIssuer] = {}
        self._rings: dict[str, Ring] = {}
        self._current = CurrentKeysByIssuer()
        self.vouches = self._current.vouches
        """``vouches(issuer, key, now)``, see :meth:`.CurrentKeysByIssuer.vouches`."""
        self._retired_hits = self._retired_misses = 0
        self._started = False
        self._stopping: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Ring]:
        return iter(self._rings.values())

    def use(self, issuers: Iterable[TrustedIssuer]) -> None:
        """Have the keys of these issuers and no others, now.

        Whoever stays keeps its keys, also while it is asked at another place for the first time.
        """
        trusted = {issuer.issuer: issuer for issuer in issuers}
        before = self._trusted
        # First all that may fail: then nothing has changed.
        sources = {
            iss: self._open_source(issuer) for iss, issuer in trusted.items()
            if iss not in before or _place(issuer) != _place(before[iss])
        }  # fmt: skip
        rings = {iss: self._rings.get(iss) or self._open_ring(iss, sources[iss]) for iss in trusted}
        gone = [ring for iss, ring in self._rings.items() if iss not in trusted]
        self._trusted, self._rings = trusted, rings
        self._current.use({iss: ring.current for iss, ring in rings.items()})
        for iss, source in sources.items():
            if iss in before:
                rings[iss].use_source(source)
            elif self._started:
                rings[iss].start()
        for ring in gone:
            self._retire(ring)
        if trusted.keys() != before.keys():
            log.info("trusted issuers: %s", ", ".join(trusted))

    def start(self) -> None:
        """Begin to fetch, also for issuers that come later."""
        self._started = True
        for ring in self:
            ring.start()

    async def stop(self) -> None:
        """End all tasks."""
        await asyncio.gather(*self._stopping, *(ring.stop() for ring in self))

    def refresh_now(self) -> None:
        """Fetch each issuer's keys as soon as possible."""
        for ring in self:
            ring.refresh_now()

    @property
    def ready(self) -> bool:
        """Whether at least one issuer's tokens can be decided: one issuer's outage is not the others'."""
        return any(ring.ready for ring in self)

    @property
    def age_seconds(self) -> float | None:
        """Since the last good refresh, of the issuer where that is longest ago; None before the first of all."""
        return max((ring.age_seconds for ring in self if ring.age_seconds is not None), default=None)

    def hits_and_misses(self) -> tuple[int, int]:
        """How many look-ups found their key, and how many did not; with those of issuers that are gone."""
        figures = [(self._retired_hits, self._retired_misses), *(ring.hits_and_misses() for ring in self)]
        return sum(hits for hits, _ in figures), sum(misses for _, misses in figures)

    def key(self, issuer: str, kid: str) -> VerificationKey:
        """The issuer's key.

        :raises TokenRefused: the issuer is not one of ours.
        :raises UnknownKeyId: the key is not in the issuer's current set.
        :raises Unavailable: the issuer has no key set, or none that is young enough.
        """
        return self._ring(issuer).key(kid)

    def mark_used(self, issuer: str, kid: str) -> None:
        """A token was accepted by this key."""
        self._ring(issuer).mark_used(kid)

    def holds(self, issuer: str, key: VerificationKey) -> bool:
        """See :meth:`.ServedKeys.holds`."""
        ring = self._rings.get(issuer)
        return ring is not None and ring.holds(key)

    async def refresh_for_unknown_kid(self, issuer: str, kid: str) -> None:
        """See :meth:`KeyRing.refresh_for_unknown_kid`; other issuers are not asked, nor one that has just left."""
        ring = self._rings.get(issuer)
        if ring is not None:
            await ring.refresh_for_unknown_kid(kid)

    def _ring(self, issuer: str) -> Ring:
        ring = self._rings.get(issuer)
        if ring is None:
            raise TokenRefused(Reason.ISSUER_MISMATCH, "The access token was not issued by a trusted issuer.")
        return ring

    def _retire(self, ring: Ring) -> None:
        hits, misses = ring.hits_and_misses()
        self._retired_hits += hits
        self._retired_misses += misses
        if self._started:
            stopping = asyncio.create_task(ring.stop())
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)


def _place(issuer: TrustedIssuer) -> tuple[str, bool]:
    return issuer.keys_url, issuer.discovery
