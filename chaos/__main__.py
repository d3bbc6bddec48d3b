"""``python -m chaos``: make every fault of the table happen, and print promise beside measurement."""

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import Sequence

import uvloop

from chaos import document
from chaos.rows import TABLE
from chaos.soak import SOAK
from chaos.table import Result, Row, as_text, run_row

DESCRIPTION = "Make the faults of docs/reliability.md happen. Exit code 1 when a row does not hold."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows that were asked for."""
    parser = _parser()
    given = parser.parse_args(argv)
    if given.write and (given.only or given.quick):
        parser.error("--write needs the whole table")
    rows = [SOAK] if given.soak else [TABLE[name] for name in given.only or TABLE if TABLE[name].quick >= given.quick]
    if given.list:
        print("\n".join(f"{one.name:24} {one.fault}" for one in rows))
        return 0
    gc.disable()  # its pauses, of 60 ms, would be measured as somebody else's
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(_run(rows, as_json=given.json))
    if given.write:
        section, command = ("soak", "make soak ARGS=--write") if given.soak else ("table", "make chaos ARGS=--write")
        document.write(section, results, command)
    return 0 if results and all(result.held for result in results) else 1


async def _run(rows: Sequence[Row], *, as_json: bool) -> list[Result]:
    started, results = time.monotonic(), []
    for one in rows:
        result = await run_row(one)
        results.append(result)
        if not as_json:
            print(as_text(result), flush=True)
    if as_json:
        print(json.dumps([_plain(result) for result in results], indent=2))
    else:
        held = sum(result.held for result in results)
        print(f"\n{held} of {len(results)} rows hold ({time.monotonic() - started:.0f} s)")
    return results


def _plain(result: Result) -> dict[str, object]:
    one = result.row
    return {
        "name": one.name, "fault": one.fault, "promise": one.promise, "held": result.held,
        "measured": result.measured, "broken": result.broken, "seconds": round(result.seconds, 1),
    }  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=DESCRIPTION)
    parser.add_argument("--only", nargs="+", default=[], choices=list(TABLE), metavar="NAME", help="these rows")
    parser.add_argument("--quick", action="store_true", help="the rows that make test runs too")
    parser.add_argument("--soak", action="store_true", help="instead: ten minutes of load with rotations")
    parser.add_argument("--write", action="store_true", help="write what was measured to docs/reliability.md")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
