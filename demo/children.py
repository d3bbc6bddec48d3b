"""The demo's child processes: each in a session of its own, each ended by its own process id."""

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Never

STOP_SECONDS = 2.0
LAST_LINES = 15


class DemoFailed(Exception):
    """The demo cannot go on; the text is for the person who started it."""


class Child:
    """A running process.

    :param log: its output, or None when that goes to standard error.
    :param stop_signal: what ends it at once.
    """

    def __init__(self, name: str, process: Process, log: Path | None, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._stop_signal = stop_signal

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path | None,
        environ: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> "Child":
        """Start a process that a Ctrl-C in the terminal does not reach: it is the demo that ends it, in order."""
        output = log.open("wb") if log else sys.stderr
        try:
            process = await asyncio.create_subprocess_exec(
                *command, env=environ, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        finally:
            if log:
                output.close()
        return cls(name, process, log, stop_signal)

    async def died(self) -> "Child":
        """Wait for the end of the process."""
        await self._process.wait()
        return self

    async def stop(self) -> None:
        """End the process if it has not ended yet."""
        if self._process.returncode is not None:
            return
        self._process.send_signal(self._stop_signal)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def obituary(self) -> str:
        """What is known about an early end."""
        text = f"{self.name} ended by itself with exit code {self._process.returncode}"
        if self.log is None:
            return f"{text}; its log is above."
        lines = "".join(f"  {line}\n" for line in self._last_lines())
        return f"{text}; its last lines:\n{lines.rstrip()}"

    def _last_lines(self) -> Iterable[str]:
        if self.log is None or not self.log.exists():
            return ()
        return deque(self.log.read_text(encoding="utf-8", errors="replace").splitlines(), maxlen=LAST_LINES)


async def until_one_dies(children: Sequence[Child]) -> Never:
    """Never returns; :raises DemoFailed: when a child ends."""
    tasks = [asyncio.create_task(child.died()) for child in children]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        raise DemoFailed(done.pop().result().obituary())
    finally:
        for task in tasks:
            task.cancel()
