"""Figures: medians, and ratios within a repetition."""

import pytest

from bench.samples import Figure, Samples


def test_a_figure_is_the_median_with_the_least_and_the_greatest() -> None:
    assert Figure.of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)


def test_nothing_has_no_figure() -> None:
    with pytest.raises(ValueError, match="median"):
        Figure.of([])


def test_a_ratio_is_taken_within_each_repetition() -> None:
    """A machine that is three times as slow in one repetition changes no ratio."""
    samples = Samples()
    for slowness in (1.0, 3.0, 1.0):
        samples.add("s", "ours", us=10 * slowness)
        samples.add("s", "peer", us=5 * slowness)
    assert samples.ratio("s", "us", "ours", "peer") == (2.0, 2.0, 2.0)


def test_what_was_not_measured_is_none() -> None:
    samples = Samples()
    samples.add("s", "ours", us=1.0)
    assert samples.figure("s", "peer", "us") is None
    assert samples.ratio("s", "us", "ours", "peer") is None
    assert samples.difference("s", "us", "ours", "peer") is None


def test_a_repetition_whose_peer_is_zero_has_no_ratio() -> None:
    samples = Samples()
    for peer in (0.0, 2.0):
        samples.add("s", "ours", us=4.0)
        samples.add("s", "peer", us=peer)
    assert samples.ratio("s", "us", "ours", "peer") == (2.0, 2.0, 2.0)
