"""``deploy/monitoring/dashboard.json``, from the panels below; with ``--check``, only says whether that is what it is.

Grafana's own library writes the JSON, so that its shape is Grafana's.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions, VizTooltipOptions
from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableRefresh,
)

DASHBOARD = Path(__file__).resolve().parent.parent / "deploy/monitoring/dashboard.json"

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
SELECTED = 'job=~"$job", instance=~"$instance"'
RATE = "[$__rate_interval]"
PASSED = 'reason!~"allowed|public|cors_preflight"'

GOOD, WORRYING, BAD = "green", "orange", "red"
YES_OR_NO: Mapping[str, ValueMappingResult] = {
    "0": ValueMappingResult(text="no", color=BAD), "1": ValueMappingResult(text="yes", color=GOOD),
}  # fmt: skip


class Figure(NamedTuple):
    """One number, coloured."""

    title: str
    description: str
    unit: str
    expr: str
    worrying: float | None = None
    bad: float | None = None


class Yes(NamedTuple):
    """Yes or no."""

    title: str
    description: str
    expr: str


class Graph(NamedTuple):
    """Curves over time."""

    title: str
    description: str
    unit: str
    curves: Mapping[str, str]
    """Legend: expression."""


Panel = Figure | Yes | Graph


def rate(metric: str, by: str = "", **labels: str) -> str:
    """How many a second, together or by some labels."""
    chosen = "".join(f', {name}="{value}"' for name, value in labels.items())
    return _over("sum", f"rate({metric}{{{SELECTED}{chosen}}}{RATE})", by)


def refused(by: str) -> str:
    """What is denied, or would be: each reason but those to allow."""
    return _over("sum", f"rate(authz_decisions_total{{{SELECTED}, {PASSED}}}{RATE})", by)


def quantile(which: float, histogram: str) -> str:
    """The duration that this share of all does not exceed."""
    return f"histogram_quantile({which}, {rate(f'{histogram}_bucket', 'le')})"


def share(part: str, whole: str) -> str:
    """Between 0 and 1."""
    return f"{part} / {whole}"


def portion(part: str, rest: str) -> str:
    """Of two that make a whole, the first one's share."""
    return share(rate(part), f"({rate(part)} + {rate(rest)})")


def now(metric: str, how: str, by: str = "") -> str:
    """A state, over the instances."""
    return _over(how, f"{metric}{{{SELECTED}}}", by)


def _over(how: str, expr: str, by: str) -> str:
    return f"{how} by ({by}) ({expr})" if by else f"{how}({expr})"


CHECK = "authz_check_duration_seconds"
AUTH_API = "authz_auth_api_request_duration_seconds"
VALIDATIONS = "oauth2_token_validations_total"
VALIDATION = "oauth2_token_validation_duration_seconds"

ROWS: Mapping[str, tuple[Panel, ...]] = {
    "Is it well?": (
        Yes("Keys usable", "Of every issuer, at every instance. If not: 503.", now("jwks_issuer_ready", "min")),
        Yes("Policy as in the file", "If not, the file holds a mistake and the policy before it serves on.",
            now("authz_policy_file_in_use", "min")),
        Figure("Oldest keys", "Since the last good refresh. Refreshes come every half an hour; after a day: 503.", "s",
               now("jwks_age_seconds", "max"), 5400, 43200),
        Figure("Requests", "Decisions a second.", "reqps", rate("authz_decisions_total")),
        Figure("Refused", "The share that is denied.", "percentunit",
               share(rate("authz_decisions_total", decision="deny"), rate("authz_decisions_total")), 0.1, 0.5),
        Figure("Slowest hundredth", "99 of 100 Checks take less.", "s", quantile(0.99, CHECK), 0.001, 0.01),
    ),
    "Decisions": (
        Graph("Decisions by reason", "The word that the answer's body, the log and the docs have, too.", "reqps",
              {"{{decision}} {{reason}}": rate("authz_decisions_total", "decision, reason")}),
        Graph("Refused by rule", "Denied by it, or would be, in shadow mode.", "reqps",
              {"{{rule}} {{reason}} ({{mode}})": refused("rule, reason, mode")}),
        Graph("Spoof attempts", "x-auth-* headers that clients sent, and that Envoy should have removed before.", "cps",
              {"headers": rate("authz_spoofed_headers_total")}),
        Graph("Permission checks", "Valid tokens held against a rule.", "reqps",
              {"{{result}}": rate("oauth2_permission_checks_total", "result")}),
        Graph("Permission denials by rule", "The ten rules with the most.", "reqps",
              {"{{rule}}": f"topk(10, {rate('oauth2_permission_denied_total', 'rule')})"}),
        Graph("Decision log", "Lines that were written, and lines that were dropped so that no request waits.", "cps", {
            "written": rate("authz_decision_log_written_total"), "dropped": rate("authz_decision_log_dropped_total"),
        }),
    ),
    "Tokens": (
        Graph("Token validations", "Failures say why under Decisions by reason.", "reqps",
              {"{{result}}": rate(VALIDATIONS, "result")}),
        Graph("Share that fails", "Expired tokens are normal in small numbers.", "percentunit",
              {"failures": share(rate(VALIDATIONS, result="failure"), rate(VALIDATIONS))}),
        Graph("Time to validate a token", "Of those that are not remembered.", "s", {
            "p50": quantile(0.5, VALIDATION), "p99": quantile(0.99, VALIDATION),
        }),
        Graph("Refused for their algorithm", "A move to RS256 is over when nobody uses the old one.", "reqps",
              {"{{algorithm}}": rate("authz_tokens_refused_algorithm_total", "algorithm")}),
        Graph("Remembered tokens: hits", "A decision on a remembered token costs a fraction.", "percentunit", {
            "hits": portion("authz_verified_token_cache_hits_total", "authz_verified_token_cache_misses_total"),
        }),
        Graph("Remembered tokens", "Evictions mean that AUTHZ_TOKEN_CACHE_ENTRIES or _BYTES is small.", "short", {
            "tokens": now("authz_verified_token_cache_entries", "sum"),
            "evictions a second": rate("authz_verified_token_cache_evictions_total"),
        }),
    ),
    "Keys": (
        Graph("Age of the keys", "A saw; a line that climbs on is an issuer that does not answer.", "s",
              {"{{instance}}": now("jwks_age_seconds", "max", "instance")}),
        Graph("Refreshes and failures", "By cause; the log says more: JWKS fetch failed.", "cps", {
            "good": rate("jwks_refresh_total"), "{{cause}}": rate("jwks_refresh_failures_total", "cause"),
        }),
        Graph("Usable keys", "One more during a rotation.", "short",
              {"{{instance}}": now("jwks_keys", "max", "instance")}),
        Graph("Last use of each key", "A key that nobody uses any more may be withdrawn.", "s",
              {"{{kid}}": f"time() - {now('jwks_key_last_used_timestamp_seconds', 'max', 'kid')}"}),
        Graph("Key look-ups that miss", "Tokens that name a key which the issuer does not publish.", "percentunit", {
            "misses": portion("jwks_key_cache_misses_total", "jwks_key_cache_hits_total"),
        }),
        Graph("Issuers", "1: its tokens can be decided, at every instance.", "short",
              {"{{issuer}}": now("jwks_issuer_ready", "min", "issuer")}),
    ),
    "Migration": (
        Graph("Both ways compared", "local_looser must be none. With AUTHZ_COMPARE_SAMPLE.", "reqps", {
            "{{rule}} {{result}}": rate("authz_comparisons_total", "rule, result"),
            "dropped": rate("authz_comparisons_dropped_total"),
        }),
        Graph("Questions to the Auth-API", "None any more, once all is decided locally.", "reqps",
              {"{{result}}": rate("authz_auth_api_requests_total", "result")}),
        Graph("Time of the Auth-API", "What a request waits for with USE_OAUTH2_AUTH=false.", "s",
              {"p50": quantile(0.5, AUTH_API), "p99": quantile(0.99, AUTH_API)}),
    ),
    "Service": (
        Graph("Time of a Check", "Within authz-service; Envoy's ext_authz statistics tell the whole.", "s", {
            "p50": quantile(0.5, CHECK), "p90": quantile(0.9, CHECK), "p99": quantile(0.99, CHECK),
        }),
        Graph("Mean time of a Check", "By instance.", "s", {
            "{{instance}}": share(rate(f"{CHECK}_sum", "instance"), rate(f"{CHECK}_count", "instance")),
        }),
        Graph("Workers", "With serve --workers.", "short", {
            "up at {{instance}}": now("authz_workers_up", "max", "instance"),
            "restarts a second": rate("authz_worker_restarts_total"),
        }),
    ),
}  # fmt: skip


def dashboard() -> str:
    """As Grafana reads it."""
    made = (
        Dashboard("authz-service").uid("authz-service").tags(["authz-service", "envoy"])
        .description("External authorization for Envoy. What to do about what is seen here: docs/runbook.md.")
        .time("now-3h", "now").refresh("30s").timezone("browser")
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_choice("job", f"label_values({CHECK}_count, job)"))
        .with_variable(_choice("instance", f'label_values({CHECK}_count{{job=~"$job"}}, instance)'))
    )  # fmt: skip
    number = 0
    for title, panels in ROWS.items():
        number += 1
        made = made.with_row(Row(title).id(number))
        for panel in panels:
            number += 1
            made = made.with_panel(_panel(panel).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def _choice(name: str, query: str) -> QueryVariable:
    return (
        QueryVariable(name).datasource(SOURCE).query(query).multi(multi=True).include_all(include_all=True)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    )  # fmt: skip


def _panel(panel: Panel) -> Stat | TimeSeries:
    if isinstance(panel, Graph):
        return _graph(panel)
    if isinstance(panel, Yes):
        return _stat(panel, "short").mappings([ValueMap(options=dict(YES_OR_NO))]).graph_mode(BigValueGraphMode.NONE)
    return _stat(panel, panel.unit).thresholds(_steps(panel)).graph_mode(BigValueGraphMode.AREA)


def _stat(panel: Figure | Yes, unit: str) -> Stat:
    (query,) = _queries({"": panel.expr})
    return (
        Stat().title(panel.title).description(panel.description).datasource(SOURCE).unit(unit).height(4).span(4)
        .color_mode(BigValueColorMode.VALUE).reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query)
    )  # fmt: skip


def _steps(figure: Figure) -> ThresholdsConfig:
    above = ((figure.worrying, WORRYING), (figure.bad, BAD))
    steps = [Threshold(value=None, color=GOOD), *(Threshold(value=at, color=color) for at, color in above if at)]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _graph(graph: Graph) -> TimeSeries:
    made = (
        TimeSeries().title(graph.title).description(graph.description).datasource(SOURCE).unit(graph.unit).min(0)
        .height(8).span(8).fill_opacity(8)
        .legend(VizLegendOptions().show_legend(show_legend=True).display_mode(LegendDisplayMode.LIST)
                .placement(LegendPlacement.BOTTOM).calcs([]))
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )  # fmt: skip
    for query in _queries(graph.curves):
        made = made.with_target(query)
    return made


def _queries(curves: Mapping[str, str]) -> Iterator[Dataquery]:
    for letter, (legend, expr) in zip("ABCDEFGH", curves.items(), strict=False):
        yield Dataquery().datasource(SOURCE).expr(expr).legend_format(legend).ref_id(letter)


def main(arguments: list[str]) -> int:
    """0 when the file is, or now is, what the panels give."""
    fresh = dashboard()
    if "--check" not in arguments:
        DASHBOARD.write_text(fresh, encoding="utf-8")
        return 0
    if DASHBOARD.is_file() and DASHBOARD.read_text(encoding="utf-8") == fresh:
        return 0
    print("deploy/monitoring/dashboard.json is not what tools/dashboard.py gives: make dashboard")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
