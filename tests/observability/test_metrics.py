"""Figures count what happened, under labels that no client can choose."""

from collections.abc import Iterator, Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from authz_service.errors import AlgorithmNotAllowed, Reason, TokenRefused
from authz_service.model import Allow, Claims, Deny, Mode
from authz_service.observability.metrics import FULL, Metrics, TimedVerifier
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import VerifiedToken


def allow(reason: Reason = Reason.ALLOWED, spoofed_headers: int = 0) -> Allow:
    return Allow(reason, "a-rule", Mode.ENFORCE, spoofed_headers=spoofed_headers)


def deny(reason: Reason) -> Deny:
    return Deny(reason, "a-rule", Mode.ENFORCE, 403, (), "{}")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


class Ring:
    """Figures of one issuer's keys."""

    def __init__(self, issuer: str, last_used: Mapping[str, float | None], *, ready: bool = True) -> None:
        self.issuer = issuer
        self.ready = ready
        self.kids = last_used.keys()
        self.last_used = last_used.get


class Rings:
    """Figures of all."""

    def __init__(self, *rings: Ring, age_seconds: float | None = 12.5) -> None:
        self._rings = rings
        self.age_seconds = age_seconds

    def __iter__(self) -> Iterator[Ring]:
        return iter(self._rings)

    def hits_and_misses(self) -> tuple[int, int]:
        return 7, 3


ONE = Ring("http://issuer", {"one": 1_700_000_000.0, "two": None})


def test_a_decision_is_counted_by_what_it_was() -> None:
    metrics = Metrics()
    metrics.decided(allow(), 0.000_02)
    metrics.decided(deny(Reason.TOKEN_EXPIRED), 0.000_02)
    for decision, reason in (("allow", "allowed"), ("deny", "token_expired")):
        labels = {"decision": decision, "reason": reason, "rule": "a-rule", "mode": "enforce"}
        assert value(metrics, "authz_decisions_total", **labels) == 1
    assert value(metrics, "authz_check_duration_seconds_count") == 2
    assert value(metrics, "authz_check_duration_seconds_bucket", le="1e-05") == 0
    assert value(metrics, "authz_check_duration_seconds_bucket", le="2.5e-05") == 2


def test_more_decisions_than_two_octets_can_count_are_counted() -> None:
    metrics, decision = Metrics(), allow()
    for expected in (FULL - 1, FULL, FULL + 1):
        for _ in range(expected - sum(count for _, _, count in metrics._counted())):
            metrics.decided(decision, 0.000_02)
        labels = {"decision": "allow", "reason": "allowed", "rule": "a-rule", "mode": "enforce"}
        assert value(metrics, "authz_decisions_total", **labels) == expected


def test_spoofed_headers_are_counted_one_by_one() -> None:
    metrics = Metrics()
    metrics.decided(allow(spoofed_headers=3), 0)
    metrics.decided(allow(), 0)
    assert value(metrics, "authz_spoofed_headers_total") == 3


@pytest.mark.parametrize(
    ("reason", "validations", "checks"),
    [
        (Reason.ALLOWED, "success", "granted"), (Reason.CLAIMS_TOO_LARGE, "success", "granted"),
        (Reason.PERMISSION_DENIED, "success", "denied"), (Reason.ROLE_DENIED, "success", "denied"),
        (Reason.PARAM_MISMATCH, "success", "denied"), (Reason.SIGNATURE_INVALID, "failure", None),
        (Reason.TOKEN_EXPIRED, "failure", None), (Reason.TOKEN_MISSING, None, None), (Reason.PUBLIC, None, None),
        (Reason.NO_MATCHING_RULE, None, None), (Reason.KEYS_UNAVAILABLE, None, None),
    ],
)  # fmt: skip
def test_the_figures_of_the_migration_plan(reason: Reason, validations: str | None, checks: str | None) -> None:
    metrics = Metrics()
    metrics.decided(deny(reason), 0)
    for result in ("success", "failure"):
        assert value(metrics, "oauth2_token_validations_total", result=result) == (result == validations)
    for result in ("granted", "denied"):
        assert value(metrics, "oauth2_permission_checks_total", result=result) == (result == checks)
    expected = 1 if checks == "denied" else None
    assert value(metrics, "oauth2_permission_denied_total", rule="a-rule") == expected


def test_verification_is_timed_also_when_it_refuses() -> None:
    metrics = Metrics()
    ticks = iter([1.0, 1.5])

    class Refusing:
        def verify(self, _token: str, _now: float) -> VerifiedToken:
            raise TokenRefused(Reason.TOKEN_MALFORMED, "A sentence.")

        def vouches(self, _claims: Claims, _key: VerificationKey, _now: float) -> bool:
            return False

    with pytest.raises(TokenRefused):
        TimedVerifier(Refusing(), metrics, lambda: next(ticks)).verify("token", 0)
    assert value(metrics, "oauth2_token_validation_duration_seconds_sum") == 0.5


def test_a_token_of_the_old_algorithm_is_counted_under_its_name_and_others_under_none_of_their_own() -> None:
    metrics = Metrics()
    named: Iterator[object] = iter(["HS256", "HS256", "nobody's", None])

    class Refusing:
        def verify(self, _token: str, _now: float) -> VerifiedToken:
            raise AlgorithmNotAllowed(next(named), "A sentence.")

        def vouches(self, _claims: Claims, _key: VerificationKey, _now: float) -> bool:
            return False

    for _ in range(4):
        with pytest.raises(AlgorithmNotAllowed):
            TimedVerifier(Refusing(), metrics, lambda: 0.0).verify("token", 0)
    assert value(metrics, "authz_tokens_refused_algorithm_total", algorithm="HS256") == 2
    assert value(metrics, "authz_tokens_refused_algorithm_total", algorithm="other") == 2
    assert b"nobody" not in metrics.render()


def test_the_key_set_is_shown_as_it_is_at_the_scrape() -> None:
    metrics = Metrics()
    metrics.watch_keys(Rings(ONE))
    assert value(metrics, "jwks_keys") == 2
    assert value(metrics, "jwks_age_seconds") == 12.5
    assert value(metrics, "jwks_key_cache_hits_total") == 7
    assert value(metrics, "jwks_key_cache_misses_total") == 3
    assert value(metrics, "jwks_key_last_used_timestamp_seconds", kid="one") == 1_700_000_000
    assert value(metrics, "jwks_key_last_used_timestamp_seconds", kid="two") is None
    assert value(metrics, "jwks_issuer_ready", issuer="http://issuer") == 1


def test_several_issuers_are_one_sample_but_for_which_of_them_is_down() -> None:
    metrics = Metrics()
    other = Ring("http://other", {"one": 1_600_000_000.0, "three": 5.0})
    metrics.watch_keys(Rings(ONE, other, Ring("http://down", {}, ready=False)))
    assert value(metrics, "jwks_keys") == 4
    page = metrics.render().decode()
    assert page.count('jwks_key_last_used_timestamp_seconds{kid="one"}') == 1
    assert value(metrics, "jwks_key_last_used_timestamp_seconds", kid="one") == 1_700_000_000
    assert value(metrics, "jwks_key_last_used_timestamp_seconds", kid="three") == 5
    assert value(metrics, "jwks_issuer_ready", issuer="http://other") == 1
    assert value(metrics, "jwks_issuer_ready", issuer="http://down") == 0


def test_an_age_that_is_not_known_is_not_shown() -> None:
    metrics = Metrics()
    metrics.watch_keys(Rings(ONE, age_seconds=None))
    assert value(metrics, "jwks_age_seconds") is None


def test_refreshes_reloads_and_their_failures_are_counted() -> None:
    metrics = Metrics()
    metrics.refresh_failed("http://issuer", "timeout")
    metrics.policy_reloaded(good=True)
    metrics.policy_reloaded(good=False)
    assert value(metrics, "jwks_refresh_failures_total", cause="timeout") == 1
    assert value(metrics, "authz_policy_reloads_total", result="success") == 1
    assert value(metrics, "authz_policy_reloads_total", result="failure") == 1


def test_the_page_is_what_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.watch_keys(Rings(ONE))
    metrics.decided(allow(), 0.001)
    names = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    assert {"authz_decisions", "authz_check_duration_seconds", "jwks_refresh", "oauth2_token_validations"} <= names
