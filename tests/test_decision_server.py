"""The rooms that decide, wired together."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from select import select
from types import MappingProxyType

import pytest

from authz_service import decision_server
from authz_service.caller import Caller
from authz_service.config import load_config
from authz_service.decision_server import DecisionServer, do_not_interrupt
from authz_service.errors import AccessRefused, Reason
from authz_service.keys.assembly import key_rings
from authz_service.keys.jwk import parse_key_set
from authz_service.model import Claims, HttpRequest, Identity
from authz_service.observability import decision_log
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy
from authz_service.response.challenge import deny
from authz_service.token.jws import VerificationKey
from authz_service.token.verified import TIDIED_AT_ONCE
from tests.support.service import PATIENCE_SECONDS
from tests.support.tokens import jwks, signing_key

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


def test_what_somebody_chose_for_the_process_stands() -> None:
    statement = "import os; from authz_service.decision_server import do_not_interrupt as do; "
    statement += "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)); do(); print(os.sched_getscheduler(0))"
    told = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    assert int(told.stdout) == os.SCHED_IDLE


def test_a_sandbox_that_lets_nobody_choose_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    do_not_interrupt()


async def test_tokens_of_a_key_that_is_gone_and_expired_ones_are_forgotten_without_being_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_server, "TIDY_REST_SECONDS", 0.001)
    config = load_config({"AUTHZ_LISTEN": f"unix://{tmp_path}/authz.sock"})
    decisions = DecisionServer(config, NOTHING, key_rings(config, []), Metrics())
    kept, gone = (parse_key_set(jwks(signing_key(kid)), frozenset({"RS256"})).keys[kid] for kid in ("kept", "gone"))
    monkeypatch.setattr(decisions._keys, "holds", lambda issuer, key: (issuer, key) == (config.issuer, kept))
    remembered = decisions._ways.deciding.authorizer.remembered
    now = int(time.time())
    tokens = {b"good": (kept, 60), b"gone": (gone, 60), b"expired": (kept, -60), b"within the leeway": (kept, -1)}
    async with decisions.listening() as server, asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.sleep(0)  # the first look finds nothing
        for name, (key, expires_in) in tokens.items():
            remembered.put(name, caller(config.issuer, key, now + expires_in))
        while len(remembered) > 2:  # noqa: ASYNC110 - forgetting is no event
            await asyncio.sleep(0.01)
        await server.stop(0)
    assert all(remembered.get(name) for name in (b"good", b"within the leeway"))


async def test_many_tokens_are_looked_at_without_a_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision_server, "TIDY_SECONDS", 0.001)
    monkeypatch.setattr(decision_server, "TIDY_REST_SECONDS", 3600)
    config = load_config({"AUTHZ_LISTEN": f"unix://{tmp_path}/authz.sock"})
    decisions = DecisionServer(config, NOTHING, key_rings(config, []), Metrics())
    remembered = decisions._ways.deciding.authorizer.remembered
    key = parse_key_set(jwks(signing_key("gone")), frozenset({"RS256"})).keys["gone"]
    for number in range(2 * TIDIED_AT_ONCE):
        remembered.put(b"%d" % number, caller(config.issuer, key, expires_at=0))
    async with decisions.listening() as server, asyncio.timeout(PATIENCE_SECONDS):
        while len(remembered):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        await server.stop(0)


def caller(issuer: str, key: VerificationKey, expires_at: int) -> Caller:
    nothing = frozenset[str]()
    claims = Claims(issuer, "user-1", expires_at, nothing, nothing, MappingProxyType({}))
    return Caller(claims, key, Identity(), brought=0)


def written(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("authz_decision_log_written_total") or 0


def read_until(reader: FileIO, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done() and time.monotonic() < deadline:
        select([reader], [], [], 0.01)  # to read over and over would keep the writer from its work
        reader.read(65536)
