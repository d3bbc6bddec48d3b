"""``serve --workers N``: several processes that are one service, to Envoy, to the issuer and to Prometheus."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.test_command_line import GOOD_POLICY, run
from tests.support.check_requests import Answer, check_request, read_answer
from tests.support.issuer import Issuer, issuer
from tests.support.service import PATIENCE_SECONDS, POLL_SECONDS, Service, service
from tests.support.tokens import claims, jwks, signing_key

CHECK = "/envoy.service.auth.v3.Authorization/Check"
HEALTH = "/grpc.health.v1.Health/Check"


def token(kid: str) -> str:
    now = int(time.time())
    return signing_key(kid).sign(claims(iat=now, exp=now + 3600))


def endpoint(running: Service, worker: int) -> str:
    return running.address.path.replace("authz.sock", f"authz-{worker}.sock")


async def ask(path: str, method: str, message: bytes) -> bytes:
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        return await call(message)


async def check(running: Service, worker: int, kid: str = "a") -> Answer:
    """Ask, and ask again if the machine is too busy for an answer in time."""
    headers = [("authorization", f"Bearer {token(kid)}")]
    message = check_request(path="/api/chat/groups", headers=headers)
    while True:
        answer = read_answer(await ask(endpoint(running, worker), CHECK, message))
        if '"overloaded"' not in answer.body:
            return answer


async def statuses(running: Service, workers: int, kid: str) -> list[int]:
    """How each worker answers; 0 is allowed."""
    return [(await check(running, worker, kid)).http_status for worker in range(workers)]


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"no {what}"
        await asyncio.sleep(POLL_SECONDS)


def total(page: str, name: str, **labels: str) -> float:
    """The sum of all samples of this name that have these labels."""
    samples = (sample for family in text_string_to_metric_families(page) for sample in family.samples)
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


async def worker_status(running: Service, worker: int) -> dict[str, Any]:
    status: dict[str, Any] = (await running.status())["workers"][worker]
    return status


@asynccontextmanager
async def serving(workers: int, closed: str = "", **environ: str) -> AsyncIterator[tuple[Issuer, Service]]:
    """So many workers that have the key ``a`` of an issuer that is up."""
    async with issuer(jwks(signing_key("a"))) as auth_api:
        settings = {"AUTH_API_JWKS_URL": auth_api.url, "AUTHZ_TRANSPORT": "native", **environ}
        async with service(settings, arguments=["--workers", str(workers)], closed=closed) as running:
            await running.until_ready()
            yield auth_api, running


async def test_each_worker_answers_at_its_endpoint_and_the_issuer_is_asked_as_by_one_process() -> None:
    async with serving(3) as (auth_api, running):
        assert await statuses(running, 3, "a") == [0, 0, 0]
        assert len(auth_api.requests) == 1
        forged = [check(running, number % 3, f"a-{number % 5}-forged") for number in range(30)]
        assert {answer.http_status for answer in await asyncio.gather(*forged)} == {401}
        await auth_api.until_requests(2)
        assert len(auth_api.requests) == 2, "one for the start, one for all unknown key ids together"
        page = await running.metrics()
        assert total(page, "authz_decisions_total", decision="allow") == 3
        assert total(page, "authz_decisions_total", reason="key_not_found") == 30
        assert total(page, "jwks_refresh_total") == 2
        assert total(page, "jwks_keys") == 1
        assert total(page, "authz_way_info", way="local") == 1
        status = await running.status()
        assert [worker["up"] for worker in status["workers"]] == [True] * 3
        assert len({worker["pid"] for worker in status["workers"]}) == 3
        assert status["keys"]["keys"][0]["last_used"] is not None
        assert (status["decisions"]["allowed"], status["decisions"]["denied"]) == (3, 30)
        assert {denial["reason"] for denial in status["last_denials"]} == {"key_not_found"}
        assert len(status["last_denials"]) == 3 * 5, "of each worker some"


async def test_no_process_that_decides_interrupts_another() -> None:
    async with serving(2) as (_, running):
        workers = [(await worker_status(running, worker))["pid"] for worker in range(2)]
        assert [os.sched_getscheduler(pid) for pid in workers] == [os.SCHED_BATCH] * 2


async def test_a_new_key_is_known_to_all_after_one_fetch_and_a_withdrawn_one_to_nobody() -> None:
    async with serving(2) as (auth_api, running):
        assert await statuses(running, 2, "a") == [0, 0]
        auth_api.document = jwks(signing_key("b"))

        async def known() -> bool:
            return await statuses(running, 2, "b") == [0, 0]

        await until(known, "new key in all workers")
        assert await statuses(running, 2, "a") == [401, 401], "also where nobody had asked"
        assert len(auth_api.requests) == 2


async def test_a_killed_worker_comes_back_whatever_has_become_of_issuer_and_policy_file() -> None:
    async with serving(2) as (auth_api, running):
        assert await statuses(running, 2, "a") == [0, 0]
        assert total(await running.metrics(), "authz_decisions_total", reason="allowed") == 2
        await auth_api.stop()
        running.policy_path.write_text("oops", encoding="utf-8")
        await running.until_logged("policy not reloaded")
        running.send(signal.SIGHUP)
        await running.until_logged("policy still not usable")
        os.kill((await worker_status(running, 0))["pid"], signal.SIGKILL)

        answered = 2

        async def back() -> bool:
            nonlocal answered
            assert (await check(running, 1)).allowed, "the other one answers all the time"
            answered += 1
            worker = await worker_status(running, 0)
            return bool(worker["up"] and worker["restarts"] == 1)

        await until(back, "new worker")
        assert (await check(running, 0)).allowed
        after = await running.metrics()
        assert total(after, "authz_decisions_total", reason="allowed") == answered + 1, "with those of the killed one"
        assert total(after, "authz_worker_restarts_total") == 1
        assert total(after, "authz_policy_reloads_total", result="failure") == 1


async def test_what_a_killed_worker_denied_is_told_beside_what_the_next_one_denies() -> None:
    async def reasons() -> list[str]:
        return [denial["reason"] for denial in (await running.status())["last_denials"]]

    async with serving(2) as (_, running):
        assert (await check(running, 0, "unknown")).http_status == 401
        assert await reasons() == ["key_not_found"]
        os.kill((await worker_status(running, 0))["pid"], signal.SIGKILL)

        async def back() -> bool:
            worker = await worker_status(running, 0)
            return bool(worker["up"] and worker["restarts"] == 1)

        await until(back, "new worker")
        await ask(endpoint(running, 0), CHECK, check_request(path="/api/chat/groups"))
        assert await reasons() == ["token_missing", "key_not_found"]


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
async def test_workers_serve_and_end_well_where_a_standard_stream_is_closed(closed: str) -> None:
    async with serving(2, closed) as (_, running):
        assert await statuses(running, 2, "a") == [0, 0]
        assert await running.stop() == 0


async def test_sigterm_drains_all_workers_and_sighup_refreshes_once_for_all() -> None:
    async with serving(2, AUTHZ_TRANSPORT="grpcio") as (auth_api, running):
        running.policy_path.write_text("version: 1\nrules: []\n", encoding="utf-8")
        running.send(signal.SIGHUP)
        await auth_api.until_requests(2)
        await running.until_logged("policy reloaded")

        async def followed() -> bool:
            return await statuses(running, 2, "a") == [403, 403]

        await until(followed, "new policy in all workers")
        assert 'authz_policy_reloads_total{result="success"} 1.0' in await running.metrics()
        running.send(signal.SIGTERM)
        await until(lambda: _all_draining(running), "drain of all workers")
        assert await statuses(running, 2, "a") == [403, 403], "still answered"
        assert await running.stop() == 0
        assert not [path for path in Path(running.address.path).parent.iterdir() if path.is_socket()]
        assert len(auth_api.requests) == 2


async def _all_draining(running: Service) -> bool:
    answers = [await ask(endpoint(running, worker), HEALTH, b"") for worker in range(2)]
    return {health_pb2.HealthCheckResponse.FromString(answer).status for answer in answers} == {
        health_pb2.HealthCheckResponse.NOT_SERVING
    }


async def test_workers_do_not_outlive_their_supervisor() -> None:
    async with serving(2) as (_, running):
        await running.stop(signal.SIGKILL)

        async def nobody_listens() -> bool:
            return all(not listens(endpoint(running, worker)) for worker in range(2))

        await until(nobody_listens, "end of the workers")
        await running.start()
        await running.until_ready()
        assert await statuses(running, 2, "a") == [0, 0]


def listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def test_what_no_worker_can_do_is_said_once(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(GOOD_POLICY, encoding="utf-8")
    listen = f"unix://{tmp_path}/good.sock,unix:///nonexistent/authz.sock"
    settings = {"AUTHZ_LISTEN": listen, "AUTHZ_ADMIN_LISTEN": "127.0.0.1:0"}
    result = run("serve", "--workers", "2", policy=policy, **settings)
    assert result.returncode == 2
    assert "authz-service: 1 mistake in the configuration:" in result.stderr
    assert result.stderr.count("AUTHZ_LISTEN: cannot listen on unix:///nonexistent/authz.sock") == 1
    assert "Traceback" not in result.stderr
    assert "a worker cannot start: ending 2 workers" in result.stderr
    assert "SIGINT" not in result.stderr, "nobody sent one"
