"""The whole path as users have it: Envoy with ``envoy/envoy.yaml``, the service, the issuer and chat-api."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiohttp import ClientSession

from demo.auth_api import Issuer, auth_api
from demo.chat_api import ChatApi
from demo.envoy_bootstrap import Bootstrap, load, with_endpoints
from tests.support.envoy import RunningEnvoy, run_envoy
from tests.support.service import Service, service
from tests.support.web import serve_app

POLICY = """
version: 1
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: list-groups, match: {path: /api/chat/groups, methods: [GET]}, require: {permission: "groups:read"}}
  - name: create-group
    match: {path: /api/chat/groups, methods: [POST]}
    require: {permission: "groups:write"}
    cors_preflight: true
  - name: get-group
    match: {path: "/api/chat/groups/{group_id}", methods: [GET]}
    require: {permission: "groups:archive"}
    mode: shadow
"""


class Reply(NamedTuple):
    """What a client of Envoy gets."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Gateway(NamedTuple):
    """All parts, running."""

    envoy: RunningEnvoy
    authz: Service
    issuer: Issuer
    chat_api: ChatApi

    async def get(
        self, path: str = "/api/chat/groups", *headers: tuple[str, str], token: str | None = None, method: str = "GET"
    ) -> Reply:
        """One request through Envoy on a connection of its own."""
        sent = [*headers, ("Authorization", f"Bearer {token}")] if token else headers
        async with (
            ClientSession() as session,
            session.request(method, self.envoy.url + path, headers=list(sent), allow_redirects=False) as response,
        ):
            is_json = response.content_type == "application/json"
            body = await response.json() if is_json else await response.text()
            return Reply(response.status, response.headers, body)

    @property
    def host(self) -> str:
        """Where Envoy listens, as ``host:port``."""
        return urlsplit(self.envoy.url).netloc


@asynccontextmanager
async def gateway(
    environ: Mapping[str, str] | None = None, policy: str = POLICY, *, health: str = "SERVING",
    amend: Callable[[Bootstrap], Bootstrap] = lambda bootstrap: bootstrap,
) -> AsyncIterator[Gateway]:
    """Everything up; unless ``health`` says otherwise, a valid token would pass.

    :param amend: what is to be otherwise in Envoy's configuration.
    """
    issuer, chat_api = Issuer("http://issuer.test"), ChatApi()
    async with serve_app(auth_api(issuer)) as auth_url, serve_app(chat_api.app()) as chat_url:
        settings = {"AUTH_API_ISSUER": issuer.url, "AUTH_API_JWKS_URL": f"{auth_url}/.well-known/jwks.json"}
        async with service(settings | dict(environ or {}), policy) as authz:
            if health == "SERVING":
                await authz.until_logged("health: SERVING")
            bootstrap = with_endpoints(
                load(), listener_port=0, authz=[authz.address], chat_api_port=urlsplit(chat_url).port or 0, admin_port=0
            )
            async with run_envoy(amend(bootstrap)) as envoy:
                yield Gateway(envoy, authz, issuer, chat_api)
