"""Each alert fires when it should and is quiet when it should, by the word of Prometheus's own tool."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.support.monitoring import ABSENT, PROMTOOL, RULES, Alert, alerts, rules

with_promtool = pytest.mark.skipif(PROMTOOL is None, reason=ABSENT)

DAY = 24 * 60


class Case(NamedTuple):
    """What Prometheus scrapes each minute from the beginning on, in promtool's notation: ``first+more x times``."""

    alert: str
    title: str
    series: Mapping[str, str]
    minutes: int
    """After which the alert fires, or has not fired for an hour."""


def decisions(reason: str, values: str, more: str = "0+600x3000") -> dict[str, str]:
    """Refusals for this reason, beside 10 requests a second that pass."""
    return {
        f'authz_decisions_total{{job="a", decision="deny", reason="{reason}"}}': values,
        'authz_decisions_total{job="a", decision="allow", reason="allowed"}': more,
    }


def validations(success: str, failure: str) -> dict[str, str]:
    return {
        'oauth2_token_validations_total{job="a", result="success"}': success,
        'oauth2_token_validations_total{job="a", result="failure"}': failure,
    }


def denied(values: str) -> dict[str, str]:
    return {'oauth2_permission_checks_total{job="a", result="denied"}': values}


def checks(*phases: tuple[float, float, int], within: tuple[str, str] = ("0.001", "0.025")) -> dict[str, str]:
    """Of each phase: checks a minute within 1 ms, within 25 ms (or other bounds), and for how many minutes."""
    fast, slow = [0.0], [0.0]
    for quick, late, minutes in phases:
        for _ in range(minutes):
            fast.append(fast[-1] + quick)
            slow.append(slow[-1] + quick + late)
    return {
        f'authz_check_duration_seconds_{name}{{job="a"{le}}}': " ".join(f"{value:g}" for value in values)
        for name, le, values in (
            ("bucket", f', le="{within[0]}"', fast), ("bucket", f', le="{within[1]}"', slow),
            ("bucket", ', le="+Inf"', slow), ("count", "", slow),
        )
    }  # fmt: skip


def comparisons(values: str, result: str = "local_looser") -> dict[str, str]:
    return {f'authz_comparisons_total{{job="a", rule="groups", result="{result}"}}': values}


UP = 'up{job="authz-service", instance="a"}'
OTHER = 'up{job="authz-service", instance="b"}'
RESTARTS = 'authz_worker_restarts_total{job="a", instance="a"}'
FAILURES = 'jwks_refresh_failures_total{job="a", instance="a", cause="timeout"}'

DROPPED = 'authz_decision_log_dropped_total{job="a", instance="a"}'

FIRING = [
    Case("AuthzTargetDown", "one of two is gone", {UP: "1 1 0x10", OTHER: "1x20"}, 5),
    Case("AuthzNoTarget", "the only one is gone", {UP: "1 1 0x10"}, 5),
    Case("AuthzNoTarget", "there never was one", {'up{job="another"}': "1x20"}, 5),
    Case("AuthzWorkerRestarts", "a worker ends each other minute", {RESTARTS: "0 0 1 1 2 2 3 3 4 4"}, 9),
    Case("AuthzWorkersMissing", "one of four stays away", {"authz_workers_up": "4x10 3x10"}, 14),
    Case("AuthzIssuerNotReady", "one of two issuers is down", {
        'jwks_issuer_ready{issuer="http://a"}': "1x20", 'jwks_issuer_ready{issuer="http://b"}': "0x20",
    }, 3),
    Case("AuthzIssuerNotReady", "of an instance that decides here, beside one that asks the Auth-API", {
        'jwks_issuer_ready{job="a", instance="a", issuer="http://b"}': "0x20",
        'authz_way_info{job="a", instance="a", way="local"}': "1x20",
        'authz_way_info{job="a", instance="b", way="auth_api"}': "1x20",
    }, 3),
    Case("AuthzKeysUnavailable", "a request a minute meets no keys", decisions("keys_unavailable", "0+1x20"), 5),
    Case("AuthzJwksRefreshFailing", "each attempt fails", {FAILURES: "1+2x20"}, 6),
    Case("AuthzKeysOld", "no refresh for two hours", {"jwks_age_seconds": "0+60x200"}, 120),
    Case("AuthzKeysNearlyTooOld", "no refresh for thirteen hours", {"jwks_age_seconds": "0+60x800"}, 13 * 60),
    Case("AuthzAuthApiUnavailable", "it does not answer", decisions("auth_api_unavailable", "0+60x20"), 5),
    Case("AuthzTokenValidationFailures", "a fifth is bad", validations("0+80x60", "0+20x60"), 20),
    Case("AuthzPermissionDenialSpike", "from one a minute to sixty", denied("0+1x120 120+60x60"), 140),
    Case("AuthzSpoofedHeaders", "one header", {"authz_spoofed_headers_total": "0x5 1x20"}, 8),
    Case("AuthzComparisonLooser", "the first one ever", comparisons("_x5 1x20"), 7),
    Case("AuthzComparisonLooser", "more of them", comparisons("7x120 8x20"), 130),
    Case("AuthzDecisionLogDropping", "the disk is full", {DROPPED: "0x5 20x20"}, 8),
    Case("AuthzLatencyHigh", "two in a hundred take 25 ms", checks((980, 20, 30)), 20),
    Case("AuthzLatencyRegression", "since a quarter of an hour", checks((1000, 0, DAY + 20), (980, 20, 40)), DAY + 50),
    Case("AuthzOverloaded", "two in a hundred are refused", decisions("overloaded", "0+12x20"), 8),
    Case("AuthzInternalErrors", "the first one ever", decisions("internal_error", "_x5 1x20"), 7),
    Case("AuthzInternalErrors", "another one", decisions("internal_error", "3x30 4x20"), 33),
    Case("AuthzPolicyNotLoaded", "a mistake in the file", {"authz_policy_file_in_use": "1 0x10"}, 4),
]  # fmt: skip

QUIET = [
    Case("AuthzTargetDown", "a scrape is missed", {UP: "1 1 0 1x20"}, 3),
    Case("AuthzTargetDown", "another job is down", {'up{job="another"}': "0x20"}, 10),
    Case("AuthzNoTarget", "a scrape of the only one is missed", {UP: "1 1 0 1x20"}, 5),
    Case("AuthzNoTarget", "one of two is left", {UP: "0x20", OTHER: "1x20"}, 10),
    Case("AuthzWorkerRestarts", "a worker was killed once", {RESTARTS: "0 0 1x20"}, 9),
    Case("AuthzWorkersMissing", "a worker is started again", {"authz_workers_up": "4x10 3 4x10"}, 12),
    Case("AuthzIssuerNotReady", "it comes up", {'jwks_issuer_ready{issuer="http://a"}': "0 1x20"}, 5),
    Case("AuthzIssuerNotReady", "the Auth-API decides, keys only compare", {
        'jwks_issuer_ready{job="a", instance="a", issuer="http://b"}': "0x20",
        'authz_way_info{job="a", instance="a", way="auth_api"}': "1x20",
    }, 10),
    Case("AuthzKeysUnavailable", "a few at the start", decisions("keys_unavailable", "0 5x20"), 6),
    Case("AuthzKeysUnavailable", "other refusals", decisions("token_expired", "0+60x20"), 10),
    Case("AuthzJwksRefreshFailing", "a short outage, three attempts", {FAILURES: "_ 1 3x20"}, 9),
    Case("AuthzKeysOld", "a refresh was missed", {"jwks_age_seconds": "0+60x65 0+60x60"}, 65),
    Case("AuthzKeysNearlyTooOld", "the Auth-API decides, keys only compare", {
        'jwks_age_seconds{job="a", instance="a"}': "0+60x800",
        'authz_way_info{job="a", instance="a", way="auth_api"}': "1x800",
    }, 13 * 60),
    Case("AuthzKeysNearlyTooOld", "a night of six hours", {"jwks_age_seconds": "0+60x360"}, 360),
    Case("AuthzAuthApiUnavailable", "a few", decisions("auth_api_unavailable", "0 5x20"), 6),
    Case("AuthzTokenValidationFailures", "one in twenty is bad", validations("0+950x60", "0+50x60"), 30),
    Case("AuthzTokenValidationFailures", "one a minute and nothing else", validations("0x60", "0+1x60"), 30),
    Case("AuthzTokenValidationFailures", "for three minutes", validations("0+80x60", "0x10 0+20x3 60x40"), 40),
    Case("AuthzPermissionDenialSpike", "as many as ever", denied("0+60x300"), 200),
    Case("AuthzPermissionDenialSpike", "from none to a handful", denied("0x120 0+5x60"), 150),
    Case("AuthzPermissionDenialSpike", "a burst of five minutes", denied("0+1x120 120+60x5 420x60"), 145),
    Case("AuthzSpoofedHeaders", "none any more", {"authz_spoofed_headers_total": "7x60"}, 30),
    Case("AuthzComparisonLooser", "stricter and equal ones", comparisons("0+9x60", "local_stricter"), 30),
    Case("AuthzComparisonLooser", "none yet", comparisons("_x5 0x60"), 30),
    Case("AuthzComparisonLooser", "those of yesterday", comparisons("7x300"), 180),
    Case("AuthzDecisionLogDropping", "that is over", {DROPPED: "20x120"}, 90),
    Case("AuthzLatencyHigh", "one in a thousand takes 25 ms", checks((999, 1, 30)), 20),
    Case("AuthzLatencyHigh", "for three minutes", checks((1000, 0, 20), (900, 100, 3), (1000, 0, 30)), 50),
    Case("AuthzLatencyRegression", "as slow as yesterday", checks((980, 20, DAY + 60)), DAY + 50),
    Case("AuthzLatencyRegression", "still under a millisecond", checks(
        (1000, 0, DAY + 20), (900, 100, 40), within=("0.00001", "0.00025"),
    ), DAY + 50),
    Case("AuthzLatencyRegression", "for five minutes", checks(
        (1000, 0, DAY + 20), (900, 100, 5), (1000, 0, 30),
    ), DAY + 50),
    Case("AuthzLatencyRegression", "a request a minute", checks((1, 0, DAY + 20), (0, 1, 40)), DAY + 50),
    Case("AuthzOverloaded", "one in a thousand is refused", decisions("overloaded", "0+1x20", "0+1000x20"), 8),
    Case("AuthzInternalErrors", "none yet", decisions("internal_error", "_x5 0x60"), 30),
    Case("AuthzInternalErrors", "that of an hour ago", decisions("internal_error", "3x120"), 80),
    Case("AuthzPolicyNotLoaded", "mended at once", {"authz_policy_file_in_use": "1 0 1x10"}, 4),
]  # fmt: skip


def promtool(*arguments: str) -> None:
    done = subprocess.run([PROMTOOL or "", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def assert_firing(directory: Path, case: Case, *, firing: bool) -> None:
    fired = f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}'
    seen = fired if firing else f"count_over_time({fired}[1h])"
    query = f"(count({seen}) > bool 0) or vector(0)"
    expected = {"expr": query, "eval_time": f"{case.minutes}m", "exp_samples": [{"labels": "{}", "value": int(firing)}]}
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [expected]}
    file = directory / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]}), encoding="utf-8")
    promtool("test", "rules", str(file))


def named(case: Case) -> str:
    return f"{case.alert}: {case.title}"


@with_promtool
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", "--lint-fatal", str(RULES))


@with_promtool
@pytest.mark.parametrize("case", FIRING, ids=named)
def test_it_fires(tmp_path: Path, case: Case) -> None:
    assert_firing(tmp_path, case, firing=True)


@with_promtool
@pytest.mark.parametrize("case", QUIET, ids=named)
def test_it_is_quiet(tmp_path: Path, case: Case) -> None:
    assert_firing(tmp_path, case, firing=False)


@pytest.mark.parametrize("cases", [FIRING, QUIET], ids=["firing", "quiet"])
def test_every_alert_is_tried(cases: list[Case]) -> None:
    assert {case.alert for case in cases} == {alert.name for alert in alerts()}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_a_text_names_only_labels_that_the_expression_keeps(alert: Alert) -> None:
    kept = [set(labels.split(", ")) for labels in re.findall(r"\bsum by \(([^)]*)\)", alert.rule["expr"])]
    named = set(re.findall(r"\$labels\.(\w+)", str(alert.rule["annotations"])))
    assert all(named <= labels for labels in kept)
    assert not (named and "job:" in alert.rule["expr"])


def test_every_record_is_used_by_an_alert() -> None:
    expressions = " ".join(rule["expr"] for rule in rules() if "alert" in rule)
    assert [rule["record"] for rule in rules() if "record" in rule and rule["record"] not in expressions] == []
