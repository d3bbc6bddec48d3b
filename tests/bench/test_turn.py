"""Which core a server is on, in its turn and out of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.envoy_listeners import NO_AUTH
from bench.machine import Cores, choose_cores
from bench.stage import NATIVE, Stage

TWO_THREADS = """
import threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def server() -> Iterator[int]:
    """The process id of one with two threads."""
    with subprocess.Popen([sys.executable, "-c", TWO_THREADS], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.fixture
def cores() -> Cores:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    return choose_cores()


def stage_of(server: int, cores: Cores) -> Stage:
    servers = cast("Any", {NATIVE: SimpleNamespace(pid=server)})
    return Stage(cores, Path(), "", servers, cast("Any", None), "", b"")


def on_cores(process: int) -> list[set[int]]:
    return [os.sched_getaffinity(int(thread.name)) for thread in Path(f"/proc/{process}/task").iterdir()]


def test_a_server_has_the_subject_s_core_in_its_turn_and_the_load_s_afterwards(server: int, cores: Cores) -> None:
    stage = stage_of(server, cores)
    with stage.turn(NATIVE):
        assert on_cores(server) == [{cores.subject}] * 2
    assert on_cores(server) == [{cores.generator}] * 2


def test_a_subject_without_a_server_moves_nobody(server: int, cores: Cores) -> None:
    before = on_cores(server)
    with stage_of(server, cores).turn(NO_AUTH):
        assert on_cores(server) == before
