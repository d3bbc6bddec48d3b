"""Prometheus metrics. Names and labels are a contract with dashboards; no label carries what a client sent.

What is counted for each request is counted in plain integers and given Prometheus's form when it is scraped: a
decision costs a fraction of a microsecond here.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Final, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from authz_service.authorizer import Verifier
from authz_service.errors import AlgorithmNotAllowed, Reason, TokenRefused
from authz_service.kept import NUMBERS, Outcome
from authz_service.keys.jwk import KeySet
from authz_service.model import Allow, Decision
from authz_service.token.verifier import VerifiedToken

CONTENT_TYPE = CONTENT_TYPE_LATEST

BOUNDS_SECONDS: Final[tuple[float, ...]] = (
    5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 1.0,
)  # fmt: skip

FULL: Final = 1 << 16
"""More than an item of an array of type ``H`` holds: so many decisions are carried to where there is more room."""

REQUIREMENT_REASONS: Final = frozenset({Reason.PERMISSION_DENIED, Reason.ROLE_DENIED, Reason.PARAM_MISMATCH})
VALID_TOKEN_REASONS: Final = frozenset({Reason.ALLOWED, Reason.CLAIMS_TOO_LARGE}) | REQUIREMENT_REASONS
INVALID_TOKEN_REASONS: Final = TokenRefused.reasons - {Reason.TOKEN_MISSING}


class CacheFigures(Protocol):
    """What the memory of verified tokens tells at scrape time."""

    hits: int
    misses: int
    evictions: int

    def __len__(self) -> int: ...
    @property
    def size(self) -> int: ...  # noqa: D102


class KeyRingFigures(Protocol):
    """What one issuer's key ring tells at scrape time."""

    issuer: str

    @property
    def ready(self) -> bool: ...  # noqa: D102
    @property
    def kids(self) -> Iterable[str]: ...  # noqa: D102
    def last_used(self, kid: str) -> float | None: ...  # noqa: D102


class KeyFigures(Protocol):
    """What all of them tell."""

    def __iter__(self) -> Iterator[KeyRingFigures]: ...
    @property
    def age_seconds(self) -> float | None: ...  # noqa: D102
    def hits_and_misses(self) -> tuple[int, int]: ...  # noqa: D102


class WorkerFigures(Protocol):
    """What a supervisor tells of its workers at scrape time."""

    @property
    def up(self) -> int: ...  # noqa: D102
    @property
    def restarts(self) -> int: ...  # noqa: D102


class Durations:
    """How long something took: the state of a Prometheus histogram."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS_SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        number = 0
        for bound in BOUNDS_SECONDS:  # most decisions are short
            if seconds <= bound:
                break
            number += 1
        self._counts[number] += 1
        self._sum += seconds

    def family(self, name: str, documentation: str) -> Metric:
        """As Prometheus wants it: each bucket holds all that are shorter."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS_SECONDS), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._sum)


class Metrics:
    """All figures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Figures(self._families))
        self.check_seconds = Durations()
        self.validation_seconds = Durations()
        self._decisions = array("H")
        """By the number of their verdict, less what was carried: one look at little memory, of 10,000 rules 20 KB."""
        self._carried: Counter[int] = Counter()
        self._spoofed = 0
        self._refreshes = 0
        self._refresh_failures: Counter[str] = Counter()
        self._refused_algorithms: Counter[str] = Counter()
        self._policy_reloads = {"success": 0, "failure": 0}
        self._policy_file_in_use = True

    def decided(self, decision: Decision, seconds: float) -> None:
        """One Check was answered."""
        verdict, counts = decision[0], self._decisions  # by its name it would take a look-up, as would the next
        if isinstance(decision, Allow) and decision[3]:
            self._spoofed += decision.spoofed_headers
        number = verdict.number
        if number >= len(counts):
            counts.extend(repeat(0, len(NUMBERS) - len(counts)))
        count = counts[number] + 1
        if count == FULL:
            self._carried[number] += FULL
            count = 0
        counts[number] = count
        self.check_seconds.observe(seconds)

    def _counted(self) -> Iterator[tuple[Outcome, str, int]]:
        """Outcome, rule and how often."""
        for number, ((outcome, rule), count) in enumerate(zip(NUMBERS, self._decisions, strict=False)):
            if total := count + self._carried[number]:
                yield outcome, rule, total

    def policy_reloaded(self, good: bool) -> None:  # noqa: FBT001 - a callback with one argument
        """A changed policy file was taken into use, or refused."""
        self._policy_reloads["success" if good else "failure"] += 1
        self._policy_file_in_use = good

    def refreshed(self, _issuer: str, _key_set: KeySet, _withdrawn: frozenset[str]) -> None:
        """A key set was taken into use; see :class:`authz_service.keys.jwks.KeyObserver`."""
        self._refreshes += 1

    def refresh_failed(self, _issuer: str, cause: str) -> None:
        """A key set was not fetched, or refused. The causes are a closed list."""
        self._refresh_failures[cause] += 1

    def algorithm_refused(self, algorithm: str) -> None:
        """A token was refused for its signature algorithm, one of the closed list of AlgorithmNotAllowed."""
        self._refused_algorithms[algorithm] += 1

    def refused_tokens(self) -> Counter[Reason]:
        """How many tokens did not validate so far, whether or not that was enforced."""
        refused: Counter[Reason] = Counter()
        for outcome, _rule, count in self._counted():
            if outcome.reason in INVALID_TOKEN_REASONS:
                refused[outcome.reason] += count
        return refused

    def watch_keys(self, keys: KeyFigures) -> None:
        """Show the state of the key sets at each scrape."""
        self.registry.register(_Figures(lambda: _key_families(keys)))

    def watch_cache(self, cache: CacheFigures) -> None:
        """Show the memory of verified tokens at each scrape."""
        self.registry.register(_Figures(lambda: _cache_families(cache)))

    def watch(self, families: Callable[[], Iterable[Metric]]) -> None:
        """Show these at each scrape."""
        self.registry.register(_Figures(families))

    def watch_workers(self, workers: WorkerFigures) -> None:
        """Show the state of the workers at each scrape."""
        self.registry.register(_Figures(lambda: _worker_families(workers)))

    def render(self) -> bytes:
        """The page that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _families(self) -> Iterator[Metric]:
        yield self._decision_family()
        yield self.check_seconds.family("authz_check_duration_seconds", "Time to answer one Check.")
        yield from self._plan_families()
        yield CounterMetricFamily(
            "authz_spoofed_headers", "x-auth-* headers sent by clients, and removed.", value=self._spoofed
        )
        yield _labelled("authz_policy_reloads", "Changes of the policy file.", "result", self._policy_reloads)
        yield GaugeMetricFamily(
            "authz_policy_file_in_use", "Whether the policy in use is what the file says now.",
            value=self._policy_file_in_use,
        )  # fmt: skip
        yield CounterMetricFamily("jwks_refresh", "Key sets fetched and taken into use.", value=self._refreshes)
        yield _labelled("jwks_refresh_failures", "Key sets not fetched or refused.", "cause", self._refresh_failures)

        yield _labelled(
            "authz_tokens_refused_algorithm", "Tokens whose signature algorithm is not allowed.", "algorithm",
            self._refused_algorithms,
        )  # fmt: skip

    def _decision_family(self) -> Metric:
        labels = ["decision", "reason", "rule", "mode"]
        family = CounterMetricFamily("authz_decisions", "Answers to Envoy.", labels=labels)
        for outcome, rule, count in self._counted():
            family.add_metric([outcome.answer, outcome.reason, rule, outcome.mode], count)
        return family

    def _plan_families(self) -> Iterator[Metric]:
        """The figures of the migration plan; all of them follow from the decisions."""
        validations = {"success": 0, "failure": 0}
        checks = {"granted": 0, "denied": 0}
        denied: Counter[str] = Counter()
        for outcome, rule, count in self._counted():
            reason = outcome.reason
            if reason in INVALID_TOKEN_REASONS:
                validations["failure"] += count
            elif reason in REQUIREMENT_REASONS:
                validations["success"] += count
                checks["denied"] += count
                denied[rule] += count
            elif reason in VALID_TOKEN_REASONS:
                validations["success"] += count
                checks["granted"] += count
        yield _labelled("oauth2_token_validations", "Access tokens examined.", "result", validations)
        yield self.validation_seconds.family(
            "oauth2_token_validation_duration_seconds", "Time to verify one access token."
        )
        yield _labelled("oauth2_permission_checks", "Valid tokens held against a rule.", "result", checks)
        yield _labelled("oauth2_permission_denied", "Valid tokens that lack what the rule asks.", "rule", denied)


class TimedVerifier:
    """A verifier that records how long each token took; those that it only vouches for again take none.

    It also tells of each algorithm that is not allowed: a migration to another one is over when nobody uses the old.
    """

    def __init__(self, verifier: Verifier, metrics: Metrics, timer: Callable[[], float]) -> None:
        self._verifier = verifier
        self._metrics = metrics
        self._timer = timer
        self.vouches = verifier.vouches

    def verify(self, token: str, now: float) -> VerifiedToken:
        """Verify, and observe the time also when it is refused."""
        started = self._timer()
        try:
            return self._verifier.verify(token, now)
        except AlgorithmNotAllowed as refused:
            self._metrics.algorithm_refused(refused.algorithm)
            raise
        finally:
            self._metrics.validation_seconds.observe(self._timer() - started)


class _Figures(Collector):
    """Makes the families anew at each scrape."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()


def _labelled(name: str, documentation: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _key_families(keys: KeyFigures) -> Iterator[Metric]:
    """One sample for all issuers together, as for a single one: the sum of their keys, the worst of their ages."""
    hits, misses = keys.hits_and_misses()
    yield CounterMetricFamily("jwks_key_cache_hits", "Keys found in the current set.", value=hits)
    yield CounterMetricFamily("jwks_key_cache_misses", "Keys not found in the current set.", value=misses)
    rings = list(keys)
    yield GaugeMetricFamily("jwks_keys", "Usable keys in the current set.", value=sum(len(list(r.kids)) for r in rings))
    if (age := keys.age_seconds) is not None:
        yield GaugeMetricFamily("jwks_age_seconds", "Time since the last good refresh.", value=age)
    ready = GaugeMetricFamily("jwks_issuer_ready", "Whether an issuer's tokens can be decided.", labels=["issuer"])
    for ring in rings:
        ready.add_metric([ring.issuer], ring.ready)
    yield ready
    yield _last_used_family(rings)


def _last_used_family(rings: Iterable[KeyRingFigures]) -> Metric:
    """A kid that several issuers use is one sample: Prometheus takes no two of the same name."""
    latest: dict[str, float] = {}
    for ring in rings:
        for kid in ring.kids:
            if (used := ring.last_used(kid)) is not None:
                latest[kid] = max(used, latest.get(kid, used))
    family = GaugeMetricFamily(
        "jwks_key_last_used_timestamp_seconds", "When a key last verified a token.", labels=["kid"]
    )
    for kid, used in latest.items():
        family.add_metric([kid], used)
    return family


def _cache_families(cache: CacheFigures) -> Iterator[Metric]:
    prefix = "authz_verified_token_cache"
    yield CounterMetricFamily(f"{prefix}_hits", "Tokens that were remembered.", value=cache.hits)
    yield CounterMetricFamily(f"{prefix}_misses", "Tokens that were not.", value=cache.misses)
    yield CounterMetricFamily(f"{prefix}_evictions", "Tokens forgotten to make room.", value=cache.evictions)
    yield GaugeMetricFamily(f"{prefix}_entries", "Tokens remembered now.", value=len(cache))
    yield GaugeMetricFamily(f"{prefix}_bytes", "What they take, about.", value=cache.size)


def _worker_families(workers: WorkerFigures) -> Iterator[Metric]:
    yield GaugeMetricFamily("authz_workers_up", "Workers that answer Envoy.", value=workers.up)
    yield CounterMetricFamily(
        "authz_worker_restarts", "Workers started again because they had ended.", value=workers.restarts
    )
