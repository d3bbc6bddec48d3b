"""The dashboard is what Grafana reads, and what tools/dashboard.py gives."""

from itertools import combinations
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.monitoring import DASHBOARD, dashboard, queries
from tools.dashboard import dashboard as fresh

PANELS = dashboard()["panels"]
ASKING = [panel for panel in PANELS if panel["type"] != "row"]


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    """Where it lies on Grafana's grid."""
    grid = panel["gridPos"]
    return {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}


def test_it_is_current() -> None:
    assert DASHBOARD.read_text(encoding="utf-8") == fresh(), "make dashboard"


def test_grafanas_library_knows_all_that_is_in_it() -> None:
    read = Dashboard.from_json(dashboard())
    assert JSONEncoder(sort_keys=True, indent=2).encode(read) + "\n" == DASHBOARD.read_text(encoding="utf-8")


def test_each_panel_has_an_id_of_its_own() -> None:
    ids = [panel["id"] for panel in PANELS]
    assert sorted(set(ids)) == sorted(ids)


def test_no_panel_lies_on_another_or_beyond_the_edge() -> None:
    assert [(a["title"], b["title"]) for a, b in combinations(PANELS, 2) if cells(a) & cells(b)] == []
    assert max(x for panel in PANELS for x, _ in cells(panel)) < 24


@pytest.mark.parametrize("panel", ASKING, ids=lambda panel: panel["title"])
def test_a_panel_asks_the_chosen_source_and_says_what_it_shows(panel: dict[str, Any]) -> None:
    asked = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert {source["uid"] for source in asked} == {"${datasource}"}
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]


def test_every_query_is_about_the_chosen_instances() -> None:
    assert [query for query in queries() if query.expr.count("{") != query.expr.count('{job=~"$job", instance=~')] == []
