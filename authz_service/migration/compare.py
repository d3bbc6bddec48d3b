"""A sample of requests, decided the other way as well: in the background, never in the path of a request.

What is compared is what the policy makes of a token, enforced or not: ``mode`` and ``enforce_percent`` play no part.
"Stricter" and "looser" are said of the local way, whichever of the two decides.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple, Protocol

from authz_service.errors import NoVerdictYet, Reason
from authz_service.model import Decision, HttpRequest
from authz_service.policy.loader import Policy
from authz_service.policy.routes import Rule
from authz_service.ways import Way

PER_SECOND = 100
"""At most, in the long run: the Auth-API is to be relieved by the migration, and each costs time of this process."""
QUEUE = 256
"""Requests that wait to be compared; each may be as large as Envoy lets one become."""
AT_ONCE = 8

NO_TOKEN_JUDGED = frozenset({
    Reason.PUBLIC, Reason.CORS_PREFLIGHT, Reason.TOKEN_MISSING, Reason.TOKEN_TOO_LARGE, Reason.MULTIPLE_TOKENS,
})  # fmt: skip
"""Answers by a rule that are the same both ways, and say nothing about them."""
COULD_NOT_TELL = frozenset({Reason.KEYS_UNAVAILABLE, Reason.AUTH_API_UNAVAILABLE, Reason.INTERNAL_ERROR})

log = logging.getLogger(__name__)


class Result(StrEnum):
    """What a comparison finds about the local way."""

    AGREE = "agree"
    STRICTER = "local_stricter"
    """It denies what the Auth-API's answer allows: users would notice."""
    LOOSER = "local_looser"
    """It allows what the Auth-API's answer denies: a hole."""
    BOTH_REFUSE = "both_refuse"
    """Neither takes the token: it says nothing about users, and anybody can send such ones by the thousand."""
    UNKNOWN = "unknown"
    """One of the two could not tell."""


class Observer(Protocol):
    """Who is told; see :class:`authz_service.migration.figures.ComparisonFigures`."""

    def compared(self, rule: str, result: str, reason: str = "", /) -> None: ...  # noqa: D102
    def dropped(self) -> None: ...  # noqa: D102


Disagreed = Callable[[HttpRequest, Decision, Reason], None]
"""Told of each disagreement: the request, what was decided, and the reason of the other way."""


def compare(local: Decision, asked: Decision) -> Result:
    """What the decision by a local verification is beside the one by the Auth-API's answer."""
    if local.reason in COULD_NOT_TELL or asked.reason in COULD_NOT_TELL:
        return Result.UNKNOWN
    allows, would_allow = local.reason is Reason.ALLOWED, asked.reason is Reason.ALLOWED
    if local.claims is None and asked.claims is None:
        return Result.BOTH_REFUSE
    if allows == would_allow:
        return Result.AGREE
    return Result.LOOSER if allows else Result.STRICTER


class Pace:
    """So many a second in the long run, and a second's worth at once.

    :param monotonic: seconds.
    """

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._seconds_each = 1 / per_second
        self._monotonic = monotonic
        self._due = monotonic()

    def admits(self) -> bool:
        """Whether there is room for one more; if so, it is taken."""
        now = self._monotonic()
        due = max(self._due, now) + self._seconds_each
        if due > now + 1:
            return False
        self._due = due
        return True


class _Decided(NamedTuple):
    """A request of the sample, what was decided, and by which policy."""

    request: HttpRequest
    decision: Decision
    policy: Policy


class Comparison:
    """Decides a sample of requests the other way, and tells how that comes out.

    :param other: the way that does not decide.
    :param other_is_local: which of the two that is.
    :param sample: share of the requests, 0 to 1.
    """

    def __init__(
        self, other: Way, *, other_is_local: bool, sample: float, observer: Observer,
        disagreed: Disagreed | None = None, chance: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._other = other
        self._other_is_local = other_is_local
        self._sample = sample
        self._observer = observer
        self._disagreed = disagreed
        self._chance = chance
        self._pace = Pace(PER_SECOND, monotonic)
        self._queue: asyncio.Queue[_Decided] = asyncio.Queue(QUEUE)
        self._tasks: list[asyncio.Task[None]] = []

    def saw(self, request: HttpRequest, decision: Decision) -> None:
        """A request was decided. Costs its answer nothing but a place in a queue, if there is one."""
        if self._chance() >= self._sample or not decision.rule or decision.reason in NO_TOKEN_JUDGED:
            return
        if self._queue.full() or not self._pace.admits():
            self._observer.dropped()
        else:
            self._queue.put_nowait(_Decided(request, decision, self._other.authorizer.policy))

    def start(self) -> None:
        """Compare from now on."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(AT_ONCE)]

    async def stop(self) -> None:
        """Compare no more; what still waits is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            decided = await self._queue.get()
            try:
                await self._compare(decided)
            except Exception:
                log.exception("A comparison failed. This is a defect: please report this line.")

    async def _compare(self, decided: _Decided) -> None:
        other = await self._decide(decided.request)
        if self._other.authorizer.policy is decided.policy:  # else they were held against different rules
            self._tell(decided, other)

    async def _decide(self, request: HttpRequest) -> Decision:
        try:
            return self._other.authorizer.authorize(request)
        except NoVerdictYet as question:
            return await self._other.decide(request, question)

    def _tell(self, decided: _Decided, other: Decision) -> None:
        decision = decided.decision
        result = compare(other, decision) if self._other_is_local else compare(decision, other)
        if result not in {Result.STRICTER, Result.LOOSER}:
            self._observer.compared(decision.rule, result)
            return
        denial = other if decision.reason is Reason.ALLOWED else decision
        self._observer.compared(decision.rule, result, denial.reason)
        if self._disagreed is not None:
            self._disagreed(decided.request, decision, other.reason)


def changed_rules(before: Policy, after: Policy) -> frozenset[str]:
    """Names of rules that do not decide as before, or are gone; how far they are enforced makes no difference."""
    now = {rule.name: _decides(rule) for rule in after.routes.rules}
    return frozenset(rule.name for rule in before.routes.rules if now.get(rule.name) != _decides(rule))


def _decides(rule: Rule) -> tuple[object, ...]:
    return rule.pattern, rule.methods, rule.public, rule.requirement
