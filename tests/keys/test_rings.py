"""Each issuer has its own keys; who is trusted can change at any moment."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from authz_service.errors import KeySetRefused, Reason, TokenRefused, Unavailable, UnknownKeyId
from authz_service.issuers import TrustedIssuer
from authz_service.keys.jwk import parse_key_set
from authz_service.keys.jwks import KeyRing
from authz_service.keys.rings import KeyRings
from authz_service.keys.schedule import Timing
from authz_service.keys.served import ServedKeys
from authz_service.keys.source import Fetched, KeySetSource
from authz_service.token.claims import ClaimRules
from tests.support.clock import Clock, VirtualTime, settle
from tests.support.tokens import NOW, jwks, signing_key

A, B = "https://a.test", "https://b.test"
NOWHERE = "https://down.test/"
TIMING = Timing(refresh_interval_seconds=1800, max_stale_seconds=86400, unknown_kid_cooldown_seconds=30)


def trusted(issuer: str, keys_url: str = "", *, discovery: bool = False) -> TrustedIssuer:
    return TrustedIssuer(ClaimRules(issuer, frozenset({"chat-api"}), 30), keys_url or f"{issuer}/keys", discovery)


class Place:
    """Keys at one URL: that of issuer ``a`` is called ``a``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.fetches = 0
        self.cancelled = False
        self.hangs = False

    async def fetch(self, _etag: str | None = None) -> Fetched:
        self.fetches += 1
        try:
            await asyncio.Event().wait() if self.hangs else None
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.url == NOWHERE:
            raise KeySetRefused("connection", "the connection failed")
        return Fetched(jwks(signing_key(self.url.removeprefix("https://")[0])), None, None)


class World:
    """Rings whose places are looked at."""

    def __init__(self) -> None:
        self.time = VirtualTime()
        self.opened: list[Place] = []
        self.rings = KeyRings(self._open_source, self._open_ring)

    def _open_source(self, issuer: TrustedIssuer) -> Place:
        self.opened.append(Place(issuer.keys_url))
        return self.opened[-1]

    def _open_ring(self, issuer: str, source: KeySetSource) -> KeyRing:
        return KeyRing(
            issuer, source, partial(parse_key_set, algorithms=frozenset({"RS256"})), TIMING, monotonic=self.time,
            wall_clock=Clock(NOW), random=lambda: 0.5, wait=self.time.wait,
        )  # fmt: skip

    def ring(self, issuer: str) -> ServedKeys:
        return next(ring for ring in self.rings if ring.issuer == issuer)

    def finds(self, issuer: str, kid: str) -> bool:
        try:
            return self.rings.key(issuer, kid).kid == kid
        except UnknownKeyId:
            return False

    async def use(self, *issuers: TrustedIssuer) -> None:
        self.rings.use(issuers)
        await settle()


@asynccontextmanager
async def world(*issuers: TrustedIssuer) -> AsyncIterator[World]:
    running = World()
    running.rings.use(issuers)
    running.rings.start()
    await settle()
    try:
        yield running
    finally:
        await running.rings.stop()


def reason_of(rings: KeyRings, issuer: str, kid: str = "a") -> Reason:
    with pytest.raises(TokenRefused) as refused:
        rings.key(issuer, kid)
    return refused.value.reason


def names(rings: Iterable[ServedKeys]) -> list[str]:
    return [ring.issuer for ring in rings]


class TestIssuers:
    async def test_the_issuer_chooses_the_ring_exactly(self) -> None:
        async with world(trusted(A), trusted(B)) as w:
            assert w.finds(A, "a")
            assert w.finds(B, "b")
            assert not w.finds(A, "b")
            for stranger in ("https://c.test", A + "/", A.upper(), ""):
                assert reason_of(w.rings, stranger) is Reason.ISSUER_MISMATCH

    async def test_before_anybody_is_trusted_nobody_is(self) -> None:
        async with world() as w:
            assert not w.rings.ready
            assert reason_of(w.rings, A) is Reason.ISSUER_MISMATCH

    async def test_the_outage_of_one_issuer_is_not_the_others(self) -> None:
        async with world(trusted(A), trusted(B, NOWHERE)) as w:
            assert w.rings.ready
            assert w.finds(A, "a")
            with pytest.raises(Unavailable):
                w.rings.key(B, "b")

    async def test_an_issuer_that_hangs_holds_up_no_other(self) -> None:
        async with world(trusted(A), trusted(B)) as w:
            w.opened[1].hangs = True
            w.rings.refresh_now()
            await settle()
            w.rings.refresh_now()
            await settle()
            assert [place.fetches for place in w.opened] == [3, 2]

    async def test_with_no_keys_at_all_they_are_not_ready(self) -> None:
        async with world(trusted(A, NOWHERE), trusted(B, NOWHERE)) as w:
            assert not w.rings.ready

    async def test_an_unknown_kid_refreshes_its_own_issuer_only(self) -> None:
        async with world(trusted(A), trusted(B)) as w:
            await w.rings.refresh_for_unknown_kid(B, "c")
            assert [place.fetches for place in w.opened] == [1, 2]

    async def test_an_unknown_kid_of_an_issuer_that_has_just_left_waits_for_nothing(self) -> None:
        async with world(trusted(A)) as w:
            await w.rings.refresh_for_unknown_kid(B, "c")
            assert w.opened[0].fetches == 1

    async def test_use_is_marked_at_the_issuer_of_the_token(self) -> None:
        async with world(trusted(A), trusted(B, f"{A}/keys")) as w:
            w.rings.mark_used(B, "a")
            assert (w.ring(A).last_used("a"), w.ring(B).last_used("a")) == (None, NOW)

    async def test_a_key_vouches_for_its_own_issuer_alone_and_not_once_that_has_left(self) -> None:
        async with world(trusted(A), trusted(B)) as w:
            key = w.rings.key(A, "a")
            assert w.rings.vouches(A, key, NOW)
            assert not w.rings.vouches(B, key, NOW)
            assert (w.rings.holds(A, key), w.rings.holds(B, key)) == (True, False)
            w.rings.use([trusted(B)])
            assert not w.rings.vouches(A, key, NOW)


class TestChange:
    async def test_a_new_issuer_gets_its_keys_and_who_stays_keeps_them(self) -> None:
        async with world(trusted(A)) as w:
            key = w.rings.key(A, "a")
            await w.use(trusted(A), trusted(B))
            assert w.rings.key(A, "a") is key
            assert w.finds(B, "b")
            assert [place.fetches for place in w.opened] == [1, 1]

    async def test_a_removed_issuer_is_refused_at_once_and_asked_no_more(self) -> None:
        async with world(trusted(A), trusted(B)) as w:
            w.opened[1].hangs = True
            w.rings.refresh_now()
            await settle()
            w.rings.use([trusted(A)])
            assert reason_of(w.rings, B, "b") is Reason.ISSUER_MISMATCH
            await settle()
            await w.time.advance(100_000)
            assert w.opened[1].cancelled
            assert w.opened[1].fetches == 2
            assert names(w.rings) == [A]

    async def test_an_issuer_that_comes_back_begins_without_keys(self) -> None:
        async with world(trusted(A), trusted(B)) as w:
            await w.use(trusted(A))
            w.rings.use([trusted(A), trusted(B)])
            with pytest.raises(Unavailable):
                w.rings.key(B, "b")
            await settle()
            assert w.finds(B, "b")

    async def test_other_audiences_change_nothing_about_the_keys(self) -> None:
        async with world(trusted(A)) as w:
            await w.use(trusted(A)._replace(rules=ClaimRules(A, frozenset({"other"}), 0)))
            assert [place.fetches for place in w.opened] == [1]

    @pytest.mark.parametrize("other", [trusted(A, B), trusted(A, discovery=True)])
    async def test_keys_at_another_place_are_fetched_there_now_and_the_old_ones_serve_until_then(
        self, other: TrustedIssuer
    ) -> None:
        async with world(trusted(A)) as w:
            w.rings.use([other])
            assert w.finds(A, "a")
            await settle()
            assert w.finds(A, other.keys_url.removeprefix("https://")[0])
            assert [place.fetches for place in w.opened] == [1, 1]

    @pytest.mark.parametrize("issuers", [(trusted(B),), (trusted(A, B),), (trusted(A, B), trusted(B, NOWHERE))])
    async def test_if_a_place_cannot_be_opened_nothing_changes(self, issuers: tuple[TrustedIssuer, ...]) -> None:
        async with world(trusted(A)) as w:
            def broken(issuer: TrustedIssuer) -> Place:
                if issuer is issuers[-1]:
                    raise OSError
                return Place(issuer.keys_url)

            w.rings._open_source = broken
            for _ in range(2):  # and no change is believed to be done already
                with pytest.raises(OSError):  # noqa: PT011 - nothing else is raised in here
                    w.rings.use(issuers)
            await settle()
            assert w.finds(A, "a")
            assert names(w.rings) == [A]

    async def test_stopping_ends_what_was_removed_a_moment_ago_as_well(self) -> None:
        async with world(trusted(A), trusted(B)) as w:
            w.opened[1].hangs = True
            w.rings.refresh_now()
            await settle()
            w.rings.use([])
            await w.rings.stop()
            assert w.opened[1].cancelled


class TestFigures:
    async def test_the_age_is_that_of_the_issuer_which_is_worst_off(self) -> None:
        async with world(trusted(A, NOWHERE)) as w:
            assert w.rings.age_seconds is None
            await w.use(trusted(A, NOWHERE), trusted(B))
            await w.time.advance(40)
            await w.use(trusted(A), trusted(B))
            assert [w.ring(A).age_seconds, w.ring(B).age_seconds, w.rings.age_seconds] == [0, 40, 40]

    async def test_look_ups_are_summed_and_those_of_removed_issuers_stay_counted(self) -> None:
        async with world(trusted(A), trusted(B)) as w:
            assert (w.finds(A, "a"), w.finds(A, "x"), w.finds(B, "b"), w.finds(B, "b")) == (True, False, True, True)
            assert w.rings.hits_and_misses() == (3, 1)
            await w.use(trusted(A))
            assert w.rings.hits_and_misses() == (3, 1)
