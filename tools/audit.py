"""Asks for known vulnerabilities of all that the lock files name. Needs the network, so no test depends on it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
COMMAND = (
    sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off",
    "--format", "json",
)  # fmt: skip
EXIT_FOUND, EXIT_UNKNOWN = 1, 2


class Verdict(NamedTuple):
    """What is known about one lock file."""

    vulnerable: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """What nobody could be asked about: that is no all-clear."""


def ask(lock: Path) -> Verdict:
    """Let pip-audit look."""
    run = subprocess.run([*COMMAND, "--requirement", str(lock)], capture_output=True, text=True, check=False)
    return read(run.stdout, run.stderr)


def read(report: str, errors: str) -> Verdict:
    """pip-audit's answer. Without a report it has ended half-way, mostly since it reaches nobody."""
    try:
        dependencies: Sequence[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        return Verdict(unknown=(errors.strip().rpartition("\n")[2] or "pip-audit ended without a word",))
    unknown = tuple(f"{each['name']}: {each['skip_reason']}" for each in dependencies if "skip_reason" in each)
    return Verdict(tuple(line for each in dependencies for line in _findings(each)), unknown)


def _findings(dependency: dict[str, Any]) -> Iterator[str]:
    for found in dependency.get("vulns", ()):
        mended = ", ".join(found["fix_versions"]) or "no version yet"
        yield f"{dependency['name']} {dependency['version']}: {found['id']}, mended in {mended}"


def main() -> int:
    """0: nothing is known; 1: something is; 2: could not be asked."""
    verdicts = {lock.name: ask(lock) for lock in sorted(REQUIREMENTS.glob("*.lock"))}
    for name, verdict in verdicts.items():
        for line in verdict.vulnerable:
            print(f"{name}: {line}")
        if verdict.unknown:
            print(f"{name}: {len(verdict.unknown)} not audited, such as {verdict.unknown[0]}", file=sys.stderr)
    if any(verdict.vulnerable for verdict in verdicts.values()):
        print("Lock again (make lock), or raise the bound in pyproject.toml.", file=sys.stderr)
        return EXIT_FOUND
    if any(verdict.unknown for verdict in verdicts.values()):
        print("The database of vulnerabilities could not be asked; is there a network?", file=sys.stderr)
        return EXIT_UNKNOWN
    print("No vulnerability is known of any locked version.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
