"""What the comparisons say for people: is a rule ready to be enforced by tokens that are verified here?

Read from the metrics, so that several workers say it like one process.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from prometheus_client.core import Metric

from authz_service.config import Config
from authz_service.migration.compare import Result
from authz_service.migration.figures import COMPARISONS, DISAGREEMENTS, DROPPED
from authz_service.observability.figures import most
from authz_service.policy.loader import Policy

ENOUGH = 1_000
"""Comparisons that could tell, for a rule to be called ready."""
MOST_STRICTER = 0.001
"""Share of them that may be denied here and not by the Auth-API, whose reasons a person has to look at."""
CRITERION = f"at least {ENOUGH:,} compared, none looser, at most {MOST_STRICTER:.1%} stricter"


class _Findings:
    """All that the metrics say."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self.results: Counter[tuple[str, str]] = Counter()
        """By rule and result."""
        self.reasons: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        """Of the disagreements, likewise."""
        self.dropped = 0
        for family in families:
            for sample in family.samples:
                if sample.name == f"{family.name}_total":
                    self._add(family.name, sample.labels, int(sample.value))

    def _add(self, family: str, labels: dict[str, str], count: int) -> None:
        if family == COMPARISONS:
            self.results[labels["rule"], labels["result"]] += count
        elif family == DISAGREEMENTS:
            self.reasons[labels["rule"], labels["result"]][labels["reason"]] += count
        elif family == DROPPED:
            self.dropped += count


def migration_status(config: Config, policy: Policy, families: Iterable[Metric]) -> dict[str, Any]:
    """What ``/status`` shows of where the migration stands.

    :param families: the metrics of all workers.
    """
    status: dict[str, Any] = {"way": config.way}
    if config.compare_sample:
        status["comparison"] = comparison_status(families, policy)
    return status


def comparison_status(families: Iterable[Metric], policy: Policy) -> dict[str, Any]:
    """What ``/status`` shows of the comparisons, rule by rule in the order of the policy; public rules have none.

    Of a long policy those that matter most, see :func:`.figures.most`.
    """
    found = _Findings(families)
    rules = [_rule_status(rule.name, found) for rule in policy.routes.rules if not rule.public]
    told = most(rules, _weight)
    return {
        "rules": told, "rules_left_out": len(rules) - len(told),
        "rules_ready": sum(rule["ready"] for rule in rules), "dropped": found.dropped, "ready_when": CRITERION,
    }  # fmt: skip


def is_ready(compared: int, stricter: int, looser: int) -> bool:
    """Whether that many comparisons that could tell are enough, and good enough."""
    return compared >= ENOUGH and looser == 0 and stricter <= compared * MOST_STRICTER


def _rule_status(rule: str, found: _Findings) -> dict[str, Any]:
    agree, stricter, looser, both_refuse, unknown = (
        found.results[rule, result]
        for result in (Result.AGREE, Result.STRICTER, Result.LOOSER, Result.BOTH_REFUSE, Result.UNKNOWN)
    )
    compared = agree + stricter + looser
    why_stricter, why_looser = found.reasons[rule, Result.STRICTER], found.reasons[rule, Result.LOOSER]
    return {
        "rule": rule, "compared": compared, "agree": agree, "stricter": stricter, "looser": looser,
        "both_refuse": both_refuse, "unknown": unknown,
        "reasons": why_stricter + why_looser,
        "ready": is_ready(compared, stricter, looser),
        "summary": ", ".join([
            f"{compared:,} compared", _said("looser", looser, why_looser), _said("stricter", stricter, why_stricter),
        ]),
    }  # fmt: skip


def _weight(status: dict[str, Any]) -> tuple[int, int, int]:
    return status["looser"], status["stricter"], status["compared"]


def _said(what: str, count: int, reasons: Counter[str]) -> str:
    """``3 stricter: token_expired``."""
    return f"{count:,} {what}" + (f": {' '.join(sorted(reasons))}" if reasons else "")
