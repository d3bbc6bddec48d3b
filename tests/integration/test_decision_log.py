"""The decision log of a running service: rotated by SIGHUP, shared by workers, on a full disk, behind a closed pipe."""

import json
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from authz_service.migration.logged import read_line
from tests.integration.test_command_line import GOOD_POLICY, run
from tests.support.check_requests import Answer, check_request, read_answer
from tests.support.issuer import issuer
from tests.support.service import PATIENCE_SECONDS, Service, service
from tests.support.tokens import claims, jwks, signing_key

CHECK = "/envoy.service.auth.v3.Authorization/Check"


def bearer(**overrides: object) -> list[tuple[str, str]]:
    now = int(time.time())
    return [("authorization", f"Bearer {signing_key().sign(claims(iat=now, exp=now + 3600, **overrides))}")]


async def check(path: str, headers: list[tuple[str, str]] | None = None, times: int = 1) -> list[Answer]:
    """Ask at a Unix socket."""
    message = check_request(path="/api/chat/groups?page=2", headers=headers or [], request_id="r-1")
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
        return [read_answer(await call(message, wait_for_ready=True)) for _ in range(times)]


@asynccontextmanager
async def logging(target: str, *arguments: str) -> AsyncIterator[Service]:
    async with issuer(jwks(signing_key())) as auth_api:
        settings: Mapping[str, str] = {
            "AUTH_API_JWKS_URL": auth_api.url, "AUTHZ_DECISION_LOG": target, "AUTHZ_DECISION_LOG_SAMPLE": "1",
        }  # fmt: skip
        async with service(settings, arguments=arguments) as running:
            await running.until_ready()
            yield running


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def counted(running: Service) -> tuple[float, float]:
    """Written and dropped."""
    page = await running.metrics()
    values = {s.name: s.value for family in text_string_to_metric_families(page) for s in family.samples}
    return values["authz_decision_log_written_total"], values["authz_decision_log_dropped_total"]


async def until_counted(running: Service, written: float, dropped: float) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := await counted(running)) != (written, dropped):
        assert time.monotonic() < deadline, f"{found}, not {written} and {dropped}"


async def until_written(running: Service, path: Path, count: int) -> None:
    await running.until(lambda: path.exists() and len(path.read_bytes().splitlines()) >= count, f"{count} lines")


def reading(pipe: Path) -> FileIO:
    return FileIO(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))


async def test_what_is_decided_is_told_without_the_token(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    async with logging(str(path)) as running:
        (allowed,) = await check(running.address.path, token := bearer())
        (denied,) = await check(running.address.path, bearer(permissions=[]))
        assert (allowed.allowed, denied.allowed) == (True, False)
        await until_written(running, path, 2)
        told = lines(path)
        assert [(line["decision"], line["reason"], line["rule"]) for line in told] == [
            ("allow", "allowed", "list-groups"), ("deny", "permission_denied", "list-groups"),
        ]  # fmt: skip
        assert (told[0]["path"], told[0]["request_id"]) == ("/api/chat/groups", "r-1")
        text = path.read_text(encoding="ascii")
        assert not [part for part in token[0][1].removeprefix("Bearer ").split(".") if part in text]
        assert "user-1" not in text
        assert await counted(running) == (2, 0)


async def test_what_was_told_before_the_end_is_there_after_it(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    async with logging(str(path)) as running:
        await check(running.address.path, times=200)
        await running.stop(signal.SIGINT)
    assert len(lines(path)) == 200


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "workers"])
async def test_sighup_goes_on_in_a_new_file_and_every_decision_is_in_one_of_them(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    path, rotated = tmp_path / "decisions.log", tmp_path / "decisions.log.1"
    async with logging(str(path), *arguments) as running:
        endpoint = running.address.path
        endpoints = [endpoint.replace("authz.", f"authz-{n}.") for n in range(2)] if arguments else [endpoint]
        for each in endpoints:
            await check(each, times=10)
        path.rename(rotated)
        running.send(signal.SIGHUP)
        opened = len(endpoints)
        await running.until(lambda: running.raw_log().count("decision log opened again") == opened, "log opened again")
        for each in endpoints:
            await check(each, times=10)
        await until_written(running, path, 10 * opened)
        assert (len(lines(rotated)), len(lines(path))) == (10 * opened, 10 * opened)
        assert await counted(running) == (20 * opened, 0)


async def test_on_a_full_disk_decisions_go_on_and_once_there_is_room_lines_do(tmp_path: Path) -> None:
    """The limit on the size of files does what a full disk does: the beginning of a line is written, then nothing."""
    path = tmp_path / "decisions.log"
    path.write_bytes(b"\n" * 100_000)  # longer than the service's own log, which it is not about
    async with logging(str(path)) as running:
        _, hard = resource.prlimit(running.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (100_050, hard))
        assert [answer.http_status for answer in await check(running.address.path, times=5)] == [401] * 5
        await until_counted(running, 0, 5)
        await running.until_logged("the decision log cannot be written")
        resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert (await check(running.address.path, bearer()))[0].allowed
        await running.until_logged("the decision log is written again")
        assert await counted(running) == (1, 5)
        torn, whole = path.read_bytes().split()
        assert len(torn) == 50
        assert read_line(whole).answer.reason == "allowed"


async def test_a_closed_pipe_disturbs_no_decision(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    first_reader = reading(pipe)
    with first_reader:
        async with logging(str(pipe)) as running:
            first_reader.close()
            assert [answer.http_status for answer in await check(running.address.path, times=5)] == [401] * 5
            await until_counted(running, 0, 5)
            await running.until_logged("the decision log cannot be written: Broken pipe")
            with reading(pipe) as reader:
                assert (await check(running.address.path, bearer()))[0].allowed
                await running.until_logged("the decision log is written again")
                assert read_line(reader.read(65536)).answer.reason == "allowed"


async def test_standard_output_holds_decisions_alone() -> None:
    async with logging("stdout") as running:
        await check(running.address.path, times=3)
        await running.until(lambda: running.raw_log().count('"v":1') == 3, "3 lines")


async def test_unless_it_is_wanted_nothing_speaks_of_it() -> None:
    async with issuer(jwks(signing_key())) as auth_api, service({"AUTH_API_JWKS_URL": auth_api.url}) as running:
        assert "decision_log" not in await running.metrics()


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_a_log_that_cannot_be_opened_is_a_mistake_in_the_configuration(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(GOOD_POLICY, encoding="utf-8")
    result = run(
        "serve", *arguments, AUTHZ_POLICY_FILE=str(policy), AUTHZ_DECISION_LOG="/missing/decisions.log",
        AUTHZ_LISTEN=f"unix://{tmp_path}/authz.sock", AUTHZ_ADMIN_LISTEN="127.0.0.1:0",
    )  # fmt: skip
    assert result.returncode == 2
    assert "AUTHZ_DECISION_LOG='/missing/decisions.log': No such file or directory; name a file" in result.stderr
    assert "Traceback" not in result.stderr
