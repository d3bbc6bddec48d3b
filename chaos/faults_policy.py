"""The policy file changes, well or badly, while requests are decided."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from chaos.record import ALLOWED, Record, constant_rate
from chaos.stage import Alone, alone, metric, until
from chaos.table import Report, row
from chaos.tokens import in_turn, mint_many
from tests.support.service import POLICY

LOAD_PER_SECOND = 200.0
FAILURES = 'authz_policy_reloads_total{result="failure"}'
CLOSED = POLICY.replace("groups:read", "groups:nobody")
HALF = POLICY[: len(POLICY) // 2]
BAD = POLICY.replace("methods: [GET]", "methods: GET, or so")


@row(
    "policy file half-written, bad, removed",
    "the old policy serves on, 0 false denials; metric and log within 1 s; a good file takes over",
    quick=True,
)
async def policy_bad(report: Report) -> None:
    async with alone() as stage:
        path = stage.authz.policy_path
        path.with_suffix(".bak").write_text(POLICY, encoding="utf-8")
        async with stage.channel() as channel:
            load = asyncio.create_task(constant_rate(channel.ask, in_turn(mint_many(count=5)), LOAD_PER_SECOND, 3.0))
            for name, change in CHANGES.items():
                await _tell(stage, name, change, report)
            path.write_text(POLICY, encoding="utf-8")
            record = await load
            report.hold(record.failed == 0, record.failures)
            path.write_text(CLOSED, encoding="utf-8")
            seconds = await _until_all(stage, "permission_denied")
            report.hold(seconds < 1, f"a good one decides after {seconds * 1000:.0f} ms")


CHANGES: dict[str, Callable[[Path], object]] = {
    "half-written": lambda path: path.write_text(HALF, encoding="utf-8"),
    "bad": lambda path: path.write_text(BAD, encoding="utf-8"),
    "removed": lambda path: path.unlink(),
}


async def _tell(stage: Alone, name: str, change: Callable[[Path], object], report: Report) -> None:
    """Metric and log within a second."""
    failures, lines = await metric(stage.authz, FAILURES), _complaints(stage)
    change(stage.authz.policy_path)

    async def told() -> bool:
        return await metric(stage.authz, FAILURES) == failures + 1 and _complaints(stage) == lines + 1

    seconds = await until(told, 5)
    report.hold(seconds < 1, f"{name}: told after {seconds * 1000:.0f} ms")


def _complaints(stage: Alone) -> int:
    return sum("policy not reloaded, the old one serves on" in line["message"] for line in stage.authz.log())


async def _until_all(stage: Alone, wanted: str) -> float:
    token = mint_many(count=1)[0]

    async def so() -> bool:
        return await stage.ask(token) == wanted

    return await until(so, 5)


@row(
    "policy swapped by symlink, as Kubernetes updates a ConfigMap",
    "each swap in use within 1 s and atomically: one policy before, the other after, nothing in between",
    quick=True,
)
async def policy_symlink(report: Report) -> None:
    async with alone() as stage:
        _mount(stage.authz.policy_path, "first", POLICY)
        await _settled(stage)
        async with stage.channel() as channel:
            load = asyncio.create_task(constant_rate(channel.ask, in_turn(mint_many(count=5)), LOAD_PER_SECOND, 1.5))
            await asyncio.sleep(0.3)
            at = time.monotonic()
            _mount(stage.authz.policy_path, "second", CLOSED)
            record = await load
        _judge_swap(record, at, report)
        report.hold(await metric(stage.authz, FAILURES) == 0, "no reload failed")


def _mount(path: Path, version: str, policy: str) -> None:
    """As the kubelet does: ``policy.yaml -> ..data/policy.yaml``, ``..data -> ..version``, replaced by rename."""
    directory = path.parent / f"..{version}"
    directory.mkdir()
    (directory / path.name).write_text(policy, encoding="utf-8")
    fresh = path.parent / "..data_tmp"
    fresh.symlink_to(directory.name)
    fresh.replace(path.parent / "..data")
    if not path.is_symlink():
        fresh.symlink_to(f"..data/{path.name}")
        fresh.replace(path)


async def _settled(stage: Alone) -> None:
    """Two looks at the file have passed."""
    await asyncio.sleep(0.6)
    assert (await stage.ask(mint_many(count=1)[0])) == ALLOWED


def _judge_swap(record: Record, at: float, report: Report) -> None:
    verdicts = record.verdicts
    report.hold(set(verdicts) == {ALLOWED, "permission_denied"}, f"verdicts {dict(verdicts)}")
    first_new = min(outcome.due for outcome in record.outcomes if outcome.verdict == "permission_denied")
    last_old = max(outcome.due for outcome in record.outcomes if outcome.verdict == ALLOWED)
    report.hold(last_old < first_new, f"the new one decides {(first_new - at) * 1000:.0f} ms after the swap, for all")
    report.hold(first_new - at < 1, "within a second")


@row("policy bad at start", "exit code 2, the mistake named, nothing served", quick=True)
async def policy_bad_at_start(report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        path = Path(directory, "policy.yaml")
        path.write_text(BAD, encoding="utf-8")
        environ = {"PATH": os.environ["PATH"], "AUTHZ_POLICY_FILE": str(path)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "authz_service", "serve", env=environ, stderr=asyncio.subprocess.PIPE
        )
        _, complaint = await process.communicate()
    report.hold(process.returncode == 2, f"exit code {process.returncode}")
    told = complaint.decode().splitlines()[1].partition("yaml: ")[2]
    report.hold("methods" in told, f"it says: {told}")
