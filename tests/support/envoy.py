"""A real Envoy for a test: on ports that the system chooses, ready when the test gets it, gone when the test ends."""

import asyncio
import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

from demo.envoy_bootstrap import ENVOY

START_SECONDS = 20.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02
ACCESS_LOG_FLUSH_MILLISECONDS = 20

T = TypeVar("T")


class EnvoyFailed(AssertionError):
    """Envoy did not do what the test needs; the message ends with its log."""


class RunningEnvoy:
    """One Envoy process; a context manager for ``with`` and, without blocking the loop, for ``async with``."""

    def __init__(self, bootstrap: dict[str, Any], concurrency: int) -> None:
        self._bootstrap = bootstrap
        self._concurrency = concurrency
        self._directory = tempfile.TemporaryDirectory(prefix="envoy-")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        """Where the first listener answers."""
        self.admin_url = ""

    @property
    def pid(self) -> int:
        """The process id of the running Envoy."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Envoy's own log so far."""
        path = self._path("envoy.log")
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def access_log(self, at_least: int = 0) -> list[dict[str, Any]]:
        """The access log so far, one object a request; waits for this many."""
        lines = self._until(
            lambda: found if len(found := self._access_log_lines()) >= at_least else None,
            f"{at_least} lines in the access log",
        )
        return [json.loads(line) for line in lines]

    def stats(self, name: str) -> int:
        """One counter or gauge by its full name; 0 when Envoy has not met it yet."""
        page = self.admin(f"/stats?format=json&filter={quote(f'^{re.escape(name)}$')}")
        values = [stat["value"] for stat in json.loads(page)["stats"] if stat.get("name") == name]
        return int(values[0]) if values else 0

    def admin(self, path: str, method: str = "GET") -> str:
        """The body of an admin page; :raises EnvoyFailed: unless it answers 200."""
        status, body = self._ask_admin(path, method)
        if status != 200:
            raise self._failed(f"{method} {path} on the admin port answered {status}: {body}")
        return body

    def start(self) -> None:
        """Start and wait until it is ready."""
        config = self._path("bootstrap.json")
        config.write_text(json.dumps(self._bootstrap), encoding="utf-8")
        with self._path("envoy.log").open("wb") as log, self._path("access.log").open("wb") as access_log:
            self._process = subprocess.Popen(self._command(config), stdout=access_log, stderr=log)
        try:
            self.admin_url = "http://" + self._until(self._admin_address, "an admin address")
            self._until(self._is_ready, "readiness")
            self.url = "http://" + self._listener_address()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End this process, by its own id."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"Envoy's log:\n{self.log()}")
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _path(self, name: str) -> Path:
        return Path(self._directory.name) / name

    def _command(self, config: Path) -> list[str]:
        return [
            str(ENVOY), "--config-path", str(config), "--admin-address-path", str(self._path("admin-address")),
            "--use-dynamic-base-id", "--concurrency", str(self._concurrency), "--log-level", "warning",
            "--file-flush-interval-msec", str(ACCESS_LOG_FLUSH_MILLISECONDS),
        ]  # fmt: skip

    def _admin_address(self) -> str | None:
        path = self._path("admin-address")
        return path.read_text(encoding="ascii") or None if path.exists() else None

    def _is_ready(self) -> bool | None:
        try:
            return self._ask_admin("/ready")[0] == 200 or None
        except (OSError, HTTPException):
            return None

    def _listener_address(self) -> str:
        listeners = json.loads(self.admin("/listeners?format=json"))["listener_statuses"]
        address = listeners[0]["local_address"]["socket_address"]
        return f"{address['address']}:{address['port_value']}"

    def _access_log_lines(self) -> list[str]:
        text = self._path("access.log").read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()  # less a line that is being written

    def _ask_admin(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = HTTPConnection(urlsplit(self.admin_url).netloc, timeout=STOP_SECONDS)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def _until(self, attempt: Callable[[], T | None], what: str) -> T:
        deadline = time.monotonic() + START_SECONDS
        while (result := attempt()) is None:
            if self._process is None or self._process.poll() is not None:
                raise self._failed("Envoy ended by itself")
            if time.monotonic() > deadline:
                raise self._failed(f"no {what} within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        return result

    def _failed(self, what: str) -> EnvoyFailed:
        return EnvoyFailed(f"{what}; its log:\n{self.log()}")


def run_envoy(bootstrap: dict[str, Any], *, concurrency: int = 1) -> RunningEnvoy:
    """``with run_envoy(bootstrap) as envoy``, also ``async with``: ready inside, gone after.

    :param bootstrap: see ``demo.envoy_bootstrap``; give the listener and the admin page port 0.
    """
    return RunningEnvoy(bootstrap, concurrency)
