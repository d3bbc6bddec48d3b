"""``USE_OAUTH2_AUTH=false`` as a process: each request with a token asks the Auth-API, and nothing else is needed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from authz_service.migration.logged import read_line
from tests.support.check_requests import Answer, check_request, read_answer
from tests.support.permissions_api import PermissionsApi
from tests.support.service import Service, service
from tests.support.tokens import claims
from tests.support.web import serve_app

CHECK = "/envoy.service.auth.v3.Authorization/Check"
HS256_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJl"


class Stage(NamedTuple):
    api: PermissionsApi
    authz: Service

    async def check(self, token: str | None, path: str = "/api/chat/groups", listen: str = "") -> Answer:
        headers = [("authorization", f"Bearer {token}")] if token else []
        async with grpc.aio.insecure_channel(listen or f"unix:{self.authz.address.path}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
            return read_answer(await call(check_request(path=path, headers=headers), wait_for_ready=True))

    @property
    def asked(self) -> int:
        return self.api.requests["/api/auth/permissions"]


@asynccontextmanager
async def old_way(*arguments: str, **environ: str) -> AsyncIterator[Stage]:
    api = PermissionsApi({HS256_TOKEN: claims()})
    async with serve_app(api.app()) as url:
        settings = {"AUTH_API_ISSUER": url, "USE_OAUTH2_AUTH": "false", "AUTH_API_TIMEOUT_SECONDS": "20"}
        async with service(settings | environ, arguments=arguments) as running:
            yield Stage(api, running)


@pytest.mark.parametrize("transport", ["native", "grpcio"])
async def test_each_request_asks_about_its_token_and_no_key_is_fetched(transport: str) -> None:
    async with old_way(AUTHZ_TRANSPORT=transport) as stage:
        await stage.authz.until_ready()
        assert [(await stage.check(HS256_TOKEN)).allowed for _ in range(3)] == [True] * 3
        assert (await stage.check("unknown")).http_status == 401
        assert (await stage.check(None)).metadata["reason"] == "token_missing"
        assert (await stage.check(None, "/healthz")).allowed
        assert stage.api.requests == {"/api/auth/permissions": 4}
        metrics = await stage.authz.metrics()
        assert 'authz_auth_api_requests_total{result="accepted"} 3.0' in metrics
        assert 'authz_auth_api_requests_total{result="refused"} 1.0' in metrics
        assert "authz_auth_api_request_duration_seconds_count 4.0" in metrics
        assert "oauth2_token_validation_duration_seconds_count 4.0" in metrics
        assert 'oauth2_token_validations_total{result="success"} 3.0' in metrics
        assert "jwks_issuer_ready" not in metrics, "an alert would go off about keys that nobody needs"
        assert 'authz_way_info{way="auth_api"} 1.0' in metrics
        assert (await stage.authz.status())["way"] == "auth_api"


async def test_an_outage_of_the_auth_api_is_503_for_those_who_need_it_and_the_port_stays_in_service() -> None:
    async with old_way() as stage:
        stage.api.status = 500
        answer = await stage.check(HS256_TOKEN)
        assert (answer.http_status, answer.metadata["reason"]) == (503, "auth_api_unavailable")
        assert (await stage.check(None, "/healthz")).allowed
        await stage.authz.until_ready()
        await stage.authz.until_logged("health: SERVING")
        stage.api.status = 0
        assert (await stage.check(HS256_TOKEN)).allowed
        await stage.authz.until_logged("The Auth-API answers again")
        assert HS256_TOKEN not in stage.authz.raw_log()


async def test_workers_compare_and_say_it_as_one(tmp_path: Path) -> None:
    """An HS256 token is as good as ever to the Auth-API, and nothing to who verifies here."""
    listen = f"unix://{tmp_path}/authz.sock"
    async with old_way("--workers", "2", AUTHZ_LISTEN=listen, AUTHZ_COMPARE_SAMPLE="1") as stage:
        for number in range(2):
            assert (await stage.check(HS256_TOKEN, listen=f"unix:{tmp_path}/authz-{number}.sock")).allowed

        async def rule() -> dict[str, Any]:
            (only,) = (await stage.authz.status())["comparison"]["rules"]
            return dict(only)

        while (found := await rule())["compared"] < 2:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
        assert found["summary"] == "2 compared, 0 looser, 2 stricter: algorithm_not_allowed"
        assert (found["rule"], found["ready"]) == ("list-groups", False)


async def test_each_disagreement_is_in_the_decision_log_with_both_reasons(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    async with old_way(AUTHZ_COMPARE_SAMPLE="1", AUTHZ_DECISION_LOG=str(path), AUTHZ_DECISION_LOG_SAMPLE="0") as stage:
        assert (await stage.check(HS256_TOKEN)).allowed
        await stage.authz.until(lambda: path.read_bytes().endswith(b"\n"), "line")
        (line,) = path.read_bytes().splitlines()
        assert HS256_TOKEN.encode() not in line
        logged = read_line(line)
        assert (logged.answer.rule, logged.answer.reason) == ("list-groups", "allowed")
        assert logged.other_reason == "algorithm_not_allowed"


async def test_workers_ask_as_one_process_does(tmp_path: Path) -> None:
    listen = f"unix://{tmp_path}/authz.sock"
    async with old_way("--workers", "2", AUTHZ_LISTEN=listen) as stage:
        for number in range(2):
            assert (await stage.check(HS256_TOKEN, listen=f"unix:{tmp_path}/authz-{number}.sock")).allowed
        assert stage.asked == 2
        await stage.authz.until_ready()
        metrics = await stage.authz.metrics()
        assert 'authz_auth_api_requests_total{result="accepted"} 2.0' in metrics
        assert 'authz_way_info{way="auth_api"} 1.0' in metrics, "of all workers together"
        assert (await stage.authz.status())["way"] == "auth_api"
