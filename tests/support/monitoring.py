"""What deploy/monitoring holds, read for the tests, and the tools of Prometheus where they are installed."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "deploy/monitoring/rules.yaml"
DASHBOARD = ROOT / "deploy/monitoring/dashboard.json"
RUNBOOK = ROOT / "docs/runbook.md"
GUIDE = ROOT / "docs/monitoring.md"

PROMTOOL = shutil.which("promtool")
PROMETHEUS = shutil.which("prometheus")
ABSENT = "promtool and prometheus are not installed (Debian: apt install prometheus)"

FROM_PROMETHEUS = frozenset({"up"})

_NOISE = re.compile(
    r'"[^"]*"' r"|\{[^}]*\}" r"|\[[^\]]*\]" r"|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
    r"|\$\w+" r"|\boffset\s+\w+"
)  # fmt: skip
_NAME = re.compile(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()")
_WORDS = frozenset({"and", "or", "unless", "bool"})


class Alert(NamedTuple):
    """An alerting rule."""

    name: str
    rule: dict[str, Any]


class Query(NamedTuple):
    """One of the dashboard's."""

    panel: str
    expr: str


def rules() -> list[dict[str, Any]]:
    """All of them, in order."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[Alert]:
    """Those that wake somebody."""
    return [Alert(rule["alert"], rule) for rule in rules() if "alert" in rule]


def dashboard() -> dict[str, Any]:
    """As Grafana reads it."""
    read: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return read


def queries() -> Iterator[Query]:
    """What the panels of the dashboard ask."""
    for panel in dashboard()["panels"]:
        yield from (Query(panel["title"], target["expr"]) for target in panel.get("targets", []))


def metrics_in(expr: str) -> set[str]:
    """The names of the metrics in a PromQL expression."""
    return set(_NAME.findall(_NOISE.sub(" ", expr))) - _WORDS


def asked() -> list[str]:
    """The queries of the guide."""
    (block,) = re.findall(r"^```promql\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [line for line in block.splitlines() if line and not line.startswith("#")]
