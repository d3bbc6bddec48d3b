"""A turn of the event loop that lasts too long is told from within it; a quiet loop is never late."""

import asyncio
import json

from authz_service.transport.overload import LATE_SECONDS, OverloadGuard
from tests.support.check_level import Checks
from tests.support.check_requests import check_request, read_answer

POLICY = "version: 1\nrules:\n  - {name: all, match: {prefix: /}, public: true}\n"


async def test_what_is_read_late_in_a_long_turn_is_told() -> None:
    now = 100.0
    guard = OverloadGuard(lambda: now)
    assert not guard.behind(now)
    guard.start()
    assert not guard.behind(now + LATE_SECONDS / 2)
    assert guard.behind(now + LATE_SECONDS * 2)
    guard.stop()


async def test_each_turn_of_the_loop_begins_anew() -> None:
    now = 100.0
    guard = OverloadGuard(lambda: now)
    guard.start()
    now += 1
    assert guard.behind(now)
    async with asyncio.timeout(5):
        while guard.behind(now):  # noqa: ASYNC110 - a tick sets no event
            await asyncio.sleep(0)
    guard.stop()


async def test_nobody_is_late_when_it_does_not_tick() -> None:
    guard = OverloadGuard(lambda: 100.0)
    guard.start()
    guard.stop()
    assert not guard.behind(1000.0)


def test_a_late_request_is_shed_unread_with_an_error_that_says_so() -> None:
    checks = Checks(POLICY)
    checks.service._behind = lambda _now: True
    for message in (check_request(path="/"), b"\xff"):
        answer = read_answer(checks.service.check(message))  # type: ignore[arg-type]
        assert (answer.http_status, answer.is_error, json.loads(answer.body)["error"]) == (503, True, "overloaded")
        assert dict(answer.headers)["retry-after"] == "1"
    labels = {"decision": "deny", "reason": "overloaded", "rule": "", "mode": "enforce"}
    assert checks.metrics.registry.get_sample_value("authz_decisions_total", labels) == 2
