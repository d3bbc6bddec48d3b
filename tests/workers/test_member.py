"""How soon a worker is started again, and when it is taken for dead."""

import asyncio
import signal

import pytest

from authz_service.address import Address
from authz_service.workers.link import Link, Message
from authz_service.workers.member import (
    LONGEST_DELAY_SECONDS,
    MAX_SILENCES,
    MAX_SILENCES_AT_START,
    Member,
    respawn_delay,
)


class Host:
    """Hears nothing."""

    def greet(self, link: Link, address: Address) -> None: ...
    def told(self, what: str, message: Message, link: Link) -> None: ...
    def ended(self, page: str) -> None: ...


def test_a_worker_that_ends_is_started_again_at_once() -> None:
    assert respawn_delay(1) == 0


def test_one_that_ends_time_and_again_waits_longer_each_time_but_not_for_ever() -> None:
    delays = [respawn_delay(quick_ends) for quick_ends in range(1, 50)]
    assert delays == sorted(delays)
    assert delays[:4] == [0, 0.1, 0.2, 0.4]
    assert respawn_delay(10**9) == LONGEST_DELAY_SECONDS


@pytest.mark.parametrize(("up", "silent_checks", "killed"), [
    (True, MAX_SILENCES - 1, False),
    (True, MAX_SILENCES, True),
    (False, MAX_SILENCES_AT_START - 1, False),
    (False, MAX_SILENCES_AT_START, True),
])  # fmt: skip
def test_one_that_is_silent_for_long_is_killed_and_may_take_longer_to_begin(
    up: bool, silent_checks: int, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, signals = Member(Address(path="/x"), Host(), asyncio.Event()), list[signal.Signals]()
    monkeypatch.setattr(member, "_signal", signals.append)
    monkeypatch.setattr(member, "_process", object())
    member.up = up
    for heard in (True, *[False] * (silent_checks - 1), True, *[False] * silent_checks):
        member._heard = heard
        member.check()
    assert signals == [signal.SIGKILL] * killed


def test_none_is_missed_while_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    member, signals = Member(Address(path="/x"), Host(), asyncio.Event()), list[signal.Signals]()
    monkeypatch.setattr(member, "_signal", signals.append)
    for _ in range(2 * MAX_SILENCES_AT_START):
        member.check()
    assert signals == []
