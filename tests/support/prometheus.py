"""A real Prometheus with the shipped configuration: other targets, and quicker, and nothing else."""

import asyncio
import re
import signal
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from aiohttp import ClientSession

from tests.support.monitoring import PROMETHEUS, ROOT

CONFIG = ROOT / "deploy/monitoring/prometheus.yaml"
QUICK = "500ms"
POLL_SECONDS = 0.2
PATIENCE_SECONDS = 120.0
"""Only what never comes takes so long."""

LISTENING = re.compile(r'msg="Listening on" .*address=(\S+)')

T = TypeVar("T")


class RunningPrometheus:
    """Asked over HTTP, as Grafana asks."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def _url(self) -> str:
        found = LISTENING.search(self._log.read_text(encoding="utf-8"))
        assert found is not None
        return f"http://{found[1]}"

    async def until_listening(self) -> None:
        """Wait for its port."""

        async def listening() -> bool:
            return LISTENING.search(self._log.read_text(encoding="utf-8")) is not None

        await self.until(listening, "port")

    async def values(self, expr: str) -> list[float]:
        """What an instant query gives, whatever the labels."""
        result = (await self._get("/api/v1/query", query=expr))["result"]
        return [float(sample["value"][1]) for sample in result]

    async def firing(self) -> dict[str, dict[str, str]]:
        """The annotations of the alerts that fire, by their names."""
        found = (await self._get("/api/v1/alerts"))["alerts"]
        return {alert["labels"]["alertname"]: alert["annotations"] for alert in found if alert["state"] == "firing"}

    async def until(self, condition: Callable[[], Awaitable[T]], what: str) -> T:
        """Wait for something that is true, and give it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := await condition()):
            assert self._process.returncode is None, f"Prometheus ended:\n{self._log.read_text(encoding='utf-8')}"
            assert time.monotonic() < deadline, f"no {what}"
            await asyncio.sleep(POLL_SECONDS)
        return found

    async def _get(self, path: str, **parameters: str) -> Any:
        async with ClientSession() as session, session.get(self._url + path, params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]


@asynccontextmanager
async def run_prometheus(targets: Sequence[str]) -> AsyncIterator[RunningPrometheus]:
    """Scrapes these, ``host:port`` each, and evaluates the shipped rules."""
    with tempfile.TemporaryDirectory(prefix="prometheus-") as name:
        directory = Path(name)
        config = directory / "prometheus.yaml"
        config.write_text(yaml.safe_dump(_quick(targets)), encoding="utf-8")
        log = directory / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                PROMETHEUS or "", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
                "--web.listen-address=127.0.0.1:0", stdin=DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            running = RunningPrometheus(process, log)
            await running.until_listening()
            yield running
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)  # its data go as well
            await process.wait()


def _quick(targets: Sequence[str]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    config["global"] = dict.fromkeys(config["global"], QUICK)
    config["rule_files"] = [str(CONFIG.parent / file) for file in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": list(targets)}]
    return config
