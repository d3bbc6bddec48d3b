"""What Prometheus is told of the migration: which way decides, questions to the Auth-API, comparisons of both ways."""

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from authz_service.observability.metrics import Durations

AUTH_API_REQUESTS = "authz_auth_api_requests"
COMPARISONS = "authz_comparisons"
DISAGREEMENTS = "authz_comparison_disagreements"
DROPPED = "authz_comparisons_dropped"


def way_families(way: str) -> Iterator[Metric]:
    """For Prometheus: the way that decides, as of :attr:`.Config.way`."""
    family = GaugeMetricFamily("authz_way_info", "How tokens are judged: local or auth_api.", labels=["way"])
    family.add_metric([way], 1)
    yield family


class AuthApiFigures:
    """How the Auth-API answers; an observer of :class:`.auth_api.AuthApi`.

    :param validations: where it is asked in place of a verification: what a request's token takes.
    """

    def __init__(self, validations: Durations | None = None) -> None:
        self._validations = validations
        self._results: Counter[str] = Counter()
        self._seconds = Durations()

    def asked(self, result: str, seconds: float) -> None:
        """One question has ended."""
        self._results[result] += 1
        self._seconds.observe(seconds)
        if self._validations is not None:
            self._validations.observe(seconds)

    def families(self) -> Iterator[Metric]:
        """For Prometheus."""
        family = CounterMetricFamily(AUTH_API_REQUESTS, "Questions to the Auth-API.", labels=["result"])
        for result, count in self._results.items():
            family.add_metric([result], count)
        yield family
        yield self._seconds.family("authz_auth_api_request_duration_seconds", "Time for the Auth-API to answer one.")


class ComparisonFigures:
    """How requests came out when they were decided both ways."""

    def __init__(self) -> None:
        self._results: Counter[tuple[str, str]] = Counter()
        self._disagreements: Counter[tuple[str, str, str]] = Counter()
        self._dropped = 0

    def compared(self, rule: str, result: str, reason: str = "") -> None:
        """One request was.

        :param reason: of a disagreement: why the stricter of the two ways denies.
        """
        self._results[rule, result] += 1
        if reason:
            self._disagreements[rule, result, reason] += 1

    def dropped(self) -> None:
        """There was more to compare than is done in the background."""
        self._dropped += 1

    def forget(self, rules: Iterable[str]) -> None:
        """These have changed: what was found about them says nothing any more."""
        gone = frozenset(rules)
        self._results = Counter({key: count for key, count in self._results.items() if key[0] not in gone})
        self._disagreements = Counter({key: n for key, n in self._disagreements.items() if key[0] not in gone})

    def families(self) -> Iterator[Metric]:
        """For Prometheus; each disagreement, too, is one of the comparisons."""
        results = CounterMetricFamily(COMPARISONS, "Requests decided both ways.", labels=["rule", "result"])
        for labels, count in self._results.items():
            results.add_metric(labels, count)
        yield results
        reasons = CounterMetricFamily(
            DISAGREEMENTS, "Why the stricter way denied.", labels=["rule", "result", "reason"]
        )
        for labels3, count in self._disagreements.items():
            reasons.add_metric(labels3, count)
        yield reasons
        yield CounterMetricFamily(DROPPED, "Requests of the sample that were not compared.", value=self._dropped)
