"""Prometheus metrics. Names and labels are a contract with dashboards; no label carries what a client sent."""

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from authz_service.errors import Reason, TokenRefused
from authz_service.keys.jwk import KeySet
from authz_service.model import Allow, Decision, VerifiedToken

CONTENT_TYPE = CONTENT_TYPE_LATEST

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that no dashboard reads

SECONDS_FROM_5_MICROSECONDS = (
    5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1.0,
)  # fmt: skip

REQUIREMENT_REASONS = frozenset({Reason.PERMISSION_DENIED, Reason.ROLE_DENIED, Reason.PARAM_MISMATCH})
VALID_TOKEN_REASONS = frozenset({Reason.ALLOWED, Reason.CLAIMS_TOO_LARGE}) | REQUIREMENT_REASONS
INVALID_TOKEN_REASONS = TokenRefused.reasons - {Reason.TOKEN_MISSING}


class Verifier(Protocol):
    """What :class:`TimedVerifier` wraps."""

    def verify(self, token: str, now: float) -> VerifiedToken: ...  # noqa: D102


class KeyRingFigures(Protocol):
    """What the key ring tells at scrape time."""

    @property
    def age_seconds(self) -> float | None: ...  # noqa: D102
    @property
    def kids(self) -> Iterable[str]: ...  # noqa: D102
    def last_used(self, kid: str) -> float | None: ...  # noqa: D102
    def hits_and_misses(self) -> tuple[int, int]: ...  # noqa: D102


class Metrics:
    """All figures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._validations = Counter(
            "oauth2_token_validations_total", "Access tokens examined.", ["result"], registry=registry
        )
        self.validation_seconds = Histogram(
            "oauth2_token_validation_duration_seconds", "Time to verify one access token.",
            buckets=SECONDS_FROM_5_MICROSECONDS, registry=registry,
        )  # fmt: skip
        self._permission_checks = Counter(
            "oauth2_permission_checks_total", "Valid tokens held against a rule.", ["result"], registry=registry
        )
        self._permission_denied = Counter(
            "oauth2_permission_denied_total", "Valid tokens that lack what the rule asks.", ["rule"], registry=registry
        )
        self._refreshes = Counter("jwks_refresh_total", "Key sets fetched and taken into use.", registry=registry)
        self._refresh_failures = Counter(
            "jwks_refresh_failures_total", "Key sets not fetched or refused.", ["cause"], registry=registry
        )
        self._decisions = Counter(
            "authz_decisions_total", "Answers to Envoy.", ["decision", "reason", "rule", "mode"], registry=registry
        )
        self.check_seconds = Histogram(
            "authz_check_duration_seconds", "Time to answer one Check.",
            buckets=SECONDS_FROM_5_MICROSECONDS, registry=registry,
        )  # fmt: skip
        self._spoofed = Counter(
            "authz_spoofed_headers_total", "x-auth-* headers sent by clients, and removed.", registry=registry
        )
        self._policy_reloads = Counter(
            "authz_policy_reloads_total", "Changes of the policy file.", ["result"], registry=registry
        )
        for result in ("success", "failure"):
            self._validations.labels(result)
            self._policy_reloads.labels(result)
        for result in ("granted", "denied"):
            self._permission_checks.labels(result)

    def watch_keys(self, keys: KeyRingFigures) -> None:
        """Show the state of the key set at each scrape."""
        self.registry.register(_KeyCollector(keys))

    def refreshed(self, _issuer: str, _key_set: KeySet, _withdrawn: frozenset[str]) -> None:
        """A key set was taken into use; see :class:`authz_service.keys.jwks.KeyObserver`."""
        self._refreshes.inc()

    def refresh_failed(self, _issuer: str, cause: str) -> None:
        """A key set was not fetched, or refused. The causes are a closed list."""
        self._refresh_failures.labels(cause).inc()

    def policy_reloaded(self, good: bool) -> None:  # noqa: FBT001 - a callback with one argument
        """A changed policy file was taken into use, or refused."""
        self._policy_reloads.labels("success" if good else "failure").inc()

    def decided(self, decision: Decision, seconds: float) -> None:
        """One Check was answered."""
        self.check_seconds.observe(seconds)
        word = "allow" if isinstance(decision, Allow) else "deny"
        self._decisions.labels(word, decision.reason, decision.rule, decision.mode).inc()
        if isinstance(decision, Allow) and decision.spoofed_headers:
            self._spoofed.inc(decision.spoofed_headers)
        self._count_oauth2(decision)

    def _count_oauth2(self, decision: Decision) -> None:
        reason = decision.reason
        if reason in INVALID_TOKEN_REASONS:
            self._validations.labels("failure").inc()
        elif reason in VALID_TOKEN_REASONS:
            self._validations.labels("success").inc()
            granted = reason not in REQUIREMENT_REASONS
            self._permission_checks.labels("granted" if granted else "denied").inc()
            if not granted:
                self._permission_denied.labels(decision.rule).inc()

    def render(self) -> bytes:
        """The page that Prometheus scrapes."""
        return generate_latest(self.registry)


class TimedVerifier:
    """A verifier that records how long each token took."""

    def __init__(self, verifier: Verifier, histogram: Histogram, timer: Callable[[], float]) -> None:
        self._verifier = verifier
        self._histogram = histogram
        self._timer = timer

    def verify(self, token: str, now: float) -> VerifiedToken:
        """Verify, and observe the time also when it is refused."""
        started = self._timer()
        try:
            return self._verifier.verify(token, now)
        finally:
            self._histogram.observe(self._timer() - started)


class _KeyCollector(Collector):
    """Reads the key ring when scraped, so that the hot path writes no gauge."""

    def __init__(self, keys: KeyRingFigures) -> None:
        self._keys = keys

    def collect(self) -> Iterable[Metric]:
        hits, misses = self._keys.hits_and_misses()
        yield CounterMetricFamily("jwks_key_cache_hits_total", "Keys found in the current set.", value=hits)
        yield CounterMetricFamily("jwks_key_cache_misses_total", "Keys not found in the current set.", value=misses)
        kids = list(self._keys.kids)
        yield GaugeMetricFamily("jwks_keys", "Usable keys in the current set.", value=len(kids))
        if (age := self._keys.age_seconds) is not None:
            yield GaugeMetricFamily("jwks_age_seconds", "Time since the last good refresh.", value=age)
        last_used = GaugeMetricFamily(
            "jwks_key_last_used_timestamp_seconds", "When a key last verified a token.", labels=["kid"]
        )
        for kid in kids:
            if (used := self._keys.last_used(kid)) is not None:
                last_used.add_metric([kid], used)
        yield last_used
