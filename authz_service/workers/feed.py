"""The keys of a worker, as its supervisor tells them."""

from functools import partial

from authz_service.config import Config
from authz_service.keys.followed import Elsewhere, FollowedRing
from authz_service.keys.jwk import parse_key_set
from authz_service.keys.rings import KeyRings
from authz_service.keys.served import KeyState
from authz_service.keys.source import KeySetSource
from authz_service.workers.link import Link


class Feed:
    """Tells each ring what is said about its issuer, also what was said before there was the ring."""

    def __init__(self, config: Config, link: Link) -> None:
        self._link = link
        self._max_stale_seconds = config.jwks_max_stale_seconds
        self._parse = partial(parse_key_set, algorithms=frozenset(config.algorithms))
        self._states: dict[str, KeyState] = {}
        self._rings: dict[str, FollowedRing] = {}

    def key_rings(self) -> KeyRings:
        """The rings, as yet of nobody."""
        elsewhere = Elsewhere()
        return KeyRings(lambda _: elsewhere, self._open_ring)

    def hear(self, state: KeyState) -> None:
        """What an issuer's keys are now."""
        self._states[state.issuer] = state
        if (ring := self._rings.get(state.issuer)) is not None:
            ring.follow(state)

    def forget(self, issuer: str) -> None:
        """Nobody fetches this issuer's keys any more; if it comes back, it begins anew."""
        self._states.pop(issuer, None)
        self._rings.pop(issuer, None)

    def answered(self, issuer: str) -> None:
        """What was asked for has been looked for, or will not be."""
        if (ring := self._rings.get(issuer)) is not None:
            ring.answered()

    def last_used(self) -> list[tuple[str, str, float]]:
        """When each key was last used here: issuer, key id, Unix seconds."""
        found = ((ring, kid, ring.last_used(kid)) for ring in self._rings.values() for kid in ring.kids)
        return [(ring.issuer, kid, at) for ring, kid, at in found if at is not None]

    def _open_ring(self, issuer: str, _source: KeySetSource) -> FollowedRing:
        ring = FollowedRing(issuer, self._parse, self._max_stale_seconds, self._seek)
        self._rings[issuer] = ring
        if (state := self._states.get(issuer)) is not None:
            ring.follow(state)
        return ring

    def _seek(self, issuer: str, kids: list[str]) -> None:
        self._link.send("seek", issuer=issuer, kids=kids)
