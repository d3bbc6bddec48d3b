"""Whoever searches the log for refused tokens finds a line and what to do, and a flood of them is one line."""

import logging
from collections import Counter

import pytest

from authz_service.errors import Reason
from authz_service.model import Deny, Mode
from authz_service.observability.metrics import INVALID_TOKEN_REASONS, Metrics
from authz_service.observability.refusal_log import NEXT_STEP, SILENCE_SECONDS, RefusalLog
from tests.support.clock import Clock


class World:
    """Figures, time that passes when a test says so, and the log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.refused: Counter[Reason] = Counter()
        self.clock = Clock()
        self.log = RefusalLog(lambda: self.refused, self.clock)
        self._caplog = caplog

    def lines(self) -> list[str]:
        """What is told now."""
        self._caplog.clear()
        self.log.look()
        return self._caplog.messages


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> World:
    return World(caplog)


def test_the_first_one_is_told_at_once_with_the_words_to_search_for_and_what_to_do(world: World) -> None:
    world.refused[Reason.TOKEN_EXPIRED] = 1
    (line,) = world.lines()
    assert line.startswith("Token validation failed: token_expired, 1 times in 0 s. Check that clients renew")
    assert "docs/runbook.md" in line


def test_it_is_a_warning(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.refused[Reason.TOKEN_EXPIRED] = 1
    world.log.look()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_flood_is_one_line_a_minute_that_counts_all_of_it(world: World) -> None:
    lines = []
    for _ in range(int(SILENCE_SECONDS)):
        world.refused[Reason.SIGNATURE_INVALID] += 1000
        lines += world.lines()
        world.clock.now += 1
    assert len(lines) == 1
    (line,) = world.lines()
    assert f"signature_invalid, {1000 * (int(SILENCE_SECONDS) - 1)} times in 60 s" in line


def test_each_reason_is_told_for_itself(world: World) -> None:
    world.refused[Reason.TOKEN_EXPIRED] = 1
    assert len(world.lines()) == 1
    world.refused[Reason.KEY_NOT_FOUND] = 1
    (line,) = world.lines()
    assert "key_not_found" in line


def test_nothing_new_is_nothing_to_tell(world: World) -> None:
    world.refused[Reason.TOKEN_EXPIRED] = 1
    assert world.lines()
    world.clock.now += 10 * SILENCE_SECONDS
    assert world.lines() == []


def test_whatever_makes_a_token_bad_has_a_next_step() -> None:
    assert NEXT_STEP.keys() == INVALID_TOKEN_REASONS


def test_the_figures_are_those_of_all_rules_and_of_bad_tokens_only() -> None:
    metrics = Metrics()
    for rule, reason in (
        ("one", Reason.TOKEN_EXPIRED), ("two", Reason.TOKEN_EXPIRED), ("one", Reason.TOKEN_MISSING),
        ("one", Reason.PERMISSION_DENIED), ("one", Reason.KEYS_UNAVAILABLE),
    ):  # fmt: skip
        metrics.decided(Deny(reason, rule, Mode.ENFORCE, 403, (), "{}"), 0)
    assert metrics.refused_tokens() == {Reason.TOKEN_EXPIRED: 2}
