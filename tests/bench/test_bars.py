"""The table of what must hold."""

import pytest

from bench import core
from bench.bars import Bar, bars
from bench.envoy_listeners import JWT_AUTHN, NO_AUTH
from bench.run import BUSY, HALF, MEMORY, TRANSPORTS
from bench.samples import Samples
from bench.stage import CONSTANT, EMPTY, NATIVE


def bar(samples: Samples, word: str) -> Bar:
    (found,) = [each for each in bars(samples) if word in each.what]
    return found


def test_what_was_not_measured_is_not_in_the_table() -> None:
    assert list(bars(Samples())) == []


@pytest.mark.parametrize(("empty_us", "holds"), [(150.0, True), (149.0, False)])
def test_the_sidecar_takes_a_fifteenth_of_the_empty_handler(empty_us: float, holds: bool) -> None:
    samples = Samples()
    samples.add(BUSY, NATIVE, server_us=10.0)
    samples.add(BUSY, EMPTY, server_us=empty_us)
    assert bar(samples, "sidecar CPU").holds is holds


@pytest.mark.parametrize(("pair_us", "holds"), [(115.0, True), (116.0, False)])
def test_envoy_and_the_sidecar_together_are_held_against_jwt_authn(pair_us: float, holds: bool) -> None:
    samples = Samples()
    samples.add(BUSY, NATIVE, pair_us=pair_us)
    samples.add(BUSY, JWT_AUTHN, pair_us=100.0)
    assert bar(samples, "Envoy + sidecar").holds is holds


@pytest.mark.parametrize(
    ("per_second", "empty", "holds"),
    [(50_000.0, 3_000.0, True), (49_999.0, 3_000.0, False), (50_000.0, 3_400.0, False)],
)
def test_decisions_a_second_are_absolute_and_relative(per_second: float, empty: float, holds: bool) -> None:
    samples = Samples()
    samples.add(TRANSPORTS, NATIVE, per_second=per_second)
    samples.add(TRANSPORTS, EMPTY, per_second=empty)
    assert bar(samples, "decisions a second").holds is holds


@pytest.mark.parametrize(
    ("ours", "peer", "holds"),
    [
        pytest.param(0.5, 0.2, True, id="within 0.3 ms"),
        pytest.param(0.9, 0.6, True, id="within twice the peer's"),
        pytest.param(1.1, 0.6, False, id="neither"),
    ],
)
def test_latency_is_what_is_added_to_no_auth(ours: float, peer: float, holds: bool) -> None:
    samples = Samples()
    for subject, p50 in ((NATIVE, ours), (JWT_AUTHN, peer), (NO_AUTH, 0.2)):
        samples.add(HALF, subject, p50_ms=p50)
    assert bar(samples, "added p50").holds is holds


def test_what_no_server_can_undercut_is_beside_ours_and_changes_no_bar() -> None:
    samples = Samples()
    for subject, p50 in ((NATIVE, 0.6), (JWT_AUTHN, 0.25), (NO_AUTH, 0.2), (CONSTANT, 0.55)):
        samples.add(HALF, subject, p50_ms=p50)
    added = bar(samples, "added p50")
    assert "constant answer, in C 0.35 ms" in added.measured
    assert not added.holds


def test_one_request_that_failed_is_one_too_many() -> None:
    samples = Samples()
    samples.add(BUSY, NATIVE, failed=0)
    assert bar(samples, "not answered").holds
    samples.add(HALF, NATIVE, failed=1)
    assert not bar(samples, "not answered").holds


@pytest.mark.parametrize(("mib", "holds"), [(64, True), (65, False)])
def test_memory_is_in_mebibytes(mib: int, holds: bool) -> None:
    samples = Samples()
    samples.add(MEMORY, NATIVE, rss_bytes=mib * 1024 * 1024)
    assert bar(samples, "resident memory").holds is holds


def test_growth_is_the_largest_by_the_smallest() -> None:
    samples = Samples()
    for count, us in zip(core.RULES, (10.0, 10.0, 10.0, 12.1), strict=True):
        samples.add("rules", str(count), us=us)
    assert not bar(samples, "rules").holds
