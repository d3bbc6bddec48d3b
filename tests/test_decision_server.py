"""The rooms that decide, wired together."""

import asyncio
import os
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

from authz_service.config import load_config
from authz_service.decision_server import DecisionServer
from authz_service.errors import AccessRefused, Reason
from authz_service.keys.assembly import key_rings
from authz_service.model import HttpRequest
from authz_service.observability import decision_log
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy
from authz_service.response.challenge import deny
from tests.support.service import PATIENCE_SECONDS

LINES = 2_000
"""Several times what a pipe holds."""
NOTHING = parse_policy("version: 1\nrules: []")
REQUEST = HttpRequest("GET", "/groups", "chat.example.com", ())
DENIED = deny(AccessRefused(Reason.NO_MATCHING_RULE, "A sentence."))


async def test_the_end_waits_for_lines_of_the_decision_log_that_are_not_written_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "CLOSE_SECONDS", 20)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with FileIO(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)) as reader:
        config = load_config({"AUTHZ_DECISION_LOG": str(pipe), "AUTHZ_LISTEN": f"unix://{tmp_path}/authz.sock"})
        metrics = Metrics()
        decisions = DecisionServer(config, NOTHING, key_rings(config, []), metrics)
        log = decisions._log
        assert log is not None
        async with decisions.listening() as server:
            for _ in range(LINES):
                log.saw(REQUEST, DENIED)
            assert written(metrics) < LINES
            asyncio.get_running_loop().run_in_executor(None, read_until, reader, lambda: written(metrics) == LINES)
            await server.stop(0)
        assert written(metrics) == LINES


def written(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("authz_decision_log_written_total") or 0


def read_until(reader: FileIO, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done() and time.monotonic() < deadline:
        reader.read(65536)
