"""The life of a key set, in virtual time: no test here waits for a clock."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from authz_service.errors import KeySetRefused, Reason, Unavailable, UnknownKeyId
from authz_service.keys.fetch import Fetcher
from authz_service.keys.jwk import KeySet, parse_key_set
from authz_service.keys.jwks import HOLD_SECONDS, KeyObserver, KeyRing, wait_for
from authz_service.keys.schedule import Timing
from authz_service.keys.snapshot import Snapshot
from authz_service.keys.source import Fetched
from tests.support.clock import Clock, VirtualTime, settle
from tests.support.issuer import HTML, Behaviour, Compressed, EndlessBody, Issuer, Serve, Status, issuer, redirect
from tests.support.tokens import ISSUER, NOW, jwks, signing_key

TIMING = Timing(refresh_interval_seconds=1800, max_stale_seconds=86400, unknown_kid_cooldown_seconds=30)
BRIEF = TIMING._replace(refresh_interval_seconds=60, max_stale_seconds=600)
DOWN = KeySetRefused("connection", "the connection failed")
parse = partial(parse_key_set, algorithms=frozenset({"RS256"}))

Answer = Fetched | Exception


def good(*kids: str, max_age: float | None = None) -> Fetched:
    return Fetched(jwks(*map(signing_key, kids)), None, max_age)


LEAKED = Fetched(jwks({**signing_key("a").jwk(), "d": "AQAB"}), None, None)
"""The private half of ``a`` is in it, and nothing else."""


class Source:
    """Answers at once, in the way that ``behaviour`` says, unless it is told to hang."""

    url = "https://keys.example.com/jwks?key=s3cr3t"

    def __init__(self, answer: Answer) -> None:
        self.always = answer
        self.next: deque[Answer] = deque()
        self.hangs = False
        self.fetches = 0
        self.most_at_once = 0
        self._at_once = 0
        self._released = asyncio.Event()

    async def fetch(self, _etag: str | None = None) -> Fetched:
        self.fetches += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self.hangs:
                await self._released.wait()
            answer = self.next.popleft() if self.next else self.always
        finally:
            self._at_once -= 1
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)  # it may have been raised before
        return answer

    async def release(self) -> None:
        """Let the fetch that hangs go on; later ones do not hang."""
        self.hangs = False
        self._released.set()
        await settle()


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.refreshes = 0
        self.withdrawn: list[set[str]] = []
        self.failures: list[str] = []

    def refreshed(self, issuer: str, key_set: KeySet, withdrawn: frozenset[str]) -> None:
        assert issuer == ISSUER
        assert key_set.keys
        self.refreshes += 1
        if withdrawn:
            self.withdrawn.append(set(withdrawn))

    def refresh_failed(self, issuer: str, cause: str) -> None:
        assert issuer == ISSUER
        self.failures.append(cause)


class World:
    """A ring with everything around it."""

    def __init__(
        self, answer: Answer | None = None, *, timing: Timing = TIMING, snapshot: Snapshot | None = None,
        observers: tuple[KeyObserver, ...] = (), parse: Callable[[bytes], KeySet] = parse,
    ) -> None:  # fmt: skip
        self.time = VirtualTime()
        self.wall = Clock(NOW)
        self.source = Source(answer or good("a"))
        self.seen = Recorder()
        self.ring = KeyRing(
            ISSUER, self.source, parse, timing, snapshot=snapshot, observers=(*observers, self.seen),
            wall_clock=self.wall, monotonic=self.time, random=lambda: 0.5, wait=self.time.wait,
        )  # fmt: skip

    def found(self, kid: str) -> bool:
        try:
            return self.ring.key(kid).kid == kid
        except UnknownKeyId:
            return False

    async def ask(self, kid: str) -> float:
        """An unknown key id; :returns: for how long it was held."""
        asked = self.time()
        await self.ring.refresh_for_unknown_kid(kid)
        return self.time() - asked

    async def settled_ask(self, kid: str) -> float:
        """The same, when nothing takes time."""
        held = await self.ask(kid)
        await settle()
        return held

    def messages(self, caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno >= level]


@asynccontextmanager
async def world(answer: Answer | None = None, **options: Any) -> AsyncIterator[World]:
    """Started, and the first fetch done."""
    made = World(answer, **options)
    made.ring.start()
    await settle()
    try:
        yield made
    finally:
        await made.ring.stop()


class TestStart:
    async def test_before_the_first_fetch_nothing_is_decided(self) -> None:
        ring = World().ring
        assert not ring.ready
        with pytest.raises(Unavailable):
            ring.key("a")

    async def test_after_it_the_keys_are_there(self) -> None:
        async with world(good("a", "b")) as w:
            assert w.ring.ready
            assert (set(w.ring.kids), w.ring.age_seconds, w.ring.last_error) == ({"a", "b"}, 0, None)

    async def test_an_issuer_that_is_down_is_asked_again_with_a_backoff_that_is_capped(self) -> None:
        async with world(DOWN) as w:
            fetched_at = []
            for _ in range(120 * 8):
                before = w.source.fetches
                await w.time.advance(0.125)
                if w.source.fetches != before:
                    fetched_at.append(w.time() - 1000)
            assert fetched_at == [0.375, 1.125, 2.625, 5.625, 11.625, 23.625, 46.125, 68.625, 91.125, 113.625]

    async def test_after_a_good_answer_the_backoff_starts_afresh(self) -> None:
        async with world(DOWN) as w:
            await w.time.advance(60)
            w.source.next.extend([good("a"), DOWN])
            await w.time.advance(30)
            w.ring.refresh_now()
            await settle()
            assert w.source.next == deque()
            assert w.ring.next_refresh_in == 0.375

    async def test_meanwhile_it_is_unavailable_and_says_when_to_come_back(self) -> None:
        async with world(DOWN) as w:
            await w.time.advance(60)
            with pytest.raises(Unavailable) as unavailable:
                w.ring.key("a")
            assert unavailable.value.reason is Reason.KEYS_UNAVAILABLE
            assert 1 <= unavailable.value.retry_after <= 30

    async def test_the_first_good_answer_makes_it_ready(self) -> None:
        async with world(DOWN) as w:
            w.source.always = good("a")
            await w.time.advance(0.5)
            assert w.found("a")
            assert w.ring.last_error is None

    async def test_it_can_be_stopped_in_the_middle_of_a_fetch(self) -> None:
        w = World()
        w.source.hangs = True
        w.ring.start()
        await settle()
        await w.ring.stop()
        assert w.source.fetches == 1

    async def test_it_can_be_stopped_without_having_been_started(self) -> None:
        await World().ring.stop()


class TestThreeAges:
    async def test_fresh_keys_are_refreshed_at_the_interval(self) -> None:
        async with world() as w:
            await w.time.advance(1799)
            assert w.source.fetches == 1
            await w.time.advance(1)
            assert w.source.fetches == 2
            assert w.ring.age_seconds == 0

    async def test_a_shorter_max_age_wins(self) -> None:
        async with world(good("a", max_age=600)) as w:
            await w.time.advance(600)
            assert w.source.fetches == 2

    async def test_stale_keys_are_served_for_a_day_and_tell_their_age(self) -> None:
        async with world() as w:
            w.source.always = DOWN
            await w.time.advance(86_399)
            assert w.ring.ready
            assert w.found("a")
            assert w.ring.age_seconds == 86_399
            assert w.ring.last_error is DOWN
            assert w.source.fetches < 86_400 / 20, "a service that hammers an issuer in trouble"

    async def test_beyond_that_it_is_unavailable_for_known_and_unknown_keys_alike(self) -> None:
        async with world(timing=BRIEF) as w:
            w.source.always = DOWN
            await w.time.advance(600)
            assert not w.ring.ready
            for kid in ("a", "b"):
                with pytest.raises(Unavailable):
                    w.ring.key(kid)

    async def test_and_one_good_refresh_later_all_is_well(self) -> None:
        async with world(timing=BRIEF) as w:
            w.source.always = DOWN
            await w.time.advance(900)
            w.source.always = good("a")
            await w.time.advance(30)
            assert w.found("a")

    async def test_the_wall_clock_moves_none_of_it(self) -> None:
        async with world() as w:
            w.wall.now += 10 * 86_400
            await w.time.advance(1)
            assert w.ring.ready
            assert (w.source.fetches, w.ring.age_seconds) == (1, 1)

    async def test_keys_outlive_an_interval_that_was_configured_longer_than_their_age(self) -> None:
        async with world(timing=TIMING._replace(max_stale_seconds=60)) as w:
            for _ in range(200):
                await w.time.advance(1)
                assert w.ring.ready


class TestUnknownKid:
    async def test_one_refresh_brings_it(self) -> None:
        async with world() as w:
            w.source.always = good("a", "b")
            assert await w.ask("b") == 0
            assert w.found("b")

    async def test_a_hundred_waiters_share_one_refresh_and_all_are_let_go(self) -> None:
        async with world() as w:
            w.source.hangs = True
            w.source.always = good("a", "b")
            waiters = [asyncio.create_task(w.ask("b")) for _ in range(100)]
            await settle()
            await w.source.release()
            assert [waiter.done() for waiter in waiters] == [True] * 100
            assert (w.source.fetches, w.source.most_at_once) == (2, 1)

    async def test_nobody_is_held_longer_than_150_ms(self) -> None:
        assert HOLD_SECONDS == 0.15
        async with world() as w:
            w.source.hangs = True
            waiter = asyncio.create_task(w.ask("b"))
            await w.time.advance(0.149)
            assert not waiter.done()
            await w.time.advance(0.001)
            assert waiter.done()

    @pytest.mark.parametrize("outcome", [good("a"), DOWN], ids=["succeeds", "fails"])
    async def test_the_cooldown_holds_whether_the_refresh_succeeds_or_fails(self, outcome: Answer) -> None:
        async with world() as w:
            w.source.always = outcome
            for second in range(30):
                await w.settled_ask(f"unknown {second}")
                await w.time.advance(1)
            assert w.source.fetches == 2
            await w.settled_ask("one more")
            assert w.source.fetches == 3

    async def test_outside_the_budget_it_is_not_held_at_all(self) -> None:
        async with world() as w:
            await w.settled_ask("b")
            waiter = asyncio.create_task(w.ask("c"))
            await settle()
            assert waiter.done()

    async def test_whether_it_may_come_is_known_without_waiting(self) -> None:
        async with world() as w:
            assert w.ring.may_come("b")
            await w.settled_ask("b")
            assert (w.ring.may_come("b"), w.ring.may_come("c")) == (False, False)
            w.source.hangs = True
            w.ring.refresh_now()
            await settle()
            assert (w.ring.may_come("b"), w.ring.may_come("c")) == (False, True)
            await w.source.release()
            for kid, may_come in (("b", False), ("c", False)):
                with pytest.raises(UnknownKeyId) as unknown:
                    w.ring.key(kid)
                assert unknown.value.may_come is may_come

    async def test_those_that_follow_the_ring_learn_when_they_may_ask_again(self) -> None:
        async with world() as w:
            assert w.ring.state().seek_from < w.time()
            await w.settled_ask("b")
            assert w.ring.state().seek_from == w.time() + 30
            w.source.hangs = True
            w.ring.refresh_now()
            await settle()
            assert w.ring.state().seek_from < w.time(), "they join the fetch that is under way"
            await w.source.release()

    async def test_one_that_was_looked_for_in_vain_neither_asks_nor_waits_again(self) -> None:
        """Not even when another refresh is under way, which everybody else may share."""
        async with world() as w:
            await w.settled_ask("b")
            w.source.hangs = True
            w.ring.refresh_now()
            await settle()
            again, other = asyncio.create_task(w.ask("b")), asyncio.create_task(w.ask("c"))
            await settle()
            assert (again.done(), other.done()) == (True, False)
            await w.source.release()

    async def test_a_client_stuck_with_a_withdrawn_key_leaves_the_budget_to_a_rotation(self) -> None:
        async with world() as w:
            for _ in range(89):
                await w.settled_ask("withdrawn")
                await w.time.advance(1)
            w.source.always = good("a", "b")
            await w.settled_ask("b")
            assert w.found("b")

    async def test_who_joins_a_refresh_that_is_under_way_spends_nothing(self) -> None:
        async with world() as w:
            w.source.hangs = True
            w.ring.refresh_now()
            await settle()
            joined = asyncio.create_task(w.ask("b"))
            await settle()
            await w.source.release()
            assert joined.done()
            await w.settled_ask("c")
            assert w.source.fetches == 3

    async def test_who_joins_a_refresh_that_is_about_to_begin_spends_nothing_either(self) -> None:
        async with world() as w:
            w.ring.refresh_now()
            await w.settled_ask("b")
            assert w.source.fetches == 2
            await w.settled_ask("c")
            assert w.source.fetches == 3

    async def test_thousands_a_second_for_a_minute_cause_at_most_three_fetches_and_no_memory(self) -> None:
        async with world() as w:
            for second in range(60):
                for number in range(2000):
                    await w.ask(f"{second} {number}")
                await w.time.advance(1)
            assert w.source.fetches <= 1 + 3
            assert len(w.ring._unknown._absent) <= 3
            assert w.found("a")

    async def test_they_cannot_starve_the_periodic_refresh_of_a_failing_issuer(self) -> None:
        async with world() as w:
            w.source.always = DOWN
            for number in range(1800 // 15):
                await w.settled_ask(str(number))
                await w.time.advance(15)
            asked_for_unknown = 1800 // 30
            assert w.source.fetches == 1 + asked_for_unknown + 1
            assert w.ring.next_refresh_in < 1

    async def test_a_failure_on_their_account_leaves_the_schedule_as_it_was(self) -> None:
        async with world() as w:
            due = w.ring.next_refresh_in
            w.source.always = DOWN
            await w.settled_ask("b")
            assert w.ring.next_refresh_in == due

    async def test_a_failure_on_their_account_that_outlasts_the_schedule_is_followed_by_a_pause(self) -> None:
        async with world() as w:
            await w.time.advance(1799)
            w.source.hangs = True
            w.source.always = DOWN
            asking = asyncio.create_task(w.ask("b"))
            await w.time.advance(5)
            await w.source.release()
            await asking
            assert w.source.fetches == 2
            assert w.ring.next_refresh_in > 0

    async def test_only_the_refresh_that_it_caused_is_held_against_it(self, caplog: pytest.LogCaptureFixture) -> None:
        async with world() as w:
            await w.settled_ask("b")
            w.ring.refresh_now()
            await settle()
            assert len(w.messages(caplog)) == 1
            assert not w.ring._unknown.known_absent("b", w.time() + 30)

    async def test_the_wall_clock_opens_no_budget(self) -> None:
        async with world() as w:
            await w.settled_ask("b")
            w.wall.now += 3600
            await w.settled_ask("c")
            assert w.source.fetches == 2

    async def test_a_key_that_came_in_the_meantime_needs_no_refresh(self) -> None:
        async with world() as w:
            await w.settled_ask("a")
            assert w.source.fetches == 1

    async def test_a_ring_that_was_not_started_holds_nobody(self) -> None:
        w = World()
        assert await w.ask("b") == 0
        assert w.source.fetches == 0


class TestRotation:
    async def test_an_announced_key_is_there_before_its_first_token(self) -> None:
        async with world() as w:
            w.source.always = good("a", "b")
            await w.time.advance(1800)
            assert w.found("b")
            assert w.seen.withdrawn == []

    async def test_a_removed_key_is_gone_at_that_very_refresh_and_observers_are_told(self) -> None:
        async with world(good("a", "b")) as w:
            w.source.always = good("b")
            await w.time.advance(1800)
            assert not w.found("a")
            assert w.seen.withdrawn == [{"a"}]

    async def test_the_same_kid_with_new_material_is_reported_as_withdrawn(self) -> None:
        async with world() as w:
            w.source.always = Fetched(jwks(signing_key("other").jwk(kid="a")), None, None)
            await w.time.advance(1800)
            assert w.seen.withdrawn == [{"a"}]
            assert w.found("a")

    async def test_observers_are_told_before_any_waiter_goes_on(self) -> None:
        async with world() as w:
            w.source.always = good("b")
            await w.ring.refresh_for_unknown_kid("b")
            assert w.seen.withdrawn == [{"a"}]

    async def test_a_set_that_shrinks_to_nothing_usable_is_refused_and_alarmed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with world() as w:
            w.source.always = Fetched(jwks(signing_key("a").jwk(use="enc")), None, None)
            await w.time.advance(1800)
            assert w.found("a")
            assert (w.seen.withdrawn, w.seen.failures) == ([], ["no_usable_keys"])
            assert len(w.messages(caplog, logging.ERROR)) == 1

    async def test_the_line_about_a_failure_names_what_was_asked_less_what_may_be_a_key(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with world(DOWN) as w:
            (line,) = w.messages(caplog, logging.ERROR)
            assert "check https://keys.example.com/jwks and the issuer" in line

    async def test_a_key_whose_private_half_is_published_is_no_last_good_one(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with world() as w:
            w.source.always = LEAKED
            await w.time.advance(1800)
            with pytest.raises(Unavailable):
                w.ring.key("a")
            assert (w.ring.ready, w.ring.state().document, w.seen.failures) == (False, None, ["no_usable_keys"])
            assert any("published the private half" in line for line in w.messages(caplog, logging.ERROR))
            w.source.always = good("b")
            await w.time.advance(30)
            assert w.found("b")
            assert not w.found("a")

    @pytest.mark.parametrize("beside", [(), ("b",)])
    async def test_nor_is_it_one_when_its_private_half_is_taken_away_again(self, beside: tuple[str, ...]) -> None:
        others = map(signing_key, beside)
        async with world() as w:
            w.source.always = Fetched(jwks({**signing_key("a").jwk(), "d": "AQAB"}, *others), None, None)
            await w.time.advance(1800)
            w.source.always = good("a", *beside)
            await w.time.advance(1800)
            assert w.ring.ready is bool(beside)
            assert list(w.ring.kids) == list(beside)
            assert w.ring.state().leaked

    async def test_the_leak_of_a_key_that_is_not_in_use_changes_nothing(self) -> None:
        async with world(good("b")) as w:
            w.source.always = LEAKED
            await w.time.advance(1800)
            assert w.found("b")

    async def test_an_observer_that_breaks_neither_stops_the_others_nor_the_refresh(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken(Recorder):
            def refreshed(self, *_args: object, **_names: object) -> None:
                raise ZeroDivisionError

            def refresh_failed(self, *_args: object, **_names: object) -> None:
                raise ZeroDivisionError

        async with world(observers=(Broken(),)) as w:
            w.source.always = DOWN
            await w.time.advance(1800)
            assert (w.seen.refreshes, w.seen.failures) == (1, ["connection"])
            assert "defect" in caplog.text


class TestRefreshNow:
    async def test_it_does_not_wait_for_the_schedule(self) -> None:
        async with world() as w:
            w.ring.refresh_now()
            await settle()
            assert w.source.fetches == 2

    async def test_during_a_fetch_it_asks_for_another_one(self) -> None:
        """The answer that is under way may be from before the change that somebody wants to see."""
        async with world() as w:
            w.source.hangs = True
            w.ring.refresh_now()
            await settle()
            w.ring.refresh_now()
            await w.source.release()
            assert (w.source.fetches, w.source.most_at_once) == (3, 1)


class TestSnapshot:
    @pytest.fixture
    def snapshot(self, tmp_path: Path) -> Snapshot:
        async def at_once(write: Callable[[], None]) -> None:
            write()

        return Snapshot(tmp_path / "keys.json", ISSUER, run=at_once)

    async def test_each_good_refresh_is_written(self, snapshot: Snapshot) -> None:
        async with world(snapshot=snapshot) as w:
            restored = snapshot.read(NOW)
            assert restored is not None
            assert restored.document == good("a").document
            w.wall.now += 1800
            w.source.always = Fetched(None, None, None)  # 304: still good, and younger
            await w.time.advance(1800)
            confirmed = snapshot.read(NOW + 1800)
            assert confirmed is not None
            assert confirmed.age_seconds == 0

    async def test_a_bad_answer_is_not(self, snapshot: Snapshot) -> None:
        async with world(good(), snapshot=snapshot):
            assert snapshot.read(NOW) is None

    async def test_when_the_issuer_is_down_at_start_it_serves(self, snapshot: Snapshot) -> None:
        snapshot.write(jwks(signing_key("a")), NOW - 600)
        async with world(DOWN, snapshot=snapshot) as w:
            assert w.found("a")
            assert w.ring.age_seconds == 600

    async def test_a_key_whose_private_half_is_published_does_not_come_back_from_it(self, snapshot: Snapshot) -> None:
        async with world(snapshot=snapshot) as w:
            w.source.always = LEAKED
            await w.time.advance(1800)
            assert snapshot.read(NOW) is None
        snapshot.write(jwks(signing_key("a")), NOW - 600)
        async with world(LEAKED, snapshot=snapshot) as w:
            assert not w.ring.ready
            assert snapshot.read(NOW) is None

    async def test_what_must_not_be_used_is_not_written(self, snapshot: Snapshot) -> None:
        leaked, good_one = signing_key("a"), signing_key("b")
        async with world(snapshot=snapshot) as w:
            w.source.always = Fetched(jwks({**leaked.jwk(), "d": "AQAB"}, good_one), None, None)
            await w.time.advance(1800)
            w.source.always = Fetched(jwks(leaked, good_one), None, None)
            await w.time.advance(1800)
            assert w.source.fetches == 3
        async with world(DOWN, snapshot=snapshot) as w:
            assert list(w.ring.kids) == ["b"]

    async def test_nobody_is_told_that_there_are_no_keys_when_it_has_some(
        self, snapshot: Snapshot, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot.write(jwks(signing_key("a")), NOW - 600)
        async with world(DOWN, snapshot=snapshot) as w:
            assert w.found("a")
            assert w.messages(caplog, logging.ERROR) == []
            assert "The last good keys, 600 s old, stay in use." in caplog.text

    async def test_it_is_read_once(self, snapshot: Snapshot) -> None:
        async with world(DOWN, snapshot=snapshot) as w:
            snapshot.write(jwks(signing_key("a")), NOW - 600)
            await w.time.advance(1800)
            assert not w.ring.ready

    async def test_once_the_issuer_has_answered_it_is_not_read(self, snapshot: Snapshot) -> None:
        async with world(snapshot=snapshot) as w:
            snapshot.write(jwks(signing_key("b")), NOW - 600)
            w.source.always = DOWN
            await w.time.advance(1800)
            assert list(w.ring.kids) == ["a"]

    async def test_its_age_counts(self, snapshot: Snapshot) -> None:
        snapshot.write(jwks(signing_key("a")), NOW - 86_399)
        async with world(DOWN, snapshot=snapshot) as w:
            assert w.ring.ready
            await w.time.advance(1)
            assert not w.ring.ready

    async def test_one_that_is_too_old_is_not_used(self, snapshot: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
        snapshot.write(jwks(signing_key("a")), NOW - 86_400)
        async with world(DOWN, snapshot=snapshot) as w:
            assert not w.ring.ready
            assert "too old to use" in caplog.text

    async def test_as_long_as_the_issuer_may_answer_no_key_of_yesterday_is_believed(self, snapshot: Snapshot) -> None:
        snapshot.write(jwks(signing_key("withdrawn")), NOW - 600)
        w = World(snapshot=snapshot)
        w.source.hangs = True
        w.ring.start()
        await settle()
        assert not w.ring.ready
        await w.source.release()
        assert not w.found("withdrawn")
        await w.ring.stop()

    async def test_keys_that_it_had_and_the_issuer_has_not_are_withdrawn(self, snapshot: Snapshot) -> None:
        snapshot.write(jwks(signing_key("withdrawn")), NOW - 600)
        async with world(DOWN, snapshot=snapshot) as w:
            w.source.always = good("a")
            await w.time.advance(1)
            assert w.seen.withdrawn == [{"withdrawn"}]

    @pytest.mark.parametrize("document", [HTML, jwks(), jwks(signing_key("a").jwk(use="enc"))], ids=repr)
    async def test_a_document_that_would_be_refused_now_is_ignored_and_said(
        self, snapshot: Snapshot, document: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        snapshot.write(document, NOW)
        async with world(DOWN, snapshot=snapshot) as w:
            assert not w.ring.ready
            assert "JWKS snapshot ignored" in caplog.text

    async def test_one_that_breaks_the_parser_does_not_end_the_refreshing(self, snapshot: Snapshot) -> None:
        def broken(document: bytes) -> KeySet:
            if document == b"poison":
                raise ZeroDivisionError
            return parse(document)

        snapshot.write(b"poison", NOW)
        async with world(DOWN, snapshot=snapshot, parse=broken) as w:
            w.source.always = good("a")
            await w.time.advance(1)
            assert w.found("a")


class TestTold:
    @pytest.mark.parametrize("answer", [
        Fetched(HTML, None, None), Fetched(b"", None, None), Fetched(jwks(), None, None),
        Fetched(b'{"keys": 1}', None, None), DOWN, KeySetRefused("tls", "expired"), ValueError("a defect"),
    ], ids=repr)  # fmt: skip
    async def test_what_is_refused_is_counted_and_logged_and_replaces_nothing(
        self, answer: Answer, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with world() as w:
            w.source.next.append(answer)
            await w.time.advance(1800)
            [cause] = w.seen.failures
            assert any(f"({cause})" in message for message in w.messages(caplog))
            assert w.found("a")
            await w.time.advance(1)
            assert (w.seen.failures, w.seen.refreshes) == ([cause], 2)

    async def test_without_usable_keys_a_failure_is_an_error(self, caplog: pytest.LogCaptureFixture) -> None:
        async with world(DOWN) as w:
            assert "protected routes answer 503" in w.messages(caplog, logging.ERROR)[0]

    async def test_with_stale_ones_it_is_a_warning_with_their_age(self, caplog: pytest.LogCaptureFixture) -> None:
        async with world() as w:
            w.source.always = DOWN
            await w.time.advance(1800)
            assert w.messages(caplog, logging.ERROR) == []
            assert "The last good keys, 1800 s old, stay in use." in w.messages(caplog)[0]

    async def test_a_skipped_entry_is_logged_with_its_cause_once_and_not_at_each_refresh(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        odd = signing_key("odd\n").jwk()
        async with world(Fetched(jwks(signing_key("a"), odd), None, None)) as w:
            await w.time.advance(4000)
            assert w.source.fetches > 2
            (line,) = w.messages(caplog)
            assert line.startswith(f"JWKS key 'odd\\n' of {ISSUER} skipped: kid_invalid.")

    async def test_an_entry_that_becomes_odd_later_is_logged_then(self, caplog: pytest.LogCaptureFixture) -> None:
        async with world() as w:
            w.source.always = Fetched(jwks(signing_key("a"), {"kid": "late", "kty": "oct", "k": "AA"}), None, None)
            await w.time.advance(1800)
            (line,) = w.messages(caplog)
            assert line.startswith(f"JWKS key 'late' of {ISSUER} skipped: symmetric_key.")

    async def test_an_unknown_kid_is_shown_escaped_and_short(self, caplog: pytest.LogCaptureFixture) -> None:
        async with world() as w:
            await w.settled_ask("\n\x1b\u202e" + "x" * 200)
            [message] = w.messages(caplog)
            assert message.isascii()
            assert message.isprintable()
            assert "x" * 62 not in message


class TestAnotherSource:
    async def test_the_keys_serve_until_the_new_place_answers(self) -> None:
        async with world(good("a")) as w:
            elsewhere = Source(good("b"))
            elsewhere.hangs = True
            w.ring.use_source(elsewhere)
            await settle()
            assert w.found("a")
            await elsewhere.release()
            assert (w.found("a"), w.found("b"), w.source.fetches) == (False, True, 1)

    async def test_the_new_place_is_not_asked_about_the_etag_of_the_old(self) -> None:
        class Conditional(Source):
            asked: ClassVar[list[str | None]] = []

            async def fetch(self, etag: str | None = None) -> Fetched:
                self.asked.append(etag)
                return await super().fetch(etag)

        async with world(good("a")._replace(etag='"1"')) as w:
            w.ring.use_source(Conditional(good("b")))
            await settle()
            assert Conditional.asked == [None]


class TestRealWait:
    async def test_it_tells_whether_the_event_came(self) -> None:
        event = asyncio.Event()
        assert await wait_for(event, 0.001) is False
        event.set()
        assert await wait_for(event, 60) is True


class TestRealIssuer:
    """Ring, fetcher and a real issuer together; time is still virtual, so that only the network takes some."""

    @asynccontextmanager
    async def started(self, auth_api: Issuer) -> AsyncIterator[tuple[KeyRing, Recorder]]:
        seen, time = Recorder(), VirtualTime()
        ring = KeyRing(
            ISSUER, Fetcher(auth_api.url, 30), parse, TIMING, observers=[seen], monotonic=time, random=lambda: 0.5,
            wait=self.wait,
        )  # fmt: skip
        ring.start()
        try:
            yield ring, seen
        finally:
            await ring.stop()

    @staticmethod
    async def wait(event: asyncio.Event, _seconds: float) -> bool:
        return await event.wait()

    async def refresh(self, ring: KeyRing) -> None:
        ring.refresh_now()
        await ring._fetched.wait()

    async def test_rotation_304_and_withdrawal(self) -> None:
        async with issuer(jwks(signing_key("a"))) as auth_api:
            auth_api.behave(Serve(etag='"1"'))
            async with self.started(auth_api) as (ring, seen):
                await ring._fetched.wait()
                await self.refresh(ring)
                assert auth_api.requests[-1].headers["if-none-match"] == '"1"'
                auth_api.document = jwks(signing_key("b"))
                auth_api.behave(Serve(etag='"2"'))
                await ring.refresh_for_unknown_kid("b")
                assert list(ring.kids) == ["b"]
                assert (seen.refreshes, seen.withdrawn, auth_api.most_at_once) == (3, [{"a"}], 1)

    async def test_whatever_the_issuer_does_the_good_keys_stay(self) -> None:
        async with issuer(jwks(signing_key("a"))) as auth_api, self.started(auth_api) as (ring, seen):
            await ring._fetched.wait()
            faults: dict[str, Behaviour] = {
                "http_status": Status(503), "redirect": redirect("/"), "not_json": Status(200, HTML),
                "content_encoding": Compressed("gzip", 10_000_000), "too_large": EndlessBody(),
            }  # fmt: skip
            for fault in faults.values():
                auth_api.behave(fault)
                await self.refresh(ring)
                assert ring.key("a")
            await auth_api.stop()
            await self.refresh(ring)
            assert seen.failures == [*faults, "connection"]
            await auth_api.start()
            auth_api.behave()
            await self.refresh(ring)
            assert ring.last_error is None
