"""How soon a worker is started again."""

from authz_service.workers.member import LONGEST_DELAY_SECONDS, respawn_delay


def test_a_worker_that_ends_is_started_again_at_once() -> None:
    assert respawn_delay(1) == 0


def test_one_that_ends_time_and_again_waits_longer_each_time_but_not_for_ever() -> None:
    delays = [respawn_delay(quick_ends) for quick_ends in range(1, 50)]
    assert delays == sorted(delays)
    assert delays[:4] == [0, 0.1, 0.2, 0.4]
    assert respawn_delay(10**9) == LONGEST_DELAY_SECONDS
