"""One metrics page for several processes. No counter goes backwards when one ends and another takes its place."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

COUNTED = frozenset({"counter", "histogram"})
"""The types whose samples only grow; their sums mean the same as in one process."""

Series = tuple[str, tuple[tuple[str, str], ...]]


class _Family(NamedTuple):
    documentation: str
    type: str
    samples: dict[Series, float]


class MergedPages:
    """The supervisor's own page, and those of its workers, alive and gone.

    Counters and histograms are summed. A gauge of the supervisor's own page is a state that it knows best, such as the
    age of the keys; any other gauge, such as the tokens that are remembered, is summed over the living.
    """

    def __init__(self) -> None:
        self._gone: dict[str, _Family] = {}

    def keep(self, page: str) -> None:
        """A worker has ended: what it had counted stays counted."""
        _add(self._gone, (metric for metric in _read(page) if metric.type in COUNTED))

    def page(self, own: str, workers: Iterable[str]) -> bytes:
        """The page that Prometheus scrapes."""
        return generate_latest(_Page(self._merge(own, workers)))

    def families(self, own: str, workers: Iterable[str]) -> Iterator[Metric]:
        """What it says, for other readers."""
        return _metrics(self._merge(own, workers))

    def _merge(self, own: str, workers: Iterable[str]) -> dict[str, _Family]:
        families: dict[str, _Family] = {}
        _add(families, _read(own))
        known = frozenset(name for name, family in families.items() if family.type not in COUNTED)
        for page in workers:
            _add(families, (metric for metric in _read(page) if metric.name not in known))
        _add(families, _metrics(self._gone))
        return families


class _Page(CollectorRegistry):
    """A registry of what is there already."""

    def __init__(self, families: dict[str, _Family]) -> None:
        super().__init__()
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return _metrics(self._families)


def _read(page: str) -> Iterator[Metric]:
    return iter(text_string_to_metric_families(page))


def _add(families: dict[str, _Family], found: Iterable[Metric]) -> None:
    for metric in found:
        family = families.setdefault(metric.name, _Family(metric.documentation, metric.type, {}))
        for sample in metric.samples:
            series = (sample.name, tuple(sample.labels.items()))
            family.samples[series] = family.samples.get(series, 0.0) + sample.value


def _metrics(families: dict[str, _Family]) -> Iterator[Metric]:
    for name, family in families.items():
        metric = Metric(name, family.documentation, family.type)
        for (sample, labels), value in family.samples.items():
            metric.add_sample(sample, dict(labels), value)
        yield metric
