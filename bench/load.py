"""Load from other people's generators: wrk for HTTP/1.1 through Envoy, h2load for gRPC straight to a server."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from authz_service.transport.check_service import METHOD
from bench.machine import on_core
from bench.processes import BenchFailed

H2LOAD_CLIENTS, H2LOAD_STREAMS = 4, 25
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
START_SECONDS = 20


class Load(NamedTuple):
    """What a generator saw."""

    requests: int
    per_second: float
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    failed: int = 0
    """Of those requests, how many were not answered with 200."""


def has(tool: str) -> bool:
    """Whether it is installed; all come with the system's packages (h2load: nghttp2-client, wrk, cc: gcc)."""
    return shutil.which(tool) is not None


def wrk(url: str, headers: Mapping[str, str], *, connections: int, seconds: int, core: int) -> Load:
    """As many requests as it can be given, one at a time on each connection.

    Its latencies are a closed loop's: while the server is slow, wrk asks less. For latencies under a load that does
    not wait see constant_rate.py.
    """
    sent = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *sent, url]
    text = _run(command, seconds, core)
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Load(
        int(_find(r"(\d+) requests in", text)[1]), float(_find(r"Requests/sec:\s+([\d.]+)", text)[1]),
        _milliseconds("50", text), _milliseconds("99", text),
        int(failed[1]) if failed else 0,
    )  # fmt: skip


def h2load(socket: Path, message: Path, *, seconds: float, core: int) -> Load:
    """Check calls on 4 connections with 25 streams each.

    :param message: a file with the body of the request, gRPC's five octets before it included.
    :raises BenchFailed: one call was not answered.
    """
    command = [
        "h2load", f"-c{H2LOAD_CLIENTS}", f"-m{H2LOAD_STREAMS}", "-t1", f"-D{seconds}", "-d", str(message),
        "-H", "content-type: application/grpc", "-H", "te: trailers", "-B", f"unix:{socket}",
        f"http://localhost{METHOD}",
    ]  # fmt: skip
    text = _run(command, seconds, core)
    done = _find(r"(\d+) succeeded, (\d+) failed, (\d+) errored", text)
    if int(done[2]) or int(done[3]) or not int(done[1]):
        raise BenchFailed(f"calls failed:\n{text}")
    return Load(int(done[1]), float(_find(r"([\d.]+) req/s", text)[1]))


def _run(command: list[str], seconds: float, core: int) -> str:
    with on_core(core):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + START_SECONDS)
    if done.returncode:
        raise BenchFailed(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _find(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text)
    if found is None:
        raise BenchFailed(f"not understood:\n{text}")
    return found


def _milliseconds(percentile: str, text: str) -> float:
    found = _find(rf"\s{percentile}%\s+([\d.]+)(us|ms|s)", text)
    return float(found[1]) * UNITS[found[2]]
