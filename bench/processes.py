"""Child processes on one core: started, waited for, measured and ended, each by its own id."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

from bench.machine import cpu_seconds, on_core, rss_bytes
from demo.ports import free_port
from demo.stage import FOREIGN_PREFIXES

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.02
STOP_SECONDS = 5.0


class BenchFailed(Exception):
    """The figures cannot be had; the text says why."""


class Child:
    """One process; a context manager.

    :param log: where its output goes; the end of it is shown when it fails.
    """

    def __init__(
        self, command: Sequence[str], *, core: int, log: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        self._command = command
        self._core = core
        self._log = log
        self._environ = {**_clean(os.environ), **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process is None:
            raise BenchFailed(f"{self._log.stem} does not run")
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        return cpu_seconds(self.pid)

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return rss_bytes(self.pid)

    def ready(self) -> bool:
        """Whether it can be measured; overridden where starting takes time."""
        return True

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that it brings about."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"{self._log.stem}: not {what}\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(POLL_SECONDS)

    def __enter__(self) -> Self:
        with self._log.open("wb") as log, on_core(self._core):
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        try:
            self.until(self.ready, "ready")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, if it has not ended."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # SIGTERM would drain, for seconds
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Listener(Child):
    """A process that is ready when its Unix socket is there."""

    def __init__(
        self, command: Sequence[str], socket: Path, *, core: int, environ: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(command, core=core, log=socket.with_suffix(".log"), environ=environ)
        self.socket = socket

    def ready(self) -> bool:  # noqa: D102
        return self.socket.exists()


class Sidecar(Listener):
    """``authz-service serve``, ready when it has keys."""

    def __init__(self, socket: Path, environ: Mapping[str, str], *, core: int) -> None:
        self._admin = f"127.0.0.1:{free_port()}"
        own = {"AUTHZ_LISTEN": f"unix://{socket}", "AUTHZ_ADMIN_LISTEN": self._admin, "AUTHZ_LOG_LEVEL": "warning"}
        super().__init__(
            [sys.executable, "-m", "authz_service", "serve"], socket, core=core, environ={**own, **environ}
        )

    def ready(self) -> bool:  # noqa: D102
        try:
            with urlopen(f"http://{self._admin}/readyz", timeout=1) as response:
                return response.status == 200 and self.socket.exists()  # noqa: PLR2004
        except (URLError, ConnectionError, TimeoutError):
            return False


def module(name: str, *arguments: str | Path | float) -> list[str]:
    """The command that runs a module of this package."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def _clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Less what the person's own environment says about an authorizer."""
    return {name: value for name, value in environ.items() if not name.startswith(FOREIGN_PREFIXES)}
