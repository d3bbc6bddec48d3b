"""The machine under the figures: which core does what, and what each process has used of it."""

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from authz_service.build import COMPILED
from demo.envoy_bootstrap import ENVOY

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PACKAGES = ("authz-service", "cryptography", "grpcio", "hpack", "protobuf", "python-jose", "uvloop")


class Cores(NamedTuple):
    """Two cores, so that whoever makes the load takes nothing from those who bear it."""

    subject: int
    generator: int


def choose_cores() -> Cores:
    """The first two that this process may use; :raises SystemExit: there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:  # noqa: PLR2004
        raise SystemExit("bench needs two cores: one for the load, one for what bears it.")
    return Cores(*allowed[:2])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes that are started inside stay on this core, with all their threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, core: int) -> None:
    """A process that runs, with all its threads and those that it will start."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has just ended
            os.sched_setaffinity(int(thread.name), {core})


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, user and system, all threads.

    The clock of clock_getcpuclockid(3): the sum of ``utime`` and ``stime`` of ``/proc/<pid>/stat`` in nanoseconds,
    where those are rounded to ticks of 10 ms.
    """
    return time.clock_gettime(~pid << 3 | 2)


def rss_bytes(pid: int | str = "self") -> int:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES


def environment() -> dict[str, str]:
    """What a reader needs to know in order to compare; no names, no paths."""
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": platform.system(),
        "compiled": "yes" if COMPILED else "no",
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "envoy": _first_number([str(ENVOY), "--version"]),
        "h2load": _first_number(["h2load", "--version"]),
        "wrk": _first_number(["wrk", "-v"]),
        **versions,
    }


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _first_number(command: list[str]) -> str:
    """The version that a command tells, or that it is absent."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # wrk -v ends with 1
    except FileNotFoundError:
        return "absent"
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "present"
