"""When to fetch: arithmetic, and the budget of unknown key ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.keys.schedule import (
    FIRST_RETRY_SECONDS,
    LONGEST_RETRY_SECONDS,
    MAX_REMEMBERED_KIDS,
    Timing,
    UnknownKids,
    refresh_delay,
    retry_delay,
)

EVEN = 0.5
"""The random number that adds and takes nothing."""
MOST = 1 - 1e-9


class TestRefreshDelay:
    @pytest.mark.parametrize(("interval", "max_age", "delay"), [
        (1800, None, 1800),
        (1800, 600, 600),
        (1800, 86400, 1800),
        (1800, 0, 30),
        (1800, 29, 30),
        (1800, float("inf"), 1800),
        (10, 0, 10),  # whoever configures less than 30 s gets it
    ])  # fmt: skip
    def test_the_shorter_of_interval_and_max_age_but_not_hectic(
        self, interval: float, max_age: float | None, delay: float
    ) -> None:
        assert refresh_delay(interval, max_age, EVEN) == pytest.approx(delay)

    def test_replicas_are_spread_by_ten_percent_either_way(self) -> None:
        assert refresh_delay(1000, None, 0.0) == pytest.approx(900)
        assert refresh_delay(1000, None, MOST) == pytest.approx(1100)


class TestRetryDelay:
    def test_it_doubles_up_to_a_cap(self) -> None:
        delays = [retry_delay(failures, 1800, MOST) for failures in range(1, 10)]
        assert delays == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30])

    def test_half_of_it_is_jitter(self) -> None:
        assert retry_delay(20, 1800, 0.0) == pytest.approx(LONGEST_RETRY_SECONDS / 2)

    def test_it_is_not_longer_than_the_interval(self) -> None:
        assert retry_delay(20, 5, MOST) == pytest.approx(5)

    @given(failures=st.integers(1, 10**9), interval=st.floats(1, 86400), random=st.floats(0, MOST))
    def test_it_is_never_a_busy_loop_and_never_long(self, failures: int, interval: float, random: float) -> None:
        assert FIRST_RETRY_SECONDS / 2 <= retry_delay(failures, interval, random) <= LONGEST_RETRY_SECONDS


class TestTiming:
    @pytest.mark.parametrize(("interval", "max_stale", "used"), [(1800, 86400, 1800), (1800, 60, 30), (20, 40, 20)])
    def test_keys_are_refreshed_at_least_twice_before_they_are_too_old(
        self, interval: float, max_stale: float, used: float
    ) -> None:
        assert Timing(interval, max_stale, unknown_kid_cooldown_seconds=30).interval_seconds == used


class TestUnknownKids:
    """Cooldown 30 s; ``now`` is monotonic and starts anywhere."""

    @pytest.fixture
    def unknown(self) -> UnknownKids:
        return UnknownKids(cooldown=30)

    @pytest.mark.parametrize("now", [-1e6, 0, 1e6])
    def test_the_first_one_may_ask_at_once(self, unknown: UnknownKids, now: float) -> None:
        assert unknown.spend(now)

    def test_all_of_them_share_one_refresh_in_a_cooldown(self, unknown: UnknownKids) -> None:
        assert [unknown.spend(now) for now in (0, 0, 29.9, 30, 30, 59.9, 60)] == [
            True, False, False, True, False, False, True,
        ]  # fmt: skip

    def test_one_that_was_looked_for_in_vain_is_remembered_for_a_cooldown(self, unknown: UnknownKids) -> None:
        unknown.not_found("a", now=0)
        assert unknown.known_absent("a", 29.9)
        assert not unknown.known_absent("a", 30)

    def test_others_are_not_held_to_be_absent_with_it(self, unknown: UnknownKids) -> None:
        unknown.not_found("a", now=0)
        assert not unknown.known_absent("b", 0)

    def test_each_time_in_vain_doubles_the_patience_up_to_the_longest(self, unknown: UnknownKids) -> None:
        """A client that is stuck with a withdrawn key leaves most of the budget to others.

        Not all of it: the key id that a forger asked for may be the one that comes next.
        """
        now, waits = 0.0, []
        for _ in range(6):
            unknown.not_found("a", now)
            wait = next(wait for wait in range(1, 1000) if not unknown.known_absent("a", now + wait))
            waits.append(wait)
            now += wait
        assert waits == [30, 60, 120, 120, 120, 120]

    def test_memory_is_bounded_and_the_oldest_goes_first(self, unknown: UnknownKids) -> None:
        for number in range(MAX_REMEMBERED_KIDS + 1):
            unknown.not_found(str(number), now=0)
        remembered = [number for number in range(MAX_REMEMBERED_KIDS + 1) if unknown.known_absent(str(number), 1)]
        assert remembered == list(range(1, MAX_REMEMBERED_KIDS + 1))

    def test_one_that_asks_again_is_not_the_oldest_any_more(self, unknown: UnknownKids) -> None:
        for number in [*range(MAX_REMEMBERED_KIDS), 0, MAX_REMEMBERED_KIDS]:
            unknown.not_found(str(number), now=0)
        assert unknown.known_absent("0", 1)
        assert not unknown.known_absent("1", 1)
