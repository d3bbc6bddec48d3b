"""What the migration counts: questions to the Auth-API."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric

from authz_service.observability.metrics import Durations

AUTH_API_REQUESTS = "authz_auth_api_requests"


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
