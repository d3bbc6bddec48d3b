"""How soon a worker is started again, and when it is taken for dead."""

import asyncio
import signal

import pytest

from authz_service.config import Address
from authz_service.workers.link import Link, Message
from authz_service.workers.member import LONGEST_DELAY_SECONDS, MAX_SILENCES, Member, respawn_delay


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


@pytest.mark.parametrize(("silent_checks", "killed"), [(MAX_SILENCES - 1, False), (MAX_SILENCES, True)])
def test_one_that_is_silent_for_long_is_killed(
    silent_checks: int, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, signals = Member(Address(path="/x"), Host(), asyncio.Event()), list[signal.Signals]()
    monkeypatch.setattr(member, "_signal", signals.append)
    member.up = True
    for heard in (True, *[False] * (silent_checks - 1), True, *[False] * silent_checks):
        member._heard = heard
        member.check()
    assert signals == [signal.SIGKILL] * killed


def test_one_that_has_not_come_up_yet_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    member, signals = Member(Address(path="/x"), Host(), asyncio.Event()), list[signal.Signals]()
    monkeypatch.setattr(member, "_signal", signals.append)
    for _ in range(2 * MAX_SILENCES):
        member.check()
    assert signals == []
