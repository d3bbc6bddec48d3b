"""What the metrics say, for people: of one process or of all workers alike, since both are families of Prometheus."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from prometheus_client.core import Metric

from authz_service.errors import PERMITTED
from authz_service.policy.loader import Policy
from authz_service.policy.routes import Rule

MAX_RULES = 200
"""Shown of a long policy: those that deny most, then those that decide most."""

OUTCOMES = ("allowed", "denied", "would_deny")
"""The last: let through by a rule that is not enforced, or not for this caller."""
CACHE_FIGURES = (("entries", ""), ("bytes", ""), ("hits", "_total"), ("misses", "_total"), ("evictions", "_total"))

Labels = Mapping[str, str]
T = TypeVar("T")


class Figures:
    """Counters, gauges and histograms by their names.

    :param families: each name once, as on a metrics page.
    """

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = {family.name: family for family in families}

    def samples(self, family: str, suffix: str = "") -> Iterable[tuple[Labels, float]]:
        """Labels and value of each sample; none if there is no such family."""
        found = self._families.get(family)
        for sample in found.samples if found is not None else ():
            if sample.name == family + suffix:
                yield sample.labels, sample.value

    def value(self, family: str, suffix: str = "") -> float | None:
        """Of a family without labels."""
        return next((value for _, value in self.samples(family, suffix)), None)

    def decisions(self) -> dict[str, Any]:
        """How many there were, and why requests were denied."""
        outcomes, reasons = Counter[str](), Counter[str]()
        for labels, count in self.samples("authz_decisions", "_total"):
            outcomes[_outcome(labels)] += int(count)
            if labels["reason"] not in PERMITTED:
                reasons[labels["reason"]] += int(count)
        return {**_counted(outcomes), "reasons": dict(reasons.most_common())}

    def rules(self, policy: Policy) -> list[dict[str, Any]]:
        """Each rule with its hits, in the order of the policy; of a long one the ``MAX_RULES`` that matter most."""
        hits: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for labels, count in self.samples("authz_decisions", "_total"):
            hits[labels["rule"]][_outcome(labels)] += int(count)
        rules = most(policy.routes.rules, lambda rule: _weight(hits[rule.name]))
        return [{**_described(rule), **_counted(hits[rule.name])} for rule in rules]

    def latency(self) -> dict[str, Any]:
        """How many Checks took how long, as of a histogram without its running sums: upper bound and count."""
        name = "authz_check_duration_seconds"
        buckets = [(labels["le"], int(count)) for labels, count in self.samples(name, "_bucket")]
        within = [(bound, count - before) for (_, before), (bound, count) in pairwise([("", 0), *buckets])]
        return {"buckets": [[None if bound == "+Inf" else float(bound), count] for bound, count in within]}

    def cache(self) -> dict[str, int] | None:
        """The memory of verified tokens; None: there is none."""
        prefix = "authz_verified_token_cache_"
        figures = {name: self.value(prefix + name, suffix) for name, suffix in CACHE_FIGURES}
        return {name: int(value) for name, value in figures.items() if value is not None} or None


def most(items: Sequence[T], weight: Callable[[T], tuple[int, ...]]) -> list[T]:
    """At most ``MAX_RULES`` of them, those that weigh most, in their order."""
    weights = [weight(item) for item in items]
    heaviest = sorted(range(len(items)), key=weights.__getitem__, reverse=True)[:MAX_RULES]
    return [items[n] for n in sorted(heaviest)]


def _outcome(labels: Labels) -> str:
    if labels["decision"] != "allow":
        return "denied"
    return "allowed" if labels["reason"] in PERMITTED else "would_deny"


def _counted(outcomes: Counter[str]) -> dict[str, int]:
    return {outcome: outcomes[outcome] for outcome in OUTCOMES}


def _weight(outcomes: Counter[str]) -> tuple[int, int]:
    return outcomes["denied"] + outcomes["would_deny"], outcomes["allowed"]


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name, "path": str(rule.pattern), "methods": sorted(rule.methods), "public": rule.public,
        "mode": rule.mode, "enforce_percent": rule.enforce_percent,
    }  # fmt: skip
