"""Nobody speaks for itself through a real Envoy: HTTP/1.1 and HTTP/2, with and without the guards of ``envoy.yaml``.

Without them the service alone keeps the promise; chat-api is a socket that keeps every byte.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import NamedTuple

import pytest
import pytest_asyncio

from authz_service.errors import Reason
from demo.auth_api import Issuer
from demo.showcase import identity_headers
from tests.support import http2_client, wire
from tests.support.edges import as_shipped, deciding, edges, no_header_guards, raw_headers, tells_nothing_of_identities
from tests.support.oracle import assert_denied_reply, assert_no_spoof, assert_refused_by_envoy, is_identity
from tests.support.spoofs import CONTRACT_NAMES, LIE, NAMES, dashed, folded
from tests.support.upstream import Upstream, upstream
from tests.support.wire import NoReply, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

POLICY = """
version: 1
rules:
  - {name: public, match: {path: /healthz, methods: [GET]}, public: true}
  - name: protected
    match: {path: /groups, methods: [GET, POST]}
    require: {authenticated: true}
    cors_preflight: true
  - {name: shadow, match: {path: /trial}, require: {permission: "trial:read"}, mode: shadow}
"""

EDGES = {
    "as shipped": (as_shipped,),
    "raw headers": (raw_headers,),
    "no header guards": (no_header_guards,),
    "no header guards, raw headers": (no_header_guards, raw_headers),
}
UNTOLD = {"untold": (no_header_guards, tells_nothing_of_identities)}

Headers = Iterable[tuple[str, str]]
Send = Callable[[str, str, str, Headers], Awaitable[Reply]]


async def over_http1(url: str, method: str, path: str, headers: Headers) -> Reply:
    return await wire.send(url, path, *(f"{name}: {value}" for name, value in headers), method=method)


async def over_http2(url: str, method: str, path: str, headers: Headers) -> Reply:
    """RFC 9113 section 8.2: names are in lower case."""
    return await http2_client.send(url, path, *((name.lower(), value) for name, value in headers), method=method)


PROTOCOLS = {"HTTP/1.1": over_http1, "HTTP/2": over_http2}


class Setting(NamedTuple):
    """All edges, before one service and one chat-api."""

    urls: dict[str, str]
    issuer: Issuer
    chat_api: Upstream
    routes: dict[str, tuple[str, str, Headers]]

    async def identity_seen(self, edge: str, send: Send, route: str, lies: Headers) -> Headers:
        """Send lies on a route that lets the request in; what chat-api is told of the caller."""
        method, path, truth = self.routes[route]
        reply = await send(self.urls[edge], method, path, [*truth, *lies])
        assert (reply.status, reply.text) == (200, "reached")
        return [(name, value) for name, value in self.chat_api.last.headers if is_identity(name)]


def routes(issuer: Issuer) -> dict[str, tuple[str, str, Headers]]:
    claims = issuer.claims("full")
    bare = {name: claims[name] for name in ("iss", "aud", "sub", "iat", "exp")}
    full, few = (("authorization", f"Bearer {issuer.key.sign(each)}") for each in (claims, bare))
    preflight = [("origin", "https://app.example.com"), ("access-control-request-method", "POST")]
    return {
        "protected": ("GET", "/groups", [full]),
        "protected, optional claims absent": ("GET", "/groups", [few]),
        "public": ("GET", "/healthz", []),
        "preflight": ("OPTIONS", "/groups", preflight),
        "shadow": ("GET", "/trial", []),
        "shadow, optional claims absent": ("GET", "/trial", [few]),
    }


ROUTES = tuple(routes(Issuer("http://issuer.test")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting(transport: str) -> AsyncIterator[Setting]:
    async with (
        upstream() as chat_api,
        deciding(POLICY, {"AUTHZ_TRANSPORT": transport}) as (issuer, authz),
        edges(authz.address, chat_api.port, *(EDGES | UNTOLD).values()) as running,
    ):
        urls = dict(zip(EDGES | UNTOLD, (envoy.url for envoy in running), strict=True))
        yield Setting(urls, issuer, chat_api, routes(issuer))


on_every_edge = pytest.mark.parametrize("edge", EDGES)
on_every_bare_edge = pytest.mark.parametrize("edge", [edge for edge in EDGES if "no header guards" in edge])
over_both_protocols = pytest.mark.parametrize("send", PROTOCOLS.values(), ids=PROTOCOLS)
on_every_route = pytest.mark.parametrize("route", ROUTES)


@pytest.mark.on_both_transports
@on_every_edge
@over_both_protocols
@on_every_route
async def test_no_identity_header_in_any_case_reaches_chat_api(
    setting: Setting, edge: str, send: Send, route: str
) -> None:
    injected = await setting.identity_seen(edge, send, route, [])
    for name in NAMES:
        once = [(spelling, LIE) for spelling in dashed(name)[: 4 if send is over_http1 else 1]]
        for lies in (once[:1], [*once, *once]):
            assert_no_spoof(await setting.identity_seen(edge, send, route, lies), injected)


@on_every_bare_edge
@over_both_protocols
@on_every_route
async def test_no_folded_identity_header_reaches_chat_api(setting: Setting, edge: str, send: Send, route: str) -> None:
    """What CGI and WSGI would read as ours."""
    injected = await setting.identity_seen(edge, send, route, [])
    for name in NAMES:
        once = [(spelling, LIE) for spelling in folded(name)]
        for lies in (once[:1], [*once, *once]):
            assert_no_spoof(await setting.identity_seen(edge, send, route, lies), injected)


@on_every_bare_edge
@over_both_protocols
async def test_one_spelling_at_a_time_does_not_reach_chat_api(setting: Setting, edge: str, send: Send) -> None:
    """Among many, one more could be lost by accident."""
    injected = await setting.identity_seen(edge, send, "public", [])
    for name in NAMES:
        for spelling in (*dashed(name), *folded(name)):
            assert_no_spoof(await setting.identity_seen(edge, send, "public", [(spelling, LIE)]), injected)


@over_both_protocols
@on_every_route
async def test_names_of_the_contract_are_removed_even_if_nobody_tells_of_them(
    setting: Setting, send: Send, route: str
) -> None:
    injected = await setting.identity_seen("untold", send, route, [])
    for name in CONTRACT_NAMES:
        assert_no_spoof(await setting.identity_seen("untold", send, route, [(name, LIE)] * 2), injected)


@pytest.mark.parametrize("edge", ["as shipped", "raw headers"])
@over_both_protocols
async def test_envoy_refuses_every_folded_name(setting: Setting, edge: str, send: Send) -> None:
    for name in NAMES:
        for spelling in folded(name):
            before = len(setting.chat_api.seen)
            reply = await reply_or_none(send(setting.urls[edge], "GET", "/healthz", [(spelling, LIE)]))
            assert_refused_by_envoy(reply, chat_api_calls=len(setting.chat_api.seen) - before, secrets=[LIE])


@pytest.mark.on_both_transports
@on_every_edge
@over_both_protocols
async def test_what_chat_api_is_told_is_what_the_token_says(setting: Setting, edge: str, send: Send) -> None:
    """Without this, the tests above would hold for an Envoy that injects nothing."""
    seen = dict(await setting.identity_seen(edge, send, "protected", []))
    assert seen == identity_headers(setting.issuer.claims("full")) | {"x-auth-exp": seen["x-auth-exp"]}
    few = await setting.identity_seen(edge, send, "protected, optional claims absent", [])
    assert {name for name, _ in few} == {"x-auth-sub", "x-auth-exp", "x-auth-contract"}


@pytest.mark.on_both_transports
@on_every_edge
@over_both_protocols
async def test_a_denial_carries_no_identity(setting: Setting, edge: str, send: Send) -> None:
    for path in ("/groups", "/nowhere", "/a;b"):
        for name in NAMES:
            before = len(setting.chat_api.seen)
            reply = await send(setting.urls[edge], "GET", path, [(name, LIE)] * 2)
            assert_denied_reply(reply, chat_api_calls=len(setting.chat_api.seen) - before, secrets=[LIE])


@on_every_edge
@pytest.mark.parametrize("value", ["close, x-auth-sub", "X-Auth-Roles, x-auth-contract, close"])
async def test_the_connection_header_takes_no_injected_header_away(setting: Setting, edge: str, value: str) -> None:
    """RFC 9110 section 7.6.1 lets a client name headers that an intermediary drops."""
    injected = await setting.identity_seen(edge, over_http1, "protected", [])
    lies = [("Connection", value), ("x-auth-sub", LIE)]
    assert_no_spoof(await setting.identity_seen(edge, over_http1, "protected", lies), injected)
    assert [value for name, value in setting.chat_api.last.headers if name == "connection"] == []


@on_every_edge
async def test_a_token_that_the_connection_header_names_is_none(setting: Setting, edge: str) -> None:
    """Envoy drops what is named before it asks."""
    method, path, truth = setting.routes["protected"]
    before = len(setting.chat_api.seen)
    reply = await over_http1(setting.urls[edge], method, path, [*truth, ("Connection", "authorization, close")])
    reason = assert_denied_reply(reply, chat_api_calls=len(setting.chat_api.seen) - before)
    assert reason is Reason.TOKEN_MISSING


@on_every_edge
@pytest.mark.parametrize("value", ["x-auth-sub", "authorization, x-auth-roles"])
async def test_http2_has_no_connection_header(setting: Setting, edge: str, value: str) -> None:
    """RFC 9113 section 8.2.2."""
    before = len(setting.chat_api.seen)
    with pytest.raises(NoReply):
        await over_http2(setting.urls[edge], "GET", "/healthz", [("connection", value)])
    assert len(setting.chat_api.seen) == before


@on_every_edge
@pytest.mark.parametrize("name", [
    "X-Auth-Sub", "x-auth-sub ", "x-auth-\u00fc", "x-auth-sub:", "x-auth-\x00", ":x-auth-sub",
])  # fmt: skip
async def test_http2_names_that_are_none_reach_nobody(setting: Setting, edge: str, name: str) -> None:
    before = len(setting.chat_api.seen)
    sending = http2_client.send(setting.urls[edge], "/healthz", (name.encode(), LIE))
    assert_refused_by_envoy(await reply_or_none(sending), chat_api_calls=len(setting.chat_api.seen) - before)


@on_every_edge
@pytest.mark.parametrize("line", [
    "x-auth-sub : admin", " x-auth-sub: admin", "x-auth-\u00fc: admin", "x-auth-\x00: admin", "x-auth-sub\x0b: admin",
    "accept: a\r\n x-auth-sub: admin", "accept: a\rx-auth-sub: admin", "accept: a\nx-auth-sub: admin",
    "accept: a\x00x-auth-sub: admin",
])  # fmt: skip
async def test_http1_lines_that_are_read_in_two_ways_bring_no_identity(setting: Setting, edge: str, line: str) -> None:
    """Envoy refuses most of them; what it lets through says nothing about anybody."""
    before = len(setting.chat_api.seen)
    await reply_or_none(wire.send(setting.urls[edge], "/healthz", line))
    for seen in setting.chat_api.seen[before:]:
        assert_no_spoof(seen.headers, [("x-auth-contract", "1")])
        assert not any("\r" in value or "\n" in value for _, value in seen.headers)


# Request trailers come after the authorization, which never sees them. SECURITY.md tells chat-api not to read identity
# from them; with the HTTP/1.1 cluster of envoy.yaml there are none to read.


@on_every_edge
async def test_http2_trailers_do_not_reach_chat_api(setting: Setting, edge: str) -> None:
    method, path, truth = "POST", "/groups", setting.routes["protected"][2]
    url = setting.urls[edge]
    fields = [(":method", method), (":scheme", "http"), (":authority", "chat.example.com"), (":path", path), *truth]
    reply = await http2_client.send_fields(url, fields, body=b"content", trailers=[("x-auth-sub", LIE), ("t", LIE)])
    assert reply.status == 200
    assert b"content" in setting.chat_api.last.rest
    assert_nothing_arrived(setting.chat_api)


@on_every_edge
async def test_http1_trailers_do_not_reach_chat_api(setting: Setting, edge: str) -> None:
    method, path, truth = "POST", "/groups", setting.routes["protected"][2]
    lines = [*(f"{name}: {value}" for name, value in truth), "Transfer-Encoding: chunked", "Trailer: x-auth-sub"]
    body = f"7\r\ncontent\r\n0\r\nx-auth-sub: {LIE}\r\nt: {LIE}\r\n\r\n".encode()
    reply = await wire.send(setting.urls[edge], path, *lines, method=method, body=body)
    assert reply.status == 200
    assert b"content" in setting.chat_api.last.rest
    assert_nothing_arrived(setting.chat_api)


def assert_nothing_arrived(chat_api: Upstream) -> None:
    assert LIE.encode() not in chat_api.last.rest
    assert LIE not in str(chat_api.last.headers)


async def reply_or_none(sending: Awaitable[Reply]) -> Reply | None:
    try:
        return await sending
    except NoReply:
        return None
