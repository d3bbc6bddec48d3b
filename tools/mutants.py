"""Change the code in one small way after the other, and count the changes that the tests notice (mutmut makes them).

Which code and which tests is said in ``pyproject.toml``. What was tried is kept in ``mutants/``.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "mutants"
MUTMUT = (sys.executable, "-m", "mutmut")
LEAST_PERCENT = 95


def main(arguments: list[str]) -> int:
    """0 when enough of them were noticed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at the same time (default: %(default)s)")
    options = parser.parse_args(arguments)
    shutil.rmtree(KEPT, ignore_errors=True)  # mutmut believes what an older test has said of an unchanged function
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants"}
    run = subprocess.run((*MUTMUT, "run", "--max-children", str(options.jobs)), cwd=ROOT, env=environment, check=False)
    if run.returncode:
        return 1  # it has said why: a test fails without any change
    subprocess.run((*MUTMUT, "export-cicd-stats"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return report(json.loads((KEPT / "mutmut-cicd-stats.json").read_text()))


def report(counts: dict[str, int]) -> int:
    """Print it; :returns: 0 when enough of them were noticed."""
    killed, total = counts["killed"] + counts["timeout"], counts["total"]
    percent = 100 * killed / total if total else 0
    subprocess.run((*MUTMUT, "results"), cwd=ROOT, check=True)  # the names of the others
    print(f"mutants: {total}, killed: {killed}, survived: {total - killed}; {percent:.1f} % killed")
    print(f"to see one: {os.path.relpath(sys.executable)} -m mutmut show NAME")
    if percent >= LEAST_PERCENT:
        return 0
    print(f"at least {LEAST_PERCENT} % is asked for")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
