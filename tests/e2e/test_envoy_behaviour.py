"""What a real Envoy does with ``envoy/envoy.yaml``, between a chat-api that records and an authorizer that allows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from copy import deepcopy
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import grpc
import pytest
from aiohttp import web

from authz_service.address import Address
from authz_service.transport.check_fields import read_fields
from demo.envoy_bootstrap import Bootstrap, load, with_endpoints
from tests.support.envoy import RunningEnvoy, run_envoy
from tests.support.envoy_types import envoy_type
from tests.support.ports import free_port
from tests.support.wire import exchange

ALLOW = b""
"""An empty ``CheckResponse``: Envoy takes its status code 0 for yes."""


class Recorder:
    """A chat-api that remembers the requests that reach it."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.requests.append(request)
        return web.Response(text="reached")

    @property
    def last(self) -> web.BaseRequest:
        return self.requests[-1]


class Allowing:
    """An authorizer that says yes and remembers what it was asked."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.metadata: dict[str, str | bytes] = {}
        """Of the last question: gRPC's, not the request's."""

    async def check(self, message: bytes, context: Any) -> bytes:
        self.messages.append(message)
        self.metadata = dict(context.invocation_metadata())
        return ALLOW

    @property
    def last(self) -> Any:
        """``AttributeContext.HttpRequest`` of the last question, read by envoy-data-plane."""
        check_request = envoy_type("envoy.service.auth.v3.CheckRequest").parse(self.messages[-1])
        return check_request.attributes.request.http


class Setting(NamedTuple):
    """One Envoy with what is around it."""

    envoy: RunningEnvoy
    chat_api: Recorder
    authz: Allowing

    async def send(self, target: str, *header_lines: str, method: str = "GET") -> int:
        """One request, byte for byte; the status of the answer."""
        parts = urlsplit(self.envoy.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close", *header_lines, "", ""]
            writer.write("\r\n".join(lines).encode())
            status_line = await reader.readline()
        finally:
            writer.close()
            await writer.wait_closed()
        return int(status_line.split()[1])

    async def switch(self, **settings: str) -> None:
        """Turn runtime settings under ``authz.``."""
        query = "&".join(f"authz.{key}={value}" for key, value in settings.items())
        await asyncio.to_thread(self.envoy.admin, f"/runtime_modify?{query}", "POST")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as exits:
        yield exits


@pytest.fixture
async def setting(stack: AsyncExitStack) -> Setting:
    authz = Allowing()
    return await _setting(stack, load(), authz, [await _serve_authz(stack, authz)])


@pytest.fixture
async def setting_without_authz(stack: AsyncExitStack) -> Setting:
    return await _setting(stack, load(), Allowing(), [_nobody()])


async def _setting(stack: AsyncExitStack, bootstrap: Bootstrap, authz: Allowing, addresses: list[Address]) -> Setting:
    chat_api = Recorder()
    runner = web.ServerRunner(web.Server(chat_api.answer), shutdown_timeout=0.5)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    bootstrap = with_endpoints(bootstrap, listener_port=0, authz=addresses, chat_api_port=port, admin_port=0)
    return Setting(await stack.enter_async_context(run_envoy(bootstrap)), chat_api, authz)


async def _serve_authz(stack: AsyncExitStack, authz: Allowing) -> Address:
    server = grpc.aio.server()
    check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(authz.check)
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": check}),
    ))  # fmt: skip
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, 0)
    return Address("127.0.0.1", port)


async def _silence(stack: AsyncExitStack) -> Address:
    """Takes what it is asked, and says nothing."""

    class Silent(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            stream = cast("asyncio.Transport", transport)  # of uvloop's own class
            stack.callback(stream.abort)
            stream.write(b"\0\0\0\4\0\0\0\0\0")  # SETTINGS, so that HTTP/2 begins

    server = await asyncio.get_running_loop().create_server(Silent, "127.0.0.1", 0)
    stack.callback(server.close)
    return Address("127.0.0.1", server.sockets[0].getsockname()[1])


def _nobody() -> Address:
    return Address("127.0.0.1", free_port())


# Failing closed.


async def test_an_allowed_request_reaches_chat_api(setting: Setting) -> None:
    assert await setting.send("/api/chat/groups") == 200
    assert len(setting.chat_api.requests) == 1


async def test_without_authz_service_nothing_reaches_chat_api(setting_without_authz: Setting) -> None:
    assert await setting_without_authz.send("/api/chat/groups") == 503
    assert setting_without_authz.chat_api.requests == []


async def test_a_dead_endpoint_costs_no_request_even_before_health_checks_notice(stack: AsyncExitStack) -> None:
    bootstrap = deepcopy(load())
    cluster = next(each for each in bootstrap["static_resources"]["clusters"] if each["name"] == "authz")
    del cluster["health_checks"], cluster["outlier_detection"]  # retries alone must do
    authz = Allowing()
    setting = await _setting(stack, bootstrap, authz, [_nobody(), await _serve_authz(stack, authz)])

    statuses = [await setting.send("/") for _ in range(20)]

    assert statuses == [200] * 20
    assert setting.envoy.stats("cluster.authz.upstream_rq_retry") > 0


async def test_an_endpoint_that_hangs_costs_one_try_and_no_request(stack: AsyncExitStack) -> None:
    bootstrap = deepcopy(load())
    cluster = next(each for each in bootstrap["static_resources"]["clusters"] if each["name"] == "authz")
    del cluster["health_checks"], cluster["outlier_detection"]  # the time for one try alone must do
    (listener,) = bootstrap["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"][0]["typed_config"]["grpc_service"]["timeout"] = "10s"  # this machine may be busy
    authz = Allowing()
    setting = await _setting(stack, bootstrap, authz, [await _silence(stack), await _serve_authz(stack, authz)])

    statuses = await asyncio.gather(*(setting.send("/") for _ in range(4)))

    assert statuses == [200] * 4
    assert setting.envoy.stats("cluster.authz.upstream_rq_per_try_timeout") > 0
    assert setting.envoy.stats("cluster.authz.upstream_rq_timeout") == 0


async def test_authz_service_is_not_told_how_long_it_may_take_for_one_try(setting: Setting) -> None:
    await setting.send("/")

    assert "x-envoy-upstream-rq-per-try-timeout-ms" not in setting.authz.metadata


# The rollback switch.


async def test_the_switch_alone_closes_the_door(setting: Setting) -> None:
    await setting.switch(enabled="0")

    assert await setting.send("/api/chat/groups") == 503
    assert (setting.chat_api.requests, setting.authz.messages) == ([], [])


async def test_both_keys_of_the_switch_leave_the_decision_to_chat_api(setting: Setting) -> None:
    await setting.switch(enabled="0", deny_at_disable="false")

    assert await setting.send("/api/chat/groups", "Authorization: Bearer a.b.c") == 200
    assert setting.chat_api.last.headers["Authorization"] == "Bearer a.b.c"
    assert setting.authz.messages == []


@pytest.mark.parametrize("lines", [
    ["x-auth-sub: admin"],
    ["X-Auth-Sub: admin"],
    ["x-auth-roles: admin", "X-AUTH-ROLES: admin"],
    ["x-auth-contract: 1"],
    ["Connection: x-auth-sub", "x-auth-sub: admin"],
], ids=["lower case", "mixed case", "twice", "contract", "named in Connection"])  # fmt: skip
async def test_no_client_speaks_identity_even_with_the_filter_switched_off(setting: Setting, lines: list[str]) -> None:
    await setting.switch(enabled="0", deny_at_disable="false")

    assert await setting.send("/healthz", *lines) == 200
    assert [name for name in setting.chat_api.last.headers if name.lower().startswith("x-auth")] == []


# One reading of each request.


@pytest.mark.parametrize(("target", "line"), [
    ("/a%2Fb", "Accept: */*"), ("/a%2fb", "Accept: */*"), ("/a%5Cb", "Accept: */*"),
    ("/", "x_auth_sub: admin"), ("/", "X-Auth_Sub: admin"), ("/", "some_header: 1"),
])  # fmt: skip
async def test_what_two_readers_could_read_differently_is_refused(setting: Setting, target: str, line: str) -> None:
    assert await setting.send(target, line) == 400
    assert (setting.chat_api.requests, setting.authz.messages) == ([], [])


@pytest.mark.parametrize(("target", "forwarded"), [
    ("/a/../b", "/b"), ("//a///b", "/a/b"), ("/a/./b", "/a/b"), ("/a\\..\\b", "/b"), ("/%61?q=/../x", "/a?q=/../x"),
])  # fmt: skip
async def test_chat_api_gets_the_path_that_was_authorized(setting: Setting, target: str, forwarded: str) -> None:
    assert await setting.send(target) == 200
    assert setting.chat_api.last.raw_path == setting.authz.last.path == forwarded


async def test_chat_api_gets_the_host_that_was_authorized(setting: Setting) -> None:
    assert await setting.send("http://chat.example.com./x", "X-Forwarded-Host: other", "Forwarded: host=other") == 200
    assert setting.chat_api.last.headers["Host"] == setting.authz.last.host == "chat.example.com"
    assert {"X-Forwarded-Host", "Forwarded"}.isdisjoint(setting.chat_api.last.headers)


@pytest.mark.parametrize("name", [
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL",
])  # fmt: skip
async def test_no_header_changes_method_or_path_behind_the_authorization(setting: Setting, name: str) -> None:
    assert await setting.send("/", f"{name}: DELETE") == 200
    assert name not in setting.chat_api.last.headers


@pytest.mark.parametrize("header", ["x-envoy-upstream-rq-timeout-ms", "x-envoy-retry-on", "x-envoy-original-path"])
async def test_no_client_on_loopback_passes_for_internal(setting: Setting, header: str) -> None:
    await setting.send("/", f"{header}: 1")

    assert header not in setting.chat_api.last.headers


async def test_a_client_cannot_choose_the_request_id(setting: Setting) -> None:
    await setting.send("/", "x-request-id: chosen")

    assert setting.chat_api.last.headers["x-request-id"] == setting.authz.last.headers["x-request-id"] != "chosen"


# What is told to whom.


async def test_authz_service_is_told_only_what_it_needs(setting: Setting) -> None:
    lines = ["Authorization: Bearer a.b.c", "Origin: https://chat.example.com", "Cookie: session=1", "User-Agent: test"]

    await setting.send("/", *lines)

    assert setting.authz.last.headers.keys() == {"authorization", "origin", "x-request-id"}


@pytest.mark.parametrize("head", ["GET /a?b=c HTTP/1.1", "POST /a HTTP/1.1\r\nContent-Length: 2"])
async def test_what_envoy_asks_is_read_in_one_pass(setting: Setting, head: str) -> None:
    lines = [head, "Host: chat.example.com", "Authorization: Bearer a.b.c", "Origin: https://a.example", "Accept: */*"]
    body = "{}" if head.startswith("POST") else ""
    await exchange(setting.envoy.url, "\r\n".join([*lines, "Connection: close", "", body]).encode())

    _, method, path, host, headers = read_fields(setting.authz.messages[-1])

    assert (method, path, host) == (*head.split()[:2], "chat.example.com")
    assert {"authorization": "Bearer a.b.c", "origin": "https://a.example"}.items() <= dict(headers).items()


async def test_the_access_log_shows_neither_token_nor_query(setting: Setting) -> None:
    await setting.send("/a/b?access_token=in-query", "Authorization: Bearer in-header", "Cookie: in-cookie")

    (entry,) = await asyncio.to_thread(setting.envoy.access_log, 1)
    assert (entry["method"], entry["path"], entry["status"], entry["flags"]) == ("GET", "/a/b", 200, "-")
    assert "in-" not in str(entry)


@pytest.mark.parametrize("page", ["/config_dump", "/quitquitquit", "/tap", "/logging"])
async def test_the_admin_port_refuses(setting: Setting, page: str) -> None:
    with pytest.raises(AssertionError, match="answered 403"):
        await asyncio.to_thread(setting.envoy.admin, page, "POST")
