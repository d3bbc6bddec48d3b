"""Hostile input for the parsers, made by libFuzzer where it reaches new code; each target in a process of its own.

Inputs that reach something new are kept in ``.fuzz/corpus/`` and are where the next run begins, beside the seeds in
``tests/fuzz/corpus/``. What a target does not bear is kept in ``.fuzz/findings/``.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FUZZ = Path("tests/fuzz")
KEPT = Path(".fuzz")
TARGETS = sorted(path.stem for path in (ROOT / FUZZ / "targets").glob("[!_]*.py"))

SLOW_SECONDS = 5
"""A finding: one input of a few kilobytes is worth microseconds."""
MEMORY_MIB = 1024
PATIENCE_SECONDS = 60
"""For a process that does not end itself: libFuzzer looks at its watch between inputs only."""

COVERAGE = re.compile(r"^#\d+\s.*\bcov: (\d+)", re.MULTILINE)
EXECUTIONS = re.compile(r"^stat::number_of_executed_units:\s+(\d+)", re.MULTILINE)
NOISE = re.compile(r"#\d|0x|stat::|INFO: |WARNING: |MS: |Base64: |SUMMARY: |artifact_prefix=")


class Run(NamedTuple):
    """What came of one target."""

    target: str
    executions: int
    coverage: int
    """Edges of ``authz_service`` that were seen."""
    findings: list[Path]
    ended_well: bool
    output: str


def fuzz(target: str, seconds: int) -> Run:
    """Run one target for so long, or until its first finding."""
    corpus, findings = KEPT / "corpus" / target, KEPT / "findings" / target
    for directory in (corpus, findings):
        (ROOT / directory).mkdir(parents=True, exist_ok=True)
    known = set((ROOT / findings).iterdir())
    options = (
        f"-max_total_time={seconds}", f"-timeout={SLOW_SECONDS}", f"-rss_limit_mb={MEMORY_MIB}",
        f"-dict={FUZZ / 'words' / target}", f"-artifact_prefix={findings}/", "-print_final_stats=1",
    )  # fmt: skip
    command = (sys.executable, "-m", "tests.fuzz", target, *options, str(corpus), str(FUZZ / "corpus" / target))
    code, output = _ran(command, seconds + PATIENCE_SECONDS)
    found = sorted(set((ROOT / findings).iterdir()) - known)
    return Run(target, _last(EXECUTIONS, output), _last(COVERAGE, output), found, code == 0, output)


def _ran(command: tuple[str, ...], seconds: int) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command, cwd=ROOT, timeout=seconds, check=False, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        return 1, f"{_text(expired.output)}\nIt did not end by itself after {seconds} s, and was ended.\n"
    return done.returncode, done.stdout


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _last(pattern: re.Pattern[str], output: str) -> int:
    return int((pattern.findall(output) or ["0"])[-1])


def report(run: Run) -> bool:
    """Print it; :returns: whether all is well."""
    print(f"{run.target:10} {run.executions:>12,} {run.coverage:>9,} {len(run.findings):>9}", flush=True)
    if run.ended_well and not run.findings:
        return True
    print(*_told(run.output), sep="\n")
    for finding in run.findings:
        path = finding.relative_to(ROOT)
        print(
            f"  kept:   {path}",
            f"  repeat: {os.path.relpath(sys.executable, ROOT)} -m tests.fuzz {run.target} {path}",
            f"  once it is mended, it stays so: cp {path} {FUZZ / 'corpus' / run.target}/<what-it-was>",
            sep="\n", flush=True,
        )  # fmt: skip
    return False


def _told(output: str) -> list[str]:
    """The end of what the process said, less the input in two notations: the file has it."""
    lines = [line for line in output.splitlines() if not NOISE.match(line)]
    return [f"  | {line[:200]}" for line in lines[-40:]]


def main(arguments: list[str]) -> int:
    """0 when no target found anything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.targets) - set(TARGETS)):
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if options.seconds < 1:
        parser.error("--seconds must be at least 1")  # 0 would mean without end to libFuzzer
    print(f"{'target':10} {'executions':>12} {'coverage':>9} {'findings':>9}", flush=True)
    well = [report(fuzz(target, options.seconds)) for target in options.targets or TARGETS]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
