"""``authz-service serve`` as a process of its own, as users run it."""

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import ClientSession

from authz_service.address import Address
from demo.stage import FOREIGN_PREFIXES

PATIENCE_SECONDS = 20.0
POLL_SECONDS = 0.01

POLICY = """
version: 1
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: list-groups, match: {path: /api/chat/groups, methods: [GET]}, require: {permission: "groups:read"}}
"""

T = TypeVar("T")


class Service:
    """One process; it can be ended and started again at the same address.

    :param environ: what differs from the defaults; without AUTHZ_LISTEN it listens on a Unix socket of its own.
    :param arguments: of ``serve``.
    :param command: what is run, if not the checkout.
    """

    def __init__(
        self, directory: Path, environ: Mapping[str, str], policy: str = POLICY, arguments: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-m", "authz_service"),
    ) -> None:  # fmt: skip
        self._command = (*command, "serve", *arguments)
        self.policy_path = directory / "policy.yaml"
        self.policy_path.write_text(policy, encoding="utf-8")
        self.address = Address(path=str(directory / "authz.sock"))
        self._log_path = directory / "authz.log"
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN_PREFIXES)},
            "AUTHZ_POLICY_FILE": str(self.policy_path),
            "AUTHZ_LISTEN": str(self.address),
            "AUTHZ_ADMIN_LISTEN": "127.0.0.1:0",
            **environ,
        }
        self._process: Process | None = None
        self._log_start = 0

    async def start(self) -> None:
        """Start, and wait until it listens."""
        self._log_start = self._log_path.stat().st_size if self._log_path.exists() else 0
        with self._log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environ, stderr=log, stdout=log, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        await self.until(lambda: self._listening() is not None, "listening")

    def configure(self, environ: Mapping[str, str]) -> None:
        """From the next start on, this differs as well."""
        self._environ |= environ

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; :returns: the exit code."""
        self.send(number)
        assert self._process is not None
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process."""
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def admin_url(self) -> str:
        """Where the admin port answers."""
        line = self._listening()
        assert line is not None
        return "http://" + line.rpartition("admin on ")[2]

    def log(self) -> list[dict[str, Any]]:
        """The lines of the process that runs, or ran last; what is not a JSON object fails here."""
        text = self._log_path.read_bytes()[self._log_start :].decode()
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def raw_log(self) -> str:
        """All that every process of this service wrote."""
        return self._log_path.read_text(encoding="utf-8")

    async def until_ready(self) -> None:
        """Wait until there are keys."""
        async with ClientSession() as session:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (await session.get(f"{self.admin_url}/readyz")).status != 200:
                assert time.monotonic() < deadline, f"never ready:\n{self.raw_log()}"
                await asyncio.sleep(POLL_SECONDS)

    async def until_logged(self, text: str) -> None:
        """Wait for a line that contains this."""
        await self.until(lambda: any(text in line["message"] for line in self.log()), f"line with {text!r}")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that this process brings about."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert self.running, f"it ended before {what}:\n{self.raw_log()}"
            assert time.monotonic() < deadline, f"no {what}:\n{self.raw_log()}"
            await asyncio.sleep(POLL_SECONDS)

    async def status(self) -> dict[str, Any]:
        """``/status``."""
        async with ClientSession() as session:
            status: dict[str, Any] = await (await session.get(f"{self.admin_url}/status")).json()
            return status

    async def metrics(self) -> str:
        """``/metrics``."""
        async with ClientSession() as session:
            return await (await session.get(f"{self.admin_url}/metrics")).text()

    def _listening(self) -> str | None:
        lines = (line["message"] for line in self.log())
        return next((line for line in lines if line.startswith("listening for Envoy on ")), None)


@asynccontextmanager
async def service(
    environ: Mapping[str, str] | None = None, policy: str = POLICY, arguments: Sequence[str] = (), closed: str = ""
) -> AsyncIterator[Service]:
    """A service that listens; ended at the end of the test whatever happened.

    :param closed: standard streams that it begins without, as a shell closes them: ``<&-``.
    """
    command = ("bash", "-c", f'exec {sys.executable} -m authz_service "$@" {closed}', "bash")
    with tempfile.TemporaryDirectory(prefix="authz-") as directory:
        running = Service(Path(directory), environ or {}, policy, arguments, *([command] if closed else []))
        try:
            await running.start()
            yield running
        finally:
            if running.running:
                await running.stop(signal.SIGKILL)
