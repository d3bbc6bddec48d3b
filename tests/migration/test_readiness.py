"""What ``/status`` says of the comparisons: rule by rule, in words, and by one criterion."""

from collections.abc import Iterable

import pytest
from prometheus_client.core import Metric

from authz_service.config import load_config
from authz_service.migration.figures import ComparisonFigures
from authz_service.migration.readiness import comparison_status, is_ready, migration_status
from authz_service.observability.figures import MAX_RULES
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy

POLICY = parse_policy("""
version: 1
rules:
  - {name: health, match: {path: /healthz}, public: true}
  - {name: read, match: {path: /groups, methods: [GET]}, require: {permission: "groups:read"}}
  - {name: delete, match: {path: /groups, methods: [DELETE]}, require: {permission: "groups:delete"}}
""")


def families(figures: ComparisonFigures) -> Iterable[Metric]:
    metrics = Metrics()
    metrics.watch(figures.families)
    return metrics.registry.collect()


def test_the_figures_of_each_rule_that_asks_for_something_are_told() -> None:
    figures = ComparisonFigures()
    for _ in range(12_477):
        figures.compared("read", "agree")
    for _ in range(3):
        figures.compared("read", "local_stricter", "token_expired")
    figures.compared("read", "unknown")
    for _ in range(4):
        figures.compared("read", "both_refuse")
    figures.compared("delete", "local_looser", "permission_denied")
    figures.compared("delete", "local_stricter", "token_expired")
    figures.dropped()
    status = comparison_status(families(figures), POLICY)
    assert status["rules"] == [
        {
            "rule": "read", "compared": 12_480, "agree": 12_477, "stricter": 3, "looser": 0, "both_refuse": 4,
            "unknown": 1,
            "reasons": {"token_expired": 3}, "ready": True,
            "summary": "12,480 compared, 0 looser, 3 stricter: token_expired",
        },
        {
            "rule": "delete", "compared": 2, "agree": 0, "stricter": 1, "looser": 1, "both_refuse": 0,
            "unknown": 0,
            "reasons": {"token_expired": 1, "permission_denied": 1}, "ready": False,
            "summary": "2 compared, 1 looser: permission_denied, 1 stricter: token_expired",
        },
    ]  # fmt: skip
    assert status["dropped"] == 1
    assert "1,000 compared" in status["ready_when"]


def test_of_a_long_policy_the_rules_that_matter_most_are_told_and_all_are_counted() -> None:
    rule = "  - {{name: rule-{0}, match: {{path: /{0}}}, require: {{authenticated: true}}}}\n"
    rules = "".join(map(rule.format, range(MAX_RULES + 100)))
    figures = ComparisonFigures()
    looser, stricter, agreeing = (f"rule-{MAX_RULES + n}" for n in (70, 50, 30))
    figures.compared(looser, "local_looser", "permission_denied")
    figures.compared(stricter, "local_stricter", "token_expired")
    for _ in range(1_000):
        figures.compared(agreeing, "agree")
    status = comparison_status(families(figures), parse_policy("version: 1\nrules:\n" + rules))
    assert [rule["rule"] for rule in status["rules"]] == [
        *(f"rule-{n}" for n in range(MAX_RULES - 3)), agreeing, stricter, looser,
    ]  # fmt: skip
    assert (status["rules_left_out"], status["rules_ready"]) == (100, 1)


def test_nothing_compared_is_nothing_shown_to_be_ready() -> None:
    status = comparison_status(families(ComparisonFigures()), POLICY)
    assert [(rule["compared"], rule["ready"]) for rule in status["rules"]] == [(0, False)] * 2


@pytest.mark.parametrize(("compared", "stricter", "looser", "ready"), [
    (1_000, 0, 0, True), (999, 0, 0, False), (1_000, 1, 0, True), (1_000, 2, 0, False), (1_000_000, 0, 1, False),
])  # fmt: skip
def test_a_rule_is_ready_by_one_criterion(compared: int, stricter: int, looser: int, *, ready: bool) -> None:
    assert is_ready(compared, stricter, looser) is ready


def test_a_rule_that_has_changed_begins_anew() -> None:
    figures = ComparisonFigures()
    for rule in ("read", "delete"):
        figures.compared(rule, "local_looser", "permission_denied")
    figures.forget({"read"})
    read, delete = comparison_status(families(figures), POLICY)["rules"]
    assert (read["compared"], read["reasons"]) == (0, {})
    assert (delete["compared"], delete["reasons"]) == (1, {"permission_denied": 1})


def test_where_nothing_is_compared_only_the_way_is_told() -> None:
    assert migration_status(load_config({}), POLICY, []) == {"way": "local"}
    assert migration_status(load_config({"USE_OAUTH2_AUTH": "false"}), POLICY, []) == {"way": "auth_api"}
