"""The figures for people: Markdown, the bars first, ratios before times."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench import core
from bench.bars import MIB, Bar, bars, spread
from bench.envoy_listeners import JWT_AUTHN
from bench.run import BUSY, HALF, MEMORY, SINGLE, TRANSPORTS
from bench.samples import Figure, Samples
from bench.stage import EMPTY, NATIVE, OLD, OLD_SLOW

METHOD = """\
One run, all subjects side by side: the load on one core, what bears it (Envoy and the server together) on another.
Each figure is the median of {repetitions} interleaved repetitions, with the least and the greatest; a ratio is taken
within each repetition. All processes are started {starts} times in it, since where its memory came to lie makes one
slower or faster for as long as it runs. Processor time is user and system, by the kernel's clock of each process. Where
no server runs (the decision alone, rules, tokens, sizes), the subjects take {turns} turns in each repetition.

- The request: a GET with an RS256 token of {token_bytes} bytes and seven permissions, as Envoy asks about it with
  `envoy/envoy.yaml` ({message_bytes} bytes).
- Envoy: one process with a listener for each subject, each of them `envoy/envoy.yaml` but for the filter that decides,
  with longer time limits, without access log, and answering by itself where chat-api would. Servers listen on Unix
  sockets; those whose turn it is not wait on the load's core.
- `jwt_authn`: the same token, key set, issuer and audience, all claims as headers; no rule is held against it.
- The old way: authz-service with `USE_OAUTH2_AUTH=false`. The Auth-API is a stand-in whose own time counts for nobody.
- The constant answer: a server in C that decides nothing (`bench/constant_answer.c`) and answers as authz-service
  answered once. What it adds at the median is Envoy's and the machine's; its p99 is chance, and may be above ours.
- 1 and 32 connections: wrk, a closed loop. Half load: `bench/constant_rate.py`, where requests are due at fixed times
  and latencies begin then; at half of what Envoy and authz-service (native) bore together in the same repetition for
  `no auth`, `jwt_authn` and itself, at half of what each bore for the others.
"""


def as_markdown(samples: Samples, environment: Mapping[str, str], facts: Mapping[str, int]) -> str:
    """The whole page."""
    parts = ["# Benchmarks", "", "Made by `make bench`; do not edit.", "", *bar_table(samples), ""]
    parts += ["![Processor time of one request through Envoy](cpu.svg)", ""]
    parts += ["## How", "", METHOD.format(turns=core.TURNS, **facts)]
    parts += [", ".join(f"{name} {value}" for name, value in environment.items()) + ".", ""]
    for title, section in (("32 connections", BUSY), ("1 connection", SINGLE), ("half load", HALF)):
        parts += _through_envoy(f"Through Envoy, {title}", section, samples)
    parts += _transports(samples)
    parts += _core(samples)
    parts += _growth(samples)
    parts += _memory(samples)
    return "\n".join(parts).rstrip() + "\n"


def bar_table(samples: Samples) -> list[str]:
    """What must hold."""
    return _table(
        ("must hold", "bar", "measured", ""),
        ((bar.what, bar.bar, bar.measured, _verdict(bar)) for bar in bars(samples)),
    )


def before_and_after(samples: Samples) -> list[str]:
    """What the migration changes: the same requests through Envoy, the old way and the new one."""
    rows = (
        (
            subject,
            _cell(samples.figure(BUSY, subject, "asked"), "", 2),
            _cell(samples.figure(SINGLE, subject, "p50_ms"), " ms", 2),
            _cell(samples.figure(SINGLE, subject, "p99_ms"), " ms", 2),
            _cell(samples.figure(BUSY, subject, "per_second"), "", 0),
            _cell(samples.figure(BUSY, subject, "pair_us"), " µs", 0),
        )
        for subject in (OLD_SLOW, OLD, NATIVE)
    )
    heads = (
        "", "questions to the Auth-API per request", "p50, 1 connection", "p99, 1 connection",
        "requests/s, 32 connections", "CPU/request, Envoy and authz-service",
    )  # fmt: skip
    return _table(heads, rows)


def _verdict(bar: Bar) -> str:
    return "holds" if bar.holds else "**does not hold**"


def _through_envoy(title: str, section: str, samples: Samples) -> list[str]:
    columns = (
        ("per_second", "", 0), ("envoy_us", " µs", 1), ("server_us", " µs", 1), ("p50_ms", " ms", 2),
        ("p99_ms", " ms", 2),
    )  # fmt: skip
    rows = (
        (
            subject,
            _cell(samples.ratio(section, "pair_us", subject, JWT_AUTHN), " x"),
            *(_cell(samples.figure(section, subject, quantity), unit, digits) for quantity, unit, digits in columns),
        )
        for subject in samples.subjects(section)
    )
    heads = ("", "CPU against jwt_authn", "requests/s", "Envoy CPU/request", "server CPU/request", "p50", "p99")
    return _section(title, heads, rows)


def _transports(samples: Samples) -> list[str]:
    rows = (
        (
            subject,
            _cell(samples.ratio(TRANSPORTS, "per_second", subject, EMPTY), " x", 1),
            _cell(samples.figure(TRANSPORTS, subject, "per_second"), "", 0),
            _cell(samples.figure(TRANSPORTS, subject, "server_us"), " µs", 1),
        )
        for subject in samples.subjects(TRANSPORTS)
    )
    heads = ("", f"against {EMPTY}", "calls/s", "CPU/call")
    return _section("Servers alone, h2load 4 x 25", heads, rows)


def _core(samples: Samples) -> list[str]:
    rows = (
        (
            subject,
            _cell(samples.ratio("core", "us", subject, core.BARE), " x"),
            _cell(samples.figure("core", subject, "us"), " µs", 1),
        )
        for subject in samples.subjects("core")
    )
    return _section("The decision alone, `bytes -> bytes`", ("", "against bare RSA", "CPU"), rows)


def _growth(samples: Samples) -> list[str]:
    lines: list[str] = []
    for title, section, quantity in (
        ("Rules", "rules", "us"), ("Tokens remembered", core.TOKENS, "us"),
        ("Size of a known token", "token size", "known_us"), ("Size of a new token", "token size", "new_us"),
    ):  # fmt: skip
        measured = [name for name in samples.subjects(section) if samples.values(section, name, quantity)]
        measured.sort(key=lambda name: int(name.split()[0]))
        rows = (
            (
                f"{name}",
                _cell(samples.ratio(section, quantity, name, measured[0]), " x"),
                _cell(samples.figure(section, name, quantity), " µs", 1),
            )
            for name in measured
        )
        lines += _section(title, ("", f"against {measured[0] if measured else ''}", "CPU"), rows)
    return lines


def _memory(samples: Samples) -> list[str]:
    rows = (
        (subject, _cell(found and Figure(*(value / MIB for value in found)), " MiB", 1))
        for subject in samples.subjects(MEMORY)
        if (found := samples.figure(MEMORY, subject, "rss_bytes"))
    )
    return _section("Resident memory at rest", ("", "RSS"), rows)


def _cell(figure: Figure | None, unit: str = "", digits: int = 2) -> str:
    return "" if figure is None else spread(figure, unit, digits)


def _section(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    table = _table(heads, rows)
    return [f"## {title}", "", *table, ""] if len(table) > 2 else []  # noqa: PLR2004 - more than the head


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return list(_lines([heads, ["---"] * len(heads), *rows]))


def _lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(row)} |"
