
"""One reading of each request: whenever a real application reaches a route, the rule that was enforced is that route's.

FastAPI behind Envoy, every rule allowing whoever has a token: what keeps a request from a route that it was not
authorized for is the reading of its path, method and host alone. With ``envoy.yaml`` as shipped, and with Envoy's
normalisation turned off, so that the service's own law of paths is what holds.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Iterable
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import http2_client, wire
from tests.support.edges import RULE_HEADER, as_shipped, deciding, edges, no_path_guards, tell_rule
from tests.support.oracle import assert_denied_reply, assert_refused_by_envoy
from tests.support.routed_app import HOST, LAX_HOST, POLICY, ROUTE_HEADER, RunningApp, serve_routed_app
from tests.support.wire import NoReply, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

EDGES = {"as shipped": (as_shipped, tell_rule), "no path guards": (no_path_guards, tell_rule)}
Way = tuple[str, str]
"""An edge and a protocol."""
EVERYWHERE: list[Way] = [(edge, protocol) for edge in EDGES for protocol in ("HTTP/1.1", "HTTP/2")]

JSON = "application/json"
ORG = "org-1"
"""What every token here says."""

Headers = Iterable[tuple[str, str]]


class Setting(NamedTuple):
    """Both edges before one service and one application."""

    urls: dict[str, str]
    token: str
    app: RunningApp

    async def ask(
        self, way: Way, target: str, headers: Headers = (), *, method: str = "GET", host: str = HOST,
        token: bool = True,
    ) -> Reply | None:  # fmt: skip
        """One request, and what follows from its answer in any case; None without an answer."""
        sent = [*headers, ("authorization", f"Bearer {self.token}")] if token else list(headers)
        edge, protocol = way
        if protocol == "HTTP/1.1":
            lines = [f"{name}: {value}" for name, value in sent]
            asking = wire.send(self.urls[edge], target, *lines, method=method, host=host)
            return await self.judge(asking, is_head=method == "HEAD")
        pseudo = [(":method", method), (":scheme", "http"), (":authority", host), (":path", target)]
        asking = http2_client.send_fields(self.urls[edge], [*pseudo, *sent])
        return await self.judge(asking, is_head=method == "HEAD")

    async def judge(self, asking: Awaitable[Reply], *, is_head: bool = False) -> Reply | None:
        """The law of this file; and who was refused was refused as promised."""
        before = len(self.app.calls)
        try:
            reply = await asking
        except NoReply:
            assert len(self.app.calls) == before
            return None
        calls = len(self.app.calls) - before
        if reply.values(ROUTE_HEADER):
            assert reply.values(RULE_HEADER) == reply.values(ROUTE_HEADER)
            assert_what_the_route_was_told_is_what_was_authorized(reply.text)
        elif calls:
            assert reply.status in {307, 404, 405}, reply  # it has no such route, or redirects to one
        else:
            by_service = reply.values("content-type") == [JSON] and not is_head
            refused = assert_denied_reply if by_service else assert_refused_by_envoy
            refused(reply, chat_api_calls=calls, secrets=[self.token])
        return reply


def assert_what_the_route_was_told_is_what_was_authorized(text: str) -> None:
    told = json.loads(text or "null")
    if told is None:  # HEAD
        return
    assert told["params"].get("org_id", ORG) == ORG
    name = told["host"].partition(":")[0].lower()
    assert name == HOST or name.endswith(".chat.internal")


def ran(reply: Reply | None) -> str | None:
    """The route that the application ran."""
    return reply.values(ROUTE_HEADER)[0] if reply and reply.values(ROUTE_HEADER) else None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setting(transport: str) -> AsyncIterator[Setting]:
    async with (
        serve_routed_app() as app,
        deciding(POLICY, {"AUTHZ_TRANSPORT": transport}) as (issuer, authz),
        edges(authz.address, app.port, *EDGES.values()) as running,
    ):
        yield Setting(dict(zip(EDGES, (envoy.url for envoy in running), strict=True)), issuer.mint("full"), app)


everywhere = pytest.mark.parametrize("way", EVERYWHERE, ids=", ".join)
on_every_edge = pytest.mark.parametrize("edge", EDGES)

# Paths.

PLAIN = {
    "/healthz": "health", "/": "root", "/api/groups": "list", "/api/groups/mine": "mine",
    "/api/groups/export": "export", "/api/groups/7": "group", "/api/groups/7/members": "members",
    "/api/groups/7/members/8": "member", "/api/groups/mine/members": "members", "/api/groups/7/owners/": "owners",
    "/api/caf%C3%A9": "accented", "/api/orgs/org-1/info": "org", "/files/ada/": "files",
    "/files/ada/a/b.txt": "files", "/admin/": "admin",
    "/admin/keys": "keys", "/admin/a/b": "admin", "/api/groups?x=/../admin": "list",
    "/api/groups/a%20b": "group", "/api/groups/%C3%A9": "group", "/api/groups/a@b:c": "group",
}  # fmt: skip


@pytest.mark.on_both_transports
@everywhere
async def test_plain_requests_reach_their_routes(setting: Setting, way: Way) -> None:
    """Without this, the tests below would hold for a service that refuses everything."""
    assert {target: ran(await setting.ask(way, target)) for target in PLAIN} == PLAIN


REALISTIC = [
    "/admin//keys", "/admin/./keys", "/admin/x/../keys", "/admin/;/keys", "/admin/k%65ys", "/admin/%2fkeys",
    "/admin/\\keys",
    "/api/groups/", "/api//groups", "//api/groups", "/api/groups//mine", "/api/./groups", "/api/groups/.",
    "/api/groups/..",
    "/api/groups/7/../mine", "/healthz/../admin/", "/files/ada/../../admin/a", "/files/ada/..;/admin",
    "/api/groups/mine/",
    "/api/groups/mine?", "/api/groups?", "/?", "/api/groups/MINE", "/API/groups", "/api/groups/mine;v=1",
    "/api;v=1/groups/mine",
    "/api/groups/m%69ne", "/api/groups/%6Dine", "/api/groups/%6dine", "/api/groups/mine%20", "/api/groups/mine%2e",
    "/api/groups/%2e%2e/groups", "/api/groups/7%2fmembers", "/api/groups/7%2Fmembers", "/api/groups/7%5cmembers",
    "/api/groups\\mine", "/api\\groups", "/api/groups/7#/mine", "/api/groups/mine#", "/admin%2f",
    "/admin/%2e%2e/healthz",
    "/healthz#/admin/", "/healthz?/admin/", "/healthz%3f/admin", "/healthz%23", "/api/caf%c3%a9", "/api/café",
    "/api/cafe%CC%81",
    "/api/orgs/org%2D1/info", "/api/orgs/org-1%20/info", "/api/orgs/org-2/info", "/api/orgs/org-1;/info",
    "/api/orgs/%6frg-1/info",
    "/api/orgs/org-1/../org-2/info", "/api/orgs/org-1%2f..%2forg-2/info", "/api/orgs/org-2/info?org_id=org-1",
]  # fmt: skip
SYNTHETIC = [
    f"/api/groups{trick}mine" for trick in (
        "//", "/./", "/x/../", "%2F", "%2f", "/%2F", "%2F/", "\\", "%5C", "%5c", "/%2e/", "/%2E/", "/.%2e/x/../",
        ";/", "/;/", "/;x=1;/", "%3B/", "%00/", "/%00", "%0a", "/%0A", "%0d%0a/", "%09/", "/%20", "%252F",
        "/%252e%252e/",
        "/%25%32%66", "/%c0%af", "%c0%af", "%c0%2f", "/%e0%80%af", "%ef%bc%8f", "/%ff", "/%", "/%2", "/%zz",
        "/%u002f", "/..%00/", "/..;/",
        "/.;/", "/...;/", "/.../", "?/", "#/", "%3F/", "%23/", "/\x7f", "/\x01", "/\xa0", "/é", "/\u2215",
        "/\uff0f", "/*/", "/{group_id}/",
        "/%7Bgroup_id%7D/", "/~/", "/\"", "/<", "/|", "/^", "/`", "/[", "/]",
    )
]  # fmt: skip
PATHOLOGICAL = [
    "", "*", "?", "#", ".", "..", "api/groups", "./api/groups", "\\", "%2f", "//", "///", "/..", "/../..",
    "/%2e%2e/%2e%2e/admin/",
    "///admin///a", "//admin/a", "/\\admin/a", "http:", "http://", "http:///admin/", "http://chat.example.com",
    "http:admin/",
    "javascript:1", "//chat.example.com/admin/", "/http://chat.example.com/admin/", "/" * 100 + "admin/",
    "/a" * 200, "/" + "a" * 9000,
    "/admin" + "/.." * 70 + "/admin/", "/" + "%61" * 3000, "/files/ada/" + "%2e%2e%2f" * 10 + "admin/",
    "/files/ada/..%2f..%2fadmin",
    "/files/ada/..\\..\\admin\\", "/files//admin/", "/files/%2e%2e/admin/", "/files/./", "/admin", "/admin;/",
    "/admin%20/", "/admin%00/",
]  # fmt: skip


@pytest.mark.on_both_transports
@everywhere
@pytest.mark.parametrize("targets", [
    pytest.param(REALISTIC, id="realistic"), pytest.param(SYNTHETIC, id="synthetic"),
    pytest.param(PATHOLOGICAL, id="pathological"),
])  # fmt: skip
async def test_a_route_that_is_reached_is_the_route_that_was_authorized(
    setting: Setting, way: Way, targets: list[str]
) -> None:
    for target in targets:
        for host in (HOST, LAX_HOST):
            await setting.ask(way, target, host=host)
        await setting.ask(way, target, method="DELETE")


TRICKS = st.sampled_from([
    "/", "//", "/./", "/../", "/x/../", "%2F", "%2f", "\\", "%5c", ".", "..", "%2e", "%2E%2e", ";", ";x=1", "%3b",
    "%00",
    "%0a", "%20", "%25", "%252f", "%252e", "%c0%af", "%C3%A9", "é", "#", "?", "%23", "%3f", "%", "%zz", "mine",
    "admin", "7",
    "*", "~", "@", ":", "&", "=", "+", "\x7f", "\x0b",
])  # fmt: skip


@st.composite
def targets(draw: st.DrawFn) -> str:
    """A path that some route has, and up to three tricks played on it."""
    target = draw(st.sampled_from(sorted(PLAIN)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(1, len(target)))
        end = min(len(target), start + draw(st.integers(0, 2)))
        replaced = target[start:end]
        encoded = "".join(f"%{octet:02x}" for octet in replaced.encode())
        target = target[:start] + draw(st.just(encoded) | TRICKS) + target[end:]
    return target


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    target=targets(), method=st.sampled_from(["GET", "GET", "PUT", "POST", "DELETE", "OPTIONS"]),
    host=st.sampled_from([HOST, LAX_HOST]),
)  # fmt: skip
async def test_no_trick_reaches_a_route_past_its_rule(setting: Setting, target: str, method: str, host: str) -> None:
    for way in EVERYWHERE:
        await setting.ask(way, target, method=method, host=host)


# Methods.

PSEUDO = [(":authority", HOST), (":scheme", "http")]


@pytest.mark.on_both_transports
@everywhere
async def test_head_is_a_get_without_content(setting: Setting, way: Way) -> None:
    assert ran(await setting.ask(way, "/api/groups/7", method="HEAD")) == "group"
    assert ran(await setting.ask(way, "/api/groups/7", method="HEAD", token=False)) is None


@everywhere
@pytest.mark.parametrize("method", [
    "CONNECT", "TRACE", "TRACK", "FOO", "get", "Get", "gET", "delete", "GET2", "GETS", "PRI", "PROPFIND", "QUERY",
    "*", "-",
])  # fmt: skip
@pytest.mark.parametrize("target", ["/api/groups/7", "/healthz", "*"])
async def test_a_method_that_no_rule_names_reaches_no_route(
    setting: Setting, way: Way, method: str, target: str
) -> None:
    assert ran(await setting.ask(way, target, method=method)) is None


@on_every_edge
@pytest.mark.parametrize("fields", [
    pytest.param([(":method", "CONNECT"), (":authority", "chat.example.com:443")], id="tunnel"),
    pytest.param([(":method", "CONNECT"), *PSEUDO, (":path", "/healthz"), (":protocol", "websocket")], id="extended"),
    pytest.param([(":method", "CONNECT"), *PSEUDO, (":path", "/healthz")], id="tunnel with a path"),
    pytest.param([(":method", "GET"), (":method", "DELETE"), *PSEUDO, (":path", "/healthz")], id="two methods"),
    pytest.param([(":method", "GET"), *PSEUDO, (":path", "/healthz"), (":path", "/admin/")], id="two paths"),
    pytest.param([(":method", ""), *PSEUDO, (":path", "/healthz")], id="no method"),
    pytest.param([(":method", "GET"), *PSEUDO, (":path", "")], id="empty path"),
    pytest.param([(":method", "GET"), *PSEUDO], id="no path"),
])  # fmt: skip
async def test_http2_requests_that_are_none_reach_no_route(setting: Setting, edge: str, fields: Any) -> None:
    assert ran(await setting.judge(http2_client.send_fields(setting.urls[edge], fields))) is None


@on_every_edge
@pytest.mark.parametrize("target", ["chat.example.com:443", "/api/groups", "chat.example.com", "*"])
async def test_http1_connect_reaches_no_route(setting: Setting, edge: str, target: str) -> None:
    reply = await setting.ask((edge, "HTTP/1.1"), target, method="CONNECT")
    assert ran(reply) is None


@everywhere
@pytest.mark.parametrize("name", ["x-http-method-override", "x-http-method", "x-method-override"])
async def test_no_header_makes_another_method_of_it(setting: Setting, way: Way, name: str) -> None:
    """The application here would listen to the first of them."""
    assert ran(await setting.ask(way, "/api/groups/7", [(name, "DELETE")])) == "group"


# Hosts.


@everywhere
@pytest.mark.parametrize(("host", "served"), [
    ("chat.example.com", True), ("CHAT.example.com", True), ("chat.example.com:8443", True),
    ("a.chat.internal", True),
    ("other.example.com", False), ("chat.example.com.evil.example", False), ("chat.internal", False),
    ("evil.example/chat.example.com", False), ("evil.example#chat.example.com", False),
    ("chat.example.com@evil.example", False),
    ("user@chat.example.com", False), ("chat.example.com:80:80", False), ("chat.example.com,evil.example", False),
    ("chat.example.com evil.example", False), ("evil.example?.chat.internal", False), (".chat.internal", False),
    ("", False),
    ("a..chat.internal", False), ("chat\u3002example.com", False), ("[::1]", False), ("chat.example.com%00", False),
])  # fmt: skip
async def test_only_hosts_on_the_list_are_served(
    setting: Setting, way: Way, host: str, served: bool
) -> None:
    assert ran(await setting.ask(way, "/api/groups", host=host)) == ("list" if served else None)


@everywhere
async def test_of_two_hosts_none_is_served_but_the_one_that_was_authorized(
    setting: Setting, way: Way
) -> None:
    """RFC 9112 section 3.2: 400. RFC 9113 section 8.3.1: ``:authority`` counts, and ``judge`` sees what arrived."""
    await setting.ask(way, "/api/groups", [("host", "evil.example")])
    assert ran(await setting.ask(way, "/api/groups", [("host", HOST)], host="evil.example")) is None


@on_every_edge
@pytest.mark.parametrize(("target", "host", "route"), [
    ("http://chat.example.com/api/groups", "evil.example", "list"),
    ("http://evil.example/api/groups", HOST, None),
    ("http://chat.example.com/api/groups/../../admin/", HOST, "admin"),
    ("http://chat.example.com@evil.example/api/groups", HOST, None),
    ("http://evil.example#@chat.example.com/api/groups", HOST, None),
    ("http://evil.example\\@chat.example.com/api/groups", HOST, None),
    ("https://chat.example.com/healthz", "evil.example", "health"),
    ("ftp://chat.example.com/healthz", "evil.example", None),
])  # fmt: skip
async def test_the_host_of_an_absolute_target_is_the_one_that_counts(
    setting: Setting, edge: str, target: str, host: str, route: str | None
) -> None:
    reply = await setting.ask((edge, "HTTP/1.1"), target, host=host)
    assert ran(reply) in {None, route}


# CORS preflight.

ORIGIN, ASKS = ("origin", "https://app.example.com"), ("access-control-request-method", "GET")


@pytest.mark.on_both_transports
@everywhere
async def test_a_preflight_needs_no_token_where_the_policy_says_so(setting: Setting, way: Way) -> None:
    reply = await setting.ask(way, "/api/groups", [ORIGIN, ASKS], method="OPTIONS", token=False)
    assert ran(reply) == "list"


@everywhere
@pytest.mark.parametrize("headers", [
    [], [ORIGIN], [ASKS], [("origin", ""), ASKS], [ORIGIN, (ASKS[0], "")], [ORIGIN, ("x-request-method", "GET")],
])  # fmt: skip
async def test_what_lacks_a_header_is_no_preflight(setting: Setting, way: Way, headers: Headers) -> None:
    assert ran(await setting.ask(way, "/api/groups", headers, method="OPTIONS", token=False)) is None


@everywhere
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "options", "Options"])
async def test_what_is_not_options_is_no_preflight(setting: Setting, way: Way, method: str) -> None:
    assert ran(await setting.ask(way, "/api/groups", [ORIGIN, ASKS], method=method, token=False)) is None


@everywhere
@pytest.mark.parametrize("target", [
    "/api/groups/7", "/files/ada/a", "/admin/", "/api/groups/mine", "/api/groups/", "/api//groups;", "/api/groups%2f",
])  # fmt: skip
async def test_a_preflight_for_another_path_needs_a_token(setting: Setting, way: Way, target: str) -> None:
    """``/files/`` has a route for OPTIONS, and no ``cors_preflight``."""
    assert ran(await setting.ask(way, target, [ORIGIN, ASKS], method="OPTIONS", token=False)) is None
