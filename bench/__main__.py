"""``python -m bench``: measure everything side by side, print the bars, write ``docs/benchmarks/``."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.bars import bars
from bench.machine import choose_cores, environment
from bench.plot import plot
from bench.processes import BenchFailed
from bench.report import as_markdown, bar_table, before_and_after
from bench.run import FULL, QUICK, SECTIONS, measure
from bench.samples import Samples

DOCS = Path(__file__).parent.parent / "docs" / "benchmarks"
MIGRATION = DOCS.parent / "migration.md"
DESCRIPTION = (
    "Measure authz-service beside its peers, in a quarter of an hour. "
    "Exit code 1 when a bar does not hold, 2 when measuring failed."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    given = _parser().parse_args(argv)
    plan = (QUICK if given.quick else FULL)._replace(sections=tuple(given.only or SECTIONS))
    samples, started = Samples(), time.monotonic()
    try:
        facts = measure(plan, choose_cores(), samples, _say)
    except BenchFailed as failed:
        _say(f"bench failed: {failed}")
        return 2
    if given.json:
        print(json.dumps(_document(samples, facts), indent=2))
    else:
        print("\n".join(bar_table(samples)))
    _say(f"{time.monotonic() - started:.0f} s")
    if given.write or (not given.quick and not given.only):
        _write(samples, facts)
    return 0 if all(bar.holds for bar in bars(samples)) else 1


def _write(samples: Samples, facts: dict[str, int]) -> None:
    DOCS.mkdir(parents=True, exist_ok=True)
    (DOCS / "results.json").write_text(json.dumps(_document(samples, facts), indent=1) + "\n", encoding="utf-8")
    (DOCS / "results.md").write_text(as_markdown(samples, environment(), facts), encoding="utf-8")
    _fill(MIGRATION, "before and after: from `make bench`", "end of before and after", before_and_after(samples))
    if not plot(samples, DOCS / "cpu.svg"):
        _say("no plot: matplotlib is not installed, or nothing went through Envoy")


def _fill(path: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Put lines between two comments of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(f"<!-- {begin} -->\n")
    after = rest.partition(f"<!-- {end} -->")[2]
    text = "\n".join(["", *lines, "", ""])
    path.write_text(f"{before}<!-- {begin} -->\n{text}<!-- {end} -->{after}", encoding="utf-8")


def _document(samples: Samples, facts: dict[str, int]) -> dict[str, object]:
    return {
        "environment": environment(), "facts": facts, "bars": [bar._asdict() for bar in bars(samples)],
        "samples": samples.tree,
    }  # fmt: skip


def _say(text: str) -> None:
    """To standard error: standard output is for the results."""
    print(text, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="two minutes: fewer and shorter repetitions")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/ also after a partial run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
