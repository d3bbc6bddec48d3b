"""A pod of the ``sidecar`` overlay goes while its clients go on, in the order of ``docs/deploy.md``."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import ClientSession

from demo.auth_api import Issuer, auth_api
from demo.chat_api import ChatApi
from demo.envoy_bootstrap import load, with_endpoints
from tests.support.deployed_envoy import pre_stop
from tests.support.envoy import RunningEnvoy, run_envoy
from tests.support.gateway import POLICY
from tests.support.service import Service, service
from tests.support.web import serve_app

CLIENTS = 8
ENOUGH = 100
"""Requests, to say that things are under way."""


class Pod(NamedTuple):
    """What runs in one pod."""

    envoy: RunningEnvoy
    authz: Service
    chat_api: ChatApi
    end_chat_api: Callable[[], Awaitable[None]]


@asynccontextmanager
async def pod(settings: dict[str, str]) -> AsyncIterator[Pod]:
    chat_api = ChatApi()
    async with service(settings, POLICY) as authz, AsyncExitStack() as running:
        await authz.until_logged("health: SERVING")
        chat_port = urlsplit(await running.enter_async_context(serve_app(chat_api.app()))).port or 0
        bootstrap = with_endpoints(
            load(), listener_port=0, authz=[authz.address], chat_api_port=chat_port, admin_port=0
        )
        async with run_envoy(bootstrap) as envoy:
            yield Pod(envoy, authz, chat_api, running.aclose)


class Clients:
    """Requests without a break, over connections that are kept until Envoy bids farewell.

    :param endpoints: where new connections may go, in turn; a Service, as the cluster knows it at the moment.
    """

    def __init__(self, endpoints: list[str], token: str) -> None:
        self.statuses: list[int] = []
        self.connected: list[str] = [""] * CLIENTS
        """Where each client is."""
        self._endpoints = endpoints
        self._token = token
        self._going_on = True

    async def run(self) -> None:
        """Until told to stop; raises what a client would see of a connection that breaks."""
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._client(number))

    def stop(self) -> None:
        """After the requests under way."""
        self._going_on = False

    async def _client(self, number: int) -> None:
        headers = {"Authorization": f"Bearer {self._token}"}
        while self._going_on:
            url = self.connected[number] = self._endpoints[number % len(self._endpoints)]
            async with ClientSession(headers=headers) as session:
                while self._going_on and await self._request(session, url):
                    pass

    async def _request(self, session: ClientSession, url: str) -> bool:
        """A POST, which no client sends again by itself; :returns: whether the connection is kept."""
        async with session.post(f"{url}/api/chat/groups") as response:
            self.statuses.append(response.status)
            return response.headers.get("Connection") != "close"


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
        await asyncio.sleep(0.01)


async def test_a_pod_goes_and_no_request_is_lost() -> None:
    issuer = Issuer("http://issuer.test")
    async with AsyncExitStack() as cluster:
        auth_url = await cluster.enter_async_context(serve_app(auth_api(issuer)))
        settings = {"AUTH_API_ISSUER": issuer.url, "AUTH_API_JWKS_URL": f"{auth_url}/.well-known/jwks.json"}
        old, new = [await cluster.enter_async_context(pod(settings)) for _ in range(2)]
        endpoints = [old.envoy.url, new.envoy.url]
        clients = Clients(endpoints, issuer.mint("full"))
        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            tasks.create_task(clients.run())
            await until(lambda: min(old.chat_api.calls, new.chat_api.calls) > ENOUGH)
            await pre_stop("sidecar", old.envoy)
            under_farewell = len(clients.statuses)
            await until(lambda: len(clients.statuses) > under_farewell + ENOUGH)  # not everybody has heard yet
            endpoints.remove(old.envoy.url)
            await until(lambda: old.envoy.url not in clients.connected)
            await old.end_chat_api()
            await asyncio.to_thread(old.envoy.stop)
            assert await old.authz.stop(signal.SIGTERM) == 0
            after_the_end = len(clients.statuses)
            await until(lambda: len(clients.statuses) > after_the_end + ENOUGH)
            clients.stop()

    assert set(clients.statuses) == {200}
    assert old.chat_api.calls + new.chat_api.calls == len(clients.statuses)
