"""What must hold, and whether it does: the table that each report begins with."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench import core
from bench.envoy_listeners import JWT_AUTHN, NO_AUTH
from bench.run import BUSY, HALF, MEMORY, SINGLE, TRANSPORTS
from bench.samples import Figure, Samples
from bench.stage import CONSTANT, EMPTY, NATIVE

MIB = 1024 * 1024


class Bar(NamedTuple):
    """One promise."""

    what: str
    bar: str
    measured: str
    holds: bool


class _Promise(NamedTuple):
    what: str
    bar: str
    measure: Callable[[Samples], tuple[str, bool] | None]
    """None: not measured in this run."""


def bars(samples: Samples) -> Iterator[Bar]:
    """Those that this run measured."""
    for promise in PROMISES:
        if (found := promise.measure(samples)) is not None:
            yield Bar(promise.what, promise.bar, *found)


def spread(figure: Figure, unit: str = "", digits: int = 2) -> str:
    """``1.23 µs (1.20-1.31)``."""
    texts = [f"{value:,.{digits}f}" for value in figure]
    return f"{texts[0]}{unit} ({texts[1]}-{texts[2]})"


def _at_most(limit: float, figure: Callable[[Samples], Figure | None], unit: str = " x", digits: int = 2) -> Callable[
    [Samples], tuple[str, bool] | None
]:
    def measure(samples: Samples) -> tuple[str, bool] | None:
        found = figure(samples)
        return found and (spread(found, unit, digits), found.median <= limit)

    return measure


def _sidecar_share(samples: Samples) -> tuple[str, bool] | None:
    times = samples.ratio(BUSY, "server_us", EMPTY, NATIVE)
    return times and (f"1/{times.median:.1f} (1/{times.low:.1f}-1/{times.high:.1f})", times.median >= 15)  # noqa: PLR2004


def _decisions(samples: Samples) -> tuple[str, bool] | None:
    absolute = samples.figure(TRANSPORTS, NATIVE, "per_second")
    times = samples.ratio(TRANSPORTS, "per_second", NATIVE, EMPTY)
    if absolute is None or times is None:
        return None
    holds = absolute.median >= 50_000 and times.median >= 15  # noqa: PLR2004
    return f"{spread(absolute, '/s', 0)}; {spread(times, ' x', 1)}", holds


def _latency(percentile: str, limit: float) -> Callable[[Samples], tuple[str, bool] | None]:
    def measure(samples: Samples) -> tuple[str, bool] | None:
        ours = samples.difference(HALF, percentile, NATIVE, NO_AUTH)
        peer = samples.difference(HALF, percentile, JWT_AUTHN, NO_AUTH)
        if ours is None or peer is None:
            return None
        holds = ours.median <= max(limit, 2 * peer.median)
        floor = samples.difference(HALF, percentile, CONSTANT, NO_AUTH)
        figures = {"": ours, "; jwt_authn ": peer, f"; {CONSTANT} ": floor}
        return "".join(name + spread(figure, " ms") for name, figure in figures.items() if figure), holds

    return measure


def _failed(samples: Samples) -> tuple[str, bool] | None:
    """Figures of requests that failed would be of something else."""
    failed = [value for section in (BUSY, SINGLE, HALF) for value in samples.values(section, NATIVE, "failed")]
    return (f"{sum(failed):.0f}", not any(failed)) if failed else None


def _rules(samples: Samples) -> Figure | None:
    return samples.ratio("rules", "us", str(core.RULES[-1]), str(core.RULES[0]))


def _many_tokens(samples: Samples) -> str:
    return next((name for name in samples.subjects(core.TOKENS) if name != "1"), "")


PROMISES = (
    _Promise(
        "sidecar CPU per allowed request through Envoy, 32 connections, against the empty `grpc.aio` handler", "≤ 1/15",
        _sidecar_share,
    ),
    _Promise(
        "Envoy + sidecar CPU per request against Envoy `jwt_authn` without its cache", "≤ 1.15 x",
        _at_most(1.15, lambda samples: samples.ratio(BUSY, "pair_us", NATIVE, JWT_AUTHN)),
    ),
    _Promise(
        "decisions a second on one core, h2load 4 x 25, and against the empty `grpc.aio` handler",
        "≥ 50,000/s; ≥ 15 x", _decisions,
    ),
    _Promise(
        "`bytes -> bytes`, token known", "≤ 10 µs",
        _at_most(10, lambda samples: samples.figure("core", core.KNOWN, "us"), " µs", 1),
    ),
    _Promise(
        "`bytes -> bytes`, token new, against the bare RSA verification", "≤ 2.5 x",
        _at_most(2.5, lambda samples: samples.ratio("core", "us", core.NEW, core.BARE)),
    ),
    _Promise("added p50 through Envoy at half load", "≤ 0.3 ms, or 2 x jwt_authn's", _latency("p50_ms", 0.3)),
    _Promise("added p99 through Envoy at half load", "< 1 ms, or 2 x jwt_authn's", _latency("p99_ms", 1.0)),
    _Promise("requests through Envoy and the native transport that were not answered with 200", "0", _failed),
    _Promise("10 → 10,000 rules", "≤ 1.2 x", _at_most(1.2, _rules)),
    _Promise(
        "1 → 100,000 tokens", "≤ 1.5 x",
        _at_most(1.5, lambda samples: samples.ratio(core.TOKENS, "us", _many_tokens(samples), "1")),
    ),
    _Promise(
        "memory of one of 100,000 tokens", "≤ 2 KB",
        _at_most(2048, lambda samples: samples.figure(core.TOKENS, _many_tokens(samples), "bytes"), " bytes", 0),
    ),
    _Promise(
        "resident memory at rest, native", "≤ 64 MiB",
        _at_most(
            64, lambda samples: (found := samples.figure(MEMORY, NATIVE, "rss_bytes"))
            and Figure(*(value / MIB for value in found)), " MiB", 1,
        ),
    ),
)  # fmt: skip
