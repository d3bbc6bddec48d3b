"""What the rules, the dashboard and the docs ask for is on the page that Prometheus scrapes."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.test_workers import serving
from tests.support.monitoring import FROM_PROMETHEUS, asked, metrics_in, queries, rules

SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def names_on(page: str) -> set[str]:
    """Also of those that have no sample yet."""
    families = text_string_to_metric_families(page)
    return {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}


async def test_every_metric_that_is_asked_for_is_there(tmp_path: Path) -> None:
    expressions = [*(rule["expr"] for rule in rules()), *(query.expr for query in queries()), *asked()]
    wanted = {name for expr in expressions for name in metrics_in(expr)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    async with serving(2, AUTHZ_COMPARE_SAMPLE="1", AUTHZ_DECISION_LOG=str(tmp_path / "log")) as (_, running):
        there = names_on(await running.metrics())
    assert wanted - recorded - FROM_PROMETHEUS - there == set()


@pytest.mark.parametrize(("expr", "names"), [
    ('sum by (job, le) (rate(a_bucket{x="b", y=~"c"}[5m])) > 0.5', {"a_bucket"}),
    ('topk(10, rule:b:rate5m) and on (job) c unless c offset 1h', {"rule:b:rate5m", "c"}),
    ('absent(up{job="authz-service"} == 1) or vector(0)', {"up"}),
])  # fmt: skip
def test_names_are_told_from_the_words_around_them(expr: str, names: set[str]) -> None:
    assert metrics_in(expr) == names
