"""How long calls of a connection wait is told from what was read when; one that is read at once never waits."""

import pytest

from authz_service.transport.backlog import (
    BURST_SECONDS,
    FLOOD_SECONDS,
    FULL_READ_BYTES,
    LONGEST_TURN_SECONDS,
    LULL_SECONDS,
    PEACE_SECONDS,
    Backlog,
    Lateness,
)


class World:
    """All clocks, and one connection."""

    def __init__(self) -> None:
        self.now = 100.0
        self.by_the_thread = 7.0
        self.lateness = Lateness(lambda: self.now, lambda: self.by_the_thread)
        self.backlog = Backlog(self.lateness)

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.by_the_thread += seconds
        while seconds > 0:
            self.lateness.took(min(seconds, LONGEST_TURN_SECONDS))
            seconds -= LONGEST_TURN_SECONDS

    def read(self, turns: int, seconds: float = 0.001, *, size: int = 1_000) -> list[bool]:
        """Serve a read of so many turns, each of so many seconds; :returns: which of them were late."""
        self.backlog.read(size, self.now)
        late = []
        for number in range(turns):
            late.append(self.backlog.late)
            self.work(seconds)
            if number + 1 < turns:
                self.backlog.give_way()
        if turns > 1:
            self.backlog.answered(self.now)
        return late


def test_what_is_answered_at_once_is_never_late() -> None:
    world = World()
    for _ in range(10):
        assert world.read(1, BURST_SECONDS) == [False]


def test_many_calls_that_come_again_and_again_are_not_late_if_each_waits_a_little() -> None:
    """A client with so many calls under way, as Envoy is: always more than a turn's worth, and never a backlog."""
    world = World()
    for _ in range(100):
        assert not any(world.read(4, BURST_SECONDS / 10))


def test_a_read_that_takes_longer_than_a_burst_may_is_cut() -> None:
    late = World().read(10, BURST_SECONDS / 3.5)
    assert late == [False] * 5 + [True] * 5  # the first turn kept nobody waiting


def test_what_comes_behind_a_long_read_has_waited_for_it() -> None:
    world = World()
    assert not any(world.read(3, BURST_SECONDS / 3.5))
    assert world.read(3, BURST_SECONDS / 3.5) == [False, False, True]


def test_what_comes_after_a_lull_has_not() -> None:
    world = World()
    world.read(4, BURST_SECONDS / 4)
    world.now += LULL_SECONDS * 2
    assert not any(world.read(4, BURST_SECONDS / 4))


def test_work_for_others_meanwhile_does_not_count_where_nothing_waits() -> None:
    world = World()
    world.read(2)
    for _ in range(3):
        world.work(BURST_SECONDS * 2)
        assert world.read(2) == [False, False]


def test_where_one_read_could_not_take_all_the_rest_waits_as_long() -> None:
    world = World()
    late = [world.read(2, BURST_SECONDS / 8, size=FULL_READ_BYTES) for _ in range(8)]
    assert not any(late[0])
    assert all(late[-1])
    world = World()
    assert not any(any(world.read(2, BURST_SECONDS / 8)) for _ in range(8))


def test_time_for_which_the_machine_stood_still_is_not_waiting() -> None:
    world = World()
    world.backlog.read(1_000, world.now)
    world.backlog.give_way()
    world.now += 10
    world.by_the_thread += 10  # what the host takes looks like work to the thread
    world.lateness.took(10)  # it fell into a turn
    assert not world.backlog.late


def test_time_for_which_others_had_the_processor_is_not_waiting() -> None:
    world = World()
    world.backlog.read(1_000, world.now)
    world.backlog.give_way()
    for _ in range(100):
        world.now += LONGEST_TURN_SECONDS
        world.lateness.took(LONGEST_TURN_SECONDS)  # each turn lost it for a moment
        world.by_the_thread += FLOOD_SECONDS / 200
    assert not world.backlog.late


def test_a_peer_that_does_not_read_its_answers_is_forgiven() -> None:
    world = World()
    world.backlog.read(1_000, world.now)
    world.backlog.give_way()
    world.work(BURST_SECONDS * 2)
    world.backlog.forgive()
    assert not world.backlog.late


@pytest.mark.parametrize(("pause", "patience"), [(0.0, FLOOD_SECONDS), (PEACE_SECONDS * 1.1, BURST_SECONDS)])
def test_shortly_after_a_refusal_there_is_less_patience_on_any_connection(pause: float, patience: float) -> None:
    world = World()
    since = world.lateness.work()
    world.work(BURST_SECONDS * 1.01)
    assert world.lateness.too_long(since)
    world.now += pause
    since = world.lateness.work()
    world.work(patience * 0.99)
    assert not world.lateness.too_long(since)
    world.work(patience * 0.02)
    assert world.lateness.too_long(since)
