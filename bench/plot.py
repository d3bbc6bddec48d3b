"""The plot: processor time of one request through Envoy, by subject."""

from pathlib import Path

from bench.run import BUSY
from bench.samples import Samples

ENVOY_COLOUR, SERVER_COLOUR = "#9aa5b1", "#2f6f9f"


def plot(samples: Samples, path: Path) -> bool:
    """Draw it, if there is what to draw and what to draw with; :returns: whether it was drawn."""
    subjects = samples.subjects(BUSY)[::-1]
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - only `make bench` has it
    except ImportError:
        return False
    if not subjects:
        return False
    envoy, server = ([_median(samples, subject, f"{name}_us") for subject in subjects] for name in ("envoy", "server"))
    figure = Figure(figsize=(8, 0.45 * len(subjects) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(subjects, envoy, color=ENVOY_COLOUR, label="Envoy")
    axes.barh(subjects, server, left=envoy, color=SERVER_COLOUR, label="server")
    for place, total in enumerate(map(sum, zip(envoy, server, strict=True))):
        axes.text(total, place, f" {total:.0f}", va="center")
    axes.set_xlabel("processor time of one request, µs (32 connections)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    return True


def _median(samples: Samples, subject: str, quantity: str) -> float:
    found = samples.figure(BUSY, subject, quantity)
    return found.median if found else 0.0
