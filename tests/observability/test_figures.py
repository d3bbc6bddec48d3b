"""What people are told about figures is what the metrics say, whether one process counted or several."""

import pytest

from authz_service.errors import Reason
from authz_service.model import Allow, Decision, Deny, Mode
from authz_service.observability.figures import MAX_RULES, Figures
from authz_service.observability.merged import MergedPages
from authz_service.observability.metrics import BOUNDS_SECONDS, Metrics
from authz_service.policy.loader import Policy, parse_policy

RULES = "version: 1\nrules:\n"
ONE_RULE = """\
  - {name: get-group, match: {path: "/groups/{id}", methods: [GET]}, require: {authenticated: true}, mode: shadow}
"""


class Cache:
    hits, misses, evictions, size = 9, 1, 0, 4096

    def __len__(self) -> int:
        return 7


def allow(reason: Reason = Reason.ALLOWED, rule: str = "get-group") -> Allow:
    return Allow(reason, rule, Mode.SHADOW)


def deny(reason: Reason = Reason.TOKEN_EXPIRED, rule: str = "get-group") -> Deny:
    return Deny(reason, rule, Mode.ENFORCE, 401, (), "{}")


def counted(*decisions: Decision, seconds: float = 20e-6) -> Metrics:
    metrics = Metrics()
    for decision in decisions:
        metrics.decided(decision, seconds)
    return metrics


def figures(metrics: Metrics) -> Figures:
    return Figures(metrics.registry.collect())


def many(rules: int) -> Policy:
    lines = (f"  - {{name: rule-{n}, match: {{path: /{n}}}, public: true}}\n" for n in range(rules))
    return parse_policy(RULES + "".join(lines))


def test_what_shadow_mode_let_through_counts_for_itself() -> None:
    decisions = figures(counted(allow(), allow(Reason.ROLE_DENIED), deny(), deny())).decisions()
    assert decisions == {
        "allowed": 1, "denied": 2, "would_deny": 1, "reasons": {"token_expired": 2, "role_denied": 1},
    }  # fmt: skip


def test_a_rule_is_shown_as_it_is_with_its_hits() -> None:
    shown = figures(counted(allow(), allow(Reason.ROLE_DENIED), deny(rule=""))).rules(parse_policy(RULES + ONE_RULE))
    assert shown == [{
        "name": "get-group", "path": "/groups/{id}", "methods": ["GET"], "public": False, "mode": "shadow",
        "enforce_percent": None, "allowed": 1, "denied": 0, "would_deny": 1,
    }]  # fmt: skip


def test_of_a_long_policy_the_rules_that_matter_most_are_shown_in_its_order() -> None:
    policy = many(MAX_RULES + 100)
    busy = counted(allow(rule=f"rule-{MAX_RULES + 50}"), deny(rule=f"rule-{MAX_RULES + 20}"))
    names = [rule["name"] for rule in figures(busy).rules(policy)]
    assert names == [
        *(f"rule-{n}" for n in range(MAX_RULES - 2)), f"rule-{MAX_RULES + 20}", f"rule-{MAX_RULES + 50}",
    ]  # fmt: skip


def test_latency_is_a_histogram_without_running_sums() -> None:
    buckets = figures(counted(allow(), allow(), seconds=20e-6)).latency()["buckets"]
    assert buckets[2] == [25e-6, 2]
    assert sum(count for _, count in buckets) == 2
    assert figures(counted(allow(), seconds=5.0)).latency()["buckets"][-1] == [None, 1]


@pytest.mark.parametrize("number", range(len(BOUNDS_SECONDS)))
def test_a_duration_that_is_a_bound_is_within_it(number: int) -> None:
    buckets = figures(counted(allow(), seconds=BOUNDS_SECONDS[number])).latency()["buckets"]
    assert buckets[number] == [BOUNDS_SECONDS[number], 1]


def test_a_cache_that_is_not_there_is_not_shown() -> None:
    metrics = Metrics()
    assert figures(metrics).cache() is None
    metrics.watch_cache(Cache())
    assert figures(metrics).cache() == {"entries": 7, "bytes": 4096, "hits": 9, "misses": 1, "evictions": 0}


def test_several_workers_are_told_of_as_one_process_would_be() -> None:
    policy = parse_policy(RULES + ONE_RULE)
    one, other, both = counted(allow(), deny()), counted(allow(), seconds=5.0), Metrics()
    pages = [metrics.render().decode() for metrics in (one, other)]
    merged = Figures(MergedPages().families(both.render().decode(), pages))
    assert merged.decisions() == figures(counted(allow(), allow(), deny())).decisions()
    assert merged.rules(policy)[0]["allowed"] == 2
    assert [count for _, count in merged.latency()["buckets"] if count] == [2, 1]


def test_whether_the_policy_file_is_in_use_is_the_last_word_about_it() -> None:
    metrics = Metrics()
    words = []
    for good in (True, False, True):
        metrics.policy_reloaded(good)
        words.append(figures(metrics).value("authz_policy_file_in_use"))
    assert words == [1, 0, 1]
