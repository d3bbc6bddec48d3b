from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authz_service.model import Mode
from authz_service.policy.rollout import effective_mode

SUBJECTS = [f"user-{number}" for number in range(2_000)]


def enforced(percent: int | None, mode: Mode = Mode.SHADOW) -> set[str]:
    return {subject for subject in SUBJECTS if effective_mode(mode, percent, subject) is Mode.ENFORCE}


@pytest.mark.parametrize("mode", Mode)
def test_without_a_percentage_the_mode_stands(mode: Mode) -> None:
    assert effective_mode(mode, None, "u1") is mode


@pytest.mark.parametrize("percent", [0, 50, 100])
@pytest.mark.parametrize("mode", Mode)
def test_without_a_verified_subject_the_mode_stands(mode: Mode, percent: int) -> None:
    assert effective_mode(mode, percent, "") is mode


@pytest.mark.parametrize("mode", Mode)
def test_zero_percent_is_nobody(mode: Mode) -> None:
    assert enforced(0, mode) == set()


@pytest.mark.parametrize("mode", Mode)
def test_a_hundred_percent_is_everybody(mode: Mode) -> None:
    assert enforced(100, mode) == set(SUBJECTS)


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_the_share_of_callers_is_about_the_percentage(percent: int) -> None:
    assert len(enforced(percent)) / len(SUBJECTS) == pytest.approx(percent / 100, abs=0.03)


def test_who_was_enforced_stays_so_at_each_higher_percentage() -> None:
    shares = [enforced(percent) for percent in range(101)]
    assert all(lower <= higher for lower, higher in pairwise(shares))


@pytest.mark.parametrize(("subject", "last_in_shadow"), [("u1", 42), ("u2", 55), ("u4", 9), ("caf\u00e9", 49)])
def test_the_same_callers_are_picked_in_each_process_and_each_release(subject: str, last_in_shadow: int) -> None:
    assert effective_mode(Mode.ENFORCE, last_in_shadow, subject) is Mode.SHADOW
    assert effective_mode(Mode.ENFORCE, last_in_shadow + 1, subject) is Mode.ENFORCE


@given(mode=st.sampled_from(Mode), percent=st.integers(0, 100), subject=st.text(st.characters(exclude_categories=())))
@example(mode=Mode.SHADOW, percent=50, subject="\udc80")
def test_any_subject_has_a_mode(mode: Mode, percent: int, subject: str) -> None:
    assert effective_mode(mode, percent, subject) in Mode
