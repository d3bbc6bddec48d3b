"""A turn of the event loop that lasts too long is told from within it; a quiet loop is never late."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from authz_service.transport.overload import BURST_SECONDS, LATE_SECONDS, PEACE_SECONDS, SHRINKING, OverloadGuard
from tests.support.check_level import Checks
from tests.support.check_requests import check_request, read_answer

POLICY = "version: 1\nrules:\n  - {name: all, match: {prefix: /}, public: true}\n"


class Times:
    """Both clocks of a guard."""

    now = 100.0
    worked = 7.0

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.worked += seconds

    def guard(self) -> OverloadGuard:
        return OverloadGuard(lambda: self.now, lambda: self.worked)


@asynccontextmanager
async def ticking() -> AsyncIterator[tuple[Times, OverloadGuard]]:
    times = Times()
    guard = times.guard()
    guard.start()
    guard.behind(times.now)
    try:
        yield times, guard
    finally:
        guard.stop()


async def next_turn(guard: OverloadGuard) -> None:
    before = guard._worked_then
    async with asyncio.timeout(5):
        while guard._worked_then == before:  # noqa: ASYNC110 - a tick sets no event
            await asyncio.sleep(0)


async def test_before_the_first_tick_nobody_is_late() -> None:
    assert not Times().guard().behind(1e9)


async def test_a_burst_is_served_and_a_flood_is_not() -> None:
    async with ticking() as (times, guard):
        times.work(BURST_SECONDS / 2)
        assert not guard.behind(times.now)
        times.work(BURST_SECONDS)
        assert guard.behind(times.now)


@pytest.mark.parametrize("backlog", [LATE_SECONDS * 2, BURST_SECONDS * 0.9])
async def test_a_backlog_that_shrinks_is_served_and_one_that_does_not_is_cut(backlog: float) -> None:
    async with ticking() as (times, guard):
        times.work(backlog)
        assert not guard.behind(times.now)
        await next_turn(guard)
        times.work(backlog * (SHRINKING - 0.1))
        assert not guard.behind(times.now)
        times.work(backlog * 0.2)
        assert guard.behind(times.now)


async def test_while_too_much_keeps_coming_turns_become_short_and_stay_so() -> None:
    async with ticking() as (times, guard):
        work = BURST_SECONDS
        for _ in range(20):
            times.work(work)
            guard.behind(times.now)
            await next_turn(guard)
            work = guard._limit * 1.01  # refusing the rest takes a moment, too
        assert guard._limit == LATE_SECONDS


async def test_after_a_refusal_it_takes_some_peace_until_a_burst_is_served_again() -> None:
    async with ticking() as (times, guard):
        times.work(BURST_SECONDS * 2)
        assert guard.behind(times.now)
        for pause in (0.0, PEACE_SECONDS / 2):
            await next_turn(guard)
            times.now += pause
            times.work(LATE_SECONDS / 2)
            guard.behind(times.now)
            await next_turn(guard)
            assert guard._limit == LATE_SECONDS
            times.work(0.001)
            guard.behind(times.now)
        times.now += PEACE_SECONDS
        times.work(0.001)
        guard.behind(times.now)
        await next_turn(guard)
        assert guard._limit == BURST_SECONDS


async def test_after_a_short_turn_a_burst_is_served_again() -> None:
    async with ticking() as (times, guard):
        for seconds in (LATE_SECONDS * 2, LATE_SECONDS / 2):
            times.work(seconds)
            guard.behind(times.now)
            await next_turn(guard)
        times.work(LATE_SECONDS * 2)
        assert not guard.behind(times.now)


async def test_without_requests_nothing_wakes_the_process_and_the_next_one_is_not_late() -> None:
    async with ticking() as (times, guard):
        guard.behind(times.now)
        async with asyncio.timeout(5):
            while guard._next is not None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
        times.work(BURST_SECONDS * 10)
        assert not guard.behind(times.now)
        times.work(BURST_SECONDS * 2)
        assert guard.behind(times.now)


async def test_a_process_that_was_not_given_the_processor_refuses_nobody_for_that() -> None:
    async with ticking() as (times, guard):
        times.now += 10
        times.worked += BURST_SECONDS / 4
        assert not guard.behind(times.now)


async def test_nobody_is_late_when_it_does_not_tick() -> None:
    times = Times()
    guard = times.guard()
    guard.start()
    guard.stop()
    for _ in range(2):
        times.work(1000)
        assert not guard.behind(times.now)


def test_a_late_request_is_shed_unread_with_an_error_that_says_so() -> None:
    checks = Checks(POLICY)
    checks.service._behind = lambda _now: True
    for message in (check_request(path="/"), b"\xff"):
        answer = read_answer(checks.service.check(message))  # type: ignore[arg-type]
        assert (answer.http_status, answer.is_error, json.loads(answer.body)["error"]) == (503, True, "overloaded")
        assert dict(answer.headers)["retry-after"] == "1"
    labels = {"decision": "deny", "reason": "overloaded", "rule": "", "mode": "enforce"}
    assert checks.metrics.registry.get_sample_value("authz_decisions_total", labels) == 2
