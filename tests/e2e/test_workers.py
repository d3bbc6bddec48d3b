"""A real Envoy with one endpoint for each worker: they share the load, and one that is killed is not missed."""

import asyncio
import os
import re
import signal
from urllib.parse import urlsplit

from aiohttp import ClientSession

from authz_service.address import Address
from demo.auth_api import Issuer, auth_api
from demo.chat_api import ChatApi
from demo.envoy_bootstrap import load, with_endpoints
from tests.integration.test_workers import endpoint, total, until, worker_status
from tests.support.envoy import run_envoy
from tests.support.gateway import POLICY
from tests.support.service import service
from tests.support.web import serve_app

REQUESTS = 60


async def test_requests_pass_while_a_worker_is_killed_and_both_have_had_their_share() -> None:
    issuer, chat_api = Issuer("http://issuer.test"), ChatApi()
    async with serve_app(auth_api(issuer)) as auth_url, serve_app(chat_api.app()) as chat_url:
        settings = {"AUTH_API_ISSUER": issuer.url, "AUTH_API_JWKS_URL": f"{auth_url}/.well-known/jwks.json"}
        async with service(settings, POLICY, ["--workers", "2"]) as running:
            await running.until_ready()
            addresses = [Address(path=endpoint(running, worker)) for worker in range(2)]
            bootstrap = with_endpoints(
                load(), listener_port=0, authz=addresses, chat_api_port=urlsplit(chat_url).port or 0, admin_port=0
            )
            async with run_envoy(bootstrap) as envoy, ClientSession() as session:
                headers = {"Authorization": f"Bearer {issuer.mint('full')}"}

                async def passes() -> bool:
                    async with session.get(f"{envoy.url}/api/chat/groups", headers=headers) as response:
                        return response.status == 200

                await until(passes, "first request that passes")
                assert all([await passes() for _ in range(REQUESTS)])
                clusters = await asyncio.to_thread(envoy.admin, "/clusters")
                asked = re.findall(r"^authz::.*::rq_total::(\d+)$", clusters, re.MULTILINE)
                assert [int(requests) > REQUESTS // 4 for requests in asked] == [True, True]
                allowed = total(await running.metrics(), "authz_decisions_total", reason="allowed")
                os.kill((await worker_status(running, 0))["pid"], signal.SIGKILL)
                assert all([await passes() for _ in range(REQUESTS)]), "the other one is asked"
                assert total(await running.metrics(), "authz_decisions_total", reason="allowed") >= allowed + REQUESTS

                async def back() -> bool:
                    return bool((await worker_status(running, 0))["up"])

                await until(back, "new worker")
                assert all([await passes() for _ in range(REQUESTS)])
