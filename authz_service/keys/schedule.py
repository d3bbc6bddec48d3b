"""When to fetch next, and for whom. Arithmetic on seconds; no clock, no waiting."""

from typing import NamedTuple

SHORTEST_INTERVAL_SECONDS = 30.0
"""However short the issuer's ``max-age``, it is not asked more often (unless the configured interval is shorter)."""
FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0
MAX_REMEMBERED_KIDS = 1024
LONGEST_PATIENCE_COOLDOWNS = 4
"""No more: anybody can ask for next month's key id again and again, and a rotation to it must not wait for long."""


class Timing(NamedTuple):
    """The configured ages, in seconds."""

    refresh_interval_seconds: float
    max_stale_seconds: float
    unknown_kid_cooldown_seconds: float

    @property
    def interval_seconds(self) -> float:
        """Between refreshes: as configured, and at least two in the time for which keys are used."""
        return min(self.refresh_interval_seconds, self.max_stale_seconds / 2)


def refresh_delay(interval: float, max_age: float | None, random: float) -> float:
    """Seconds from a good refresh to the next: the shorter of interval and ``max-age``, ±10 %.

    :param random: in [0, 1); spreads the replicas of a service.
    """
    base = interval if max_age is None else min(interval, max(SHORTEST_INTERVAL_SECONDS, max_age))
    return base * (0.9 + 0.2 * random)


def retry_delay(failures: int, interval: float, random: float) -> float:
    """Seconds from the ``failures``-th failure in a row to the next attempt: doubling, capped, half of it jitter."""
    doublings = min(failures - 1, 16)  # far beyond the cap, far below what a float can hold
    longest = min(FIRST_RETRY_SECONDS * 2.0**doublings, LONGEST_RETRY_SECONDS, interval)
    return longest * (0.5 + 0.5 * random)


class _Absence(NamedTuple):
    patience: float
    """Seconds for which the key id may not cause another refresh."""
    until: float


class UnknownKids:
    """The budget of refreshes that unknown key ids may cause: one per cooldown, for all of them together.

    A key id that a refresh of its own did not bring is remembered, and may ask again after a cooldown, then after
    two, then after ``LONGEST_PATIENCE_COOLDOWNS`` each time: a client that is stuck with a withdrawn key leaves most of
    the budget to others. At most ``MAX_REMEMBERED_KIDS`` are remembered, the latest ones.
    """

    def __init__(self, cooldown: float) -> None:
        self._cooldown = cooldown
        self._longest = cooldown * LONGEST_PATIENCE_COOLDOWNS
        self._open_at = float("-inf")
        self._absent: dict[str, _Absence] = {}

    @property
    def open_at(self) -> float:
        """When an unknown key id may cause a refresh again."""
        return self._open_at

    def affordable(self, now: float) -> bool:
        """Whether an unknown key id may cause a refresh now."""
        return now >= self._open_at

    def spend(self, now: float) -> bool:
        """Whether an unknown key id may cause a refresh now; if so, the budget is spent, whatever comes of it."""
        if not self.affordable(now):
            return False
        self._open_at = now + self._cooldown
        return True

    def known_absent(self, kid: str, now: float) -> bool:
        """Whether ``kid`` was looked for in vain, too recently to look again."""
        absence = self._absent.get(kid)
        return absence is not None and now < absence.until

    def not_found(self, kid: str, now: float) -> None:
        """A refresh that ``kid`` caused did not bring its key."""
        before = self._absent.pop(kid, None)
        patience = self._cooldown if before is None else min(before.patience * 2, self._longest)
        if len(self._absent) >= MAX_REMEMBERED_KIDS:
            del self._absent[next(iter(self._absent))]
        self._absent[kid] = _Absence(patience, now + patience)
