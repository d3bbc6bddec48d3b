"""The service on real sockets: Check over gRPC, health, readiness, reload, drain."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2

from demo.auth_api import Issuer, auth_api
from tests.support.check_requests import Answer, check_request, read_answer
from tests.support.service import Service, service
from tests.support.web import serve_app

CHECK = "/envoy.service.auth.v3.Authorization/Check"
SERVICE = "envoy.service.auth.v3.Authorization"


@pytest.fixture(params=["native", "grpcio"])
def transport(request: pytest.FixtureRequest) -> str:
    """Which server Envoy reaches; nothing below depends on it."""
    return str(request.param)


async def check(
    running: Service, path: str = "/api/chat/groups", token: str | None = None, method: str = "GET"
) -> Answer:
    headers = [("authorization", f"Bearer {token}")] if token else []
    message = check_request(method=method, path=path, headers=headers)
    async with grpc.aio.insecure_channel(f"unix:{running.address.path}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
        return read_answer(await call(message, wait_for_ready=True))


async def health(running: Service, name: str = SERVICE) -> int:
    async with grpc.aio.insecure_channel(f"unix:{running.address.path}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        question = health_pb2.HealthCheckRequest(service=name)
        return int(health_pb2.HealthCheckResponse.FromString(await call(question.SerializeToString())).status)


@asynccontextmanager
async def issuing(transport: str, **environ: str) -> AsyncIterator[tuple[Issuer, Service]]:
    """A service whose issuer is up."""
    issuer = Issuer("http://issuer.test")
    async with serve_app(auth_api(issuer)) as url:
        settings = {
            "AUTHZ_TRANSPORT": transport, "AUTH_API_ISSUER": issuer.url,
            "AUTH_API_JWKS_URL": f"{url}/.well-known/jwks.json",
        }  # fmt: skip
        async with service(settings | environ) as running:
            await running.until_ready()
            yield issuer, running


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
async def test_it_serves_and_ends_well_where_a_standard_stream_is_closed(
    transport: str, closed: str
) -> None:
    async with service({"AUTHZ_TRANSPORT": transport}, closed=closed) as running:
        assert (await check(running, "/healthz")).allowed
        assert await running.stop() == 0


async def test_a_valid_token_is_allowed_and_an_expired_one_is_not(transport: str) -> None:
    async with issuing(transport) as (issuer, running):
        allowed = await check(running, token=issuer.mint("full"))
        assert allowed.allowed
        assert ("x-auth-sub", "user-1") in allowed.headers
        denied = await check(running, token=issuer.mint("expired"))
        assert (denied.http_status, json.loads(denied.body)["error"]) == (401, "token_expired")


async def test_status_says_why_a_request_was_denied(transport: str) -> None:
    async with issuing(transport) as (issuer, running):
        await check(running, token=issuer.mint("full"))
        await check(running, token=issuer.mint("limited"))
        status = await running.status()
        (denial,) = status["last_denials"]
        assert (denial["reason"], denial["rule"]) == ("permission_denied", "list-groups")
        assert (denial["method"], denial["path"]) == ("GET", "/api/chat/groups")
        rules = {rule["name"]: (rule["allowed"], rule["denied"]) for rule in status["policy"]["rules"]}
        assert rules == {"health": (0, 0), "list-groups": (1, 1)}
        assert sum(count for _, count in status["latency"]["buckets"]) == 2


async def test_a_token_of_a_new_key_is_allowed_at_once(transport: str) -> None:
    async with issuing(transport) as (issuer, running):
        issuer.rotate()
        assert (await check(running, token=issuer.mint("full"))).allowed
        assert "jwks_refresh_total 2.0" in await running.metrics()


async def test_without_keys_the_port_is_open_public_routes_work_and_the_rest_is_503(transport: str) -> None:
    issuer = Issuer("http://issuer.test")
    settings = {"AUTHZ_TRANSPORT": transport, "AUTH_API_ISSUER": issuer.url}
    async with service({**settings, "AUTH_API_JWKS_URL": "http://127.0.0.1:9/"}) as running:
        token = issuer.mint("full")
        assert (await check(running, "/healthz")).allowed
        denied = await check(running, token=token)
        assert (denied.http_status, json.loads(denied.body)["error"]) == (503, "keys_unavailable")
        assert "retry-after" in dict(denied.headers)
        assert await health(running) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await running.status())["ready"] is False


async def test_health_serves_once_there_are_keys(transport: str) -> None:
    async with issuing(transport) as (_, running):
        await running.until_logged("health: SERVING")
        for name in ("", SERVICE):
            assert await health(running, name) == health_pb2.HealthCheckResponse.SERVING


async def test_a_changed_policy_takes_over_and_a_bad_one_does_not(transport: str) -> None:
    async with issuing(transport) as (issuer, running):
        token = issuer.mint("full")
        running.policy_path.write_text("version: 1\nrules: oops\n", encoding="utf-8")
        await running.until_logged("policy not reloaded, the old one serves on")
        assert (await check(running, token=token)).allowed
        running.policy_path.write_text("version: 1\nrules: []\n", encoding="utf-8")
        await running.until_logged("policy reloaded")
        assert (await check(running, token=token)).http_status == 403
        metrics = await running.metrics()
        assert 'authz_policy_reloads_total{result="success"} 1.0' in metrics
        assert 'authz_policy_reloads_total{result="failure"} 1.0' in metrics


async def test_refused_tokens_are_told_to_the_log_by_reason_and_number(transport: str) -> None:
    async with issuing(transport) as (issuer, running):
        expired = issuer.mint("expired")
        for _ in range(3):
            assert (await check(running, token=expired)).http_status == 401
        await running.until_logged("Token validation failed: token_expired")
        assert expired not in running.raw_log()


async def test_the_process_interrupts_no_other(transport: str) -> None:
    async with issuing(transport) as (_, running):
        assert os.sched_getscheduler(running.pid) == os.SCHED_BATCH


async def test_sighup_refreshes_the_keys_now(transport: str) -> None:
    async with issuing(transport) as (issuer, running):
        await running.until_logged("health: SERVING")
        new = issuer.rotate()
        running.send(signal.SIGHUP)
        await running.until_logged("JWKS refreshed: 2 usable keys")
        assert new.kid in {key["kid"] for key in (await running.status())["keys"]["keys"]}


async def test_sighup_says_what_became_of_the_policy(transport: str) -> None:
    async with issuing(transport) as (_, running):
        running.send(signal.SIGHUP)
        await running.until_logged("policy unchanged")


async def test_sigterm_finishes_what_is_under_way_and_says_goodbye_first(transport: str) -> None:
    async with issuing(transport) as (issuer, running):
        await running.until_logged("health: SERVING")
        running.send(signal.SIGTERM)
        await running.until_logged("draining")
        assert await health(running) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await check(running, token=issuer.mint("full"))).allowed
        assert await running.stop() == 0


async def test_sigint_ends_at_once(transport: str) -> None:
    async with issuing(transport) as (_, running):
        assert await running.stop(signal.SIGINT) == 0


async def test_killed_and_started_again_it_listens_at_the_same_socket(transport: str) -> None:
    async with issuing(transport) as (issuer, running):
        await running.stop(signal.SIGKILL)
        await running.start()
        await running.until_ready()
        assert (await check(running, token=issuer.mint("full"))).allowed


async def test_no_log_line_holds_a_token_at_any_level(transport: str) -> None:
    async with issuing(transport, AUTHZ_LOG_LEVEL="debug") as (issuer, running):
        tokens = [issuer.mint("full"), issuer.mint("expired"), issuer.next_key.sign(issuer.claims("full"))]
        await asyncio.gather(*(check(running, token=token) for token in tokens))
        await check(running, path=f"/x?access_token={tokens[0]}")
        await running.stop()
        for token in tokens:
            for part in token.split("."):
                assert part not in running.raw_log()


