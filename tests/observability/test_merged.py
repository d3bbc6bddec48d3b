"""The arithmetic of one metrics page for several processes."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from authz_service.observability.merged import MergedPages
from authz_service.observability.metrics import Metrics


def page(decisions: dict[str, int], seconds: tuple[float, ...] = (), entries: int = 0) -> str:
    registry = CollectorRegistry()
    counter = Counter("decisions", "Decisions.", ["reason"], registry=registry)
    for reason, count in decisions.items():
        counter.labels(reason).inc(count)
    histogram = Histogram("seconds", "Durations.", buckets=(0.1, 1.0), registry=registry)
    for second in seconds:
        histogram.observe(second)
    Gauge("entries", "Remembered.", registry=registry).set(entries)
    return generate_latest(registry).decode()


def samples(text: bytes) -> dict[str, float]:
    return {
        f"{sample.name}{sample.labels or ''}": sample.value
        for family in text_string_to_metric_families(text.decode()) for sample in family.samples
        if not sample.name.endswith("_created")
    }  # fmt: skip


def test_counters_and_histograms_are_summed_for_each_series() -> None:
    workers = [page({"allowed": 2, "public": 1}, (0.05, 5.0)), page({"allowed": 40, 'odd "\n\\': 7}, (0.5,))]
    merged = samples(MergedPages().page("", workers))
    assert merged["decisions_total{'reason': 'allowed'}"] == 42
    assert merged["decisions_total{'reason': 'public'}"] == 1
    assert sum(value for name, value in merged.items() if "odd" in name) == 7
    buckets = [value for name, value in merged.items() if name.startswith("seconds_bucket")]
    assert buckets == [1, 2, 3]
    assert merged["seconds_count"] == 3
    assert merged["seconds_sum"] == 5.55


def test_the_state_that_the_supervisor_knows_is_its_own_and_other_gauges_are_summed() -> None:
    registry = CollectorRegistry()
    Gauge("keys", "Keys.", registry=registry).set(3)
    Gauge("last_used", "Without a sample as yet.", ["kid"], registry=registry)
    types = "# TYPE keys gauge\n# TYPE last_used gauge\n# TYPE entries gauge\n"
    worker = types + 'keys 2\nlast_used{kid="a"} 5\nentries 4\n'
    merged = samples(MergedPages().page(generate_latest(registry).decode(), [worker, worker]))
    assert merged == {"keys": 3, "entries": 8}


def test_what_a_worker_counted_stays_when_it_is_gone_and_what_it_held_goes() -> None:
    merged = MergedPages()
    merged.keep(page({"allowed": 10}, (0.5,), entries=5))
    merged.keep(page({"allowed": 1}, (0.5,), entries=5))
    merged.keep("")
    after = samples(merged.page("", [page({"allowed": 100}, (0.5,), entries=2)]))
    assert after["decisions_total{'reason': 'allowed'}"] == 111
    assert after["seconds_count"] == 3
    assert after["entries"] == 2
    assert samples(merged.page("", []))["decisions_total{'reason': 'allowed'}"] == 11


def test_one_process_alone_reads_the_same_as_unmerged() -> None:
    own = Metrics().render().decode()
    assert samples(MergedPages().page(own, [])) == samples(own.encode())
