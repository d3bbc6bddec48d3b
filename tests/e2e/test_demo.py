"""``make run``: everything starts, each printed request gives what it says, and nothing is left behind."""

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port

READY = "ready: paste any of these"
BLOCK = re.compile(r"^\d+\. (?P<title>.+)\n   gives (?P<status>\d+).*\n\n(?P<command>curl .+)$", re.MULTILINE)
PATIENCE_SECONDS = 40


@asynccontextmanager
async def demo(*arguments: str) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "demo", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()  # not killed: it ends its own children
            await process.wait()


async def printed_until(process: Process, pattern: str) -> str:
    """What it has printed once this can be found in it."""
    assert process.stdout is not None
    printed = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not re.search(pattern, printed.decode()):
            chunk = await process.stdout.read(65536)
            assert chunk, f"it ended:\n{printed.decode()}"
            printed += chunk
    return printed.decode()


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_each_request_that_is_shown_gives_what_it_says() -> None:
    async with demo("--check", "--any-ports") as process:
        output, _ = await process.communicate()
    lines = output.decode().splitlines()
    assert process.returncode == 0, output.decode()
    assert len(lines) == 9
    assert all(line.startswith("ok ") for line in lines)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_printed_lines_can_be_pasted_into_a_shell() -> None:
    async with demo("--any-ports") as process:
        page = await printed_until(process, r"fetched the key set\n\ncurl .+\n")
        blocks = list(BLOCK.finditer(page))
        assert len(blocks) == 9
        for block in blocks:
            shell = await asyncio.create_subprocess_shell(f"{block['command']} --silent", stdout=PIPE, stderr=PIPE)
            output, _ = await shell.communicate()
            assert output.split()[1].decode() == block["status"], f"{block['title']}:\n{output.decode()}"


async def test_ctrl_c_ends_all_of_it() -> None:
    async with demo("--any-ports") as process:
        await printed_until(process, READY)
        children = children_of(process.pid)
        assert len(children) >= 2
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    assert not any(is_there(child) for child in children)


async def test_a_port_that_is_taken_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        async with demo("--any-ports", "--envoy-port", str(port)) as process:
            output, _ = await process.communicate()
    assert process.returncode == 2
    assert f"port {port}, wanted by envoy (--envoy-port), is taken" in output.decode()
    assert "make run ARGS=" in output.decode()
    assert "    .venv/bin/python -m demo --any-ports" in output.decode(), "as make runs it"
