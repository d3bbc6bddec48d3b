"""The main job: a real request through a real Envoy, decided by the service, answered by chat-api."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from demo.showcase import identity_headers
from tests.support.gateway import Gateway, gateway

SPELLINGS = ["x-auth-roles", "X-Auth-Roles", "X-AUTH-ROLES", "x-auth-contract", "x-auth-shadow", "x-auth-anything"]


@pytest.fixture(params=["native", "grpcio"])
async def path(request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    async with gateway({"AUTHZ_TRANSPORT": request.param}) as running:
        yield running


async def test_a_valid_token_reaches_chat_api_with_the_whole_identity(path: Gateway) -> None:
    claims = path.issuer.claims("full")
    reply = await path.get(token=path.issuer.key.sign(claims))
    assert reply.status == 200
    assert reply.body == {"route": "GET /api/chat/groups", "identity": identity_headers(claims)}
    assert len(reply.body["identity"]) == 8  # the seven of the contract, and its version


async def test_an_expired_token_is_answered_by_the_service_and_chat_api_is_not_asked(path: Gateway) -> None:
    reply = await path.get(token=path.issuer.mint("expired"))
    assert (reply.status, reply.body["error"]) == (401, "token_expired")
    assert reply.headers["WWW-Authenticate"].startswith('Bearer realm="chat-api", error="invalid_token"')
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.body["request_id"] == reply.headers["x-request-id"]
    assert path.chat_api.calls == 0


async def test_no_token(path: Gateway) -> None:
    reply = await path.get()
    assert (reply.status, reply.body["error"]) == (401, "token_missing")
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="chat-api"'


async def test_a_missing_permission_is_named(path: Gateway) -> None:
    reply = await path.get(token=path.issuer.mint("limited"))
    assert (reply.status, reply.body["error"]) == (403, "permission_denied")
    assert reply.body["required"] == {"all": ["groups:read"]}
    assert reply.headers["WWW-Authenticate"].endswith('scope="groups:read"')


async def test_an_unknown_path_is_denied(path: Gateway) -> None:
    reply = await path.get("/api/chat/secrets", token=path.issuer.mint("full"))
    assert (reply.status, reply.body["error"]) == (403, "no_matching_rule")
    assert path.chat_api.calls == 0


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("times", [1, 2])
async def test_what_a_client_says_about_itself_never_arrives(path: Gateway, name: str, times: int) -> None:
    claims = path.issuer.claims("full")
    lie = [(name, "admin")] * times
    protected = await path.get("/api/chat/groups", *lie, token=path.issuer.key.sign(claims))
    public = await path.get("/healthz", *lie)
    shadow = await path.get("/api/chat/groups/7", *lie)
    assert protected.body["identity"] == identity_headers(claims)
    assert public.body["identity"] == {"x-auth-contract": "1"}
    assert shadow.body["identity"] == {
        "x-auth-contract": "1", "x-auth-shadow": "would-deny; reason=token_missing"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["x_auth_roles", "X_Auth-Roles", "x-auth_roles"])
async def test_underscores_are_refused_before_anybody_decides(path: Gateway, name: str) -> None:
    assert (await path.get("/healthz", (name, "admin"))).status == 400
    assert path.chat_api.calls == 0


async def test_a_preflight_passes_without_a_token_where_the_policy_says_so(path: Gateway) -> None:
    preflight = [("Origin", "https://app.example.com"), ("Access-Control-Request-Method", "POST")]
    await path.get("/api/chat/groups", *preflight, method="OPTIONS")
    assert path.chat_api.calls == 1
    refused = await path.get("/api/chat/groups/7/messages", *preflight, method="OPTIONS")
    assert refused.status == 403
    assert path.chat_api.calls == 1


async def test_the_access_log_tells_the_decision(path: Gateway) -> None:
    await path.get(token=path.issuer.mint("full"))
    await path.get(token=path.issuer.mint("limited"))
    allowed, denied = await asyncio.to_thread(path.envoy.access_log, 2)
    for entry, reason in ((allowed, "allowed"), (denied, "permission_denied")):
        told = {key: value for key, value in entry.items() if key.startswith("authz_")}
        assert told == {
            "authz_reason": reason, "authz_rule": "list-groups", "authz_mode": "enforce", "authz_sub": "user-1",
            "authz_kid": "demo-1",
        }  # fmt: skip


async def test_the_service_stopped_is_503_and_started_again_200_without_touching_envoy(path: Gateway) -> None:
    token = path.issuer.mint("full")
    assert (await path.get(token=token)).status == 200
    await path.authz.stop(signal.SIGTERM)

    assert (await path.get(token=token)).status == 503
    assert (await path.get("/healthz")).status == 503
    assert path.chat_api.calls == 1

    await path.authz.start()
    await path.authz.until_logged("health: SERVING")
    await until_status(path, token, 200)


async def until_status(path: Gateway, token: str, status: int) -> None:
    """Envoy looks again once a second."""
    async with asyncio.timeout(15):
        while (await path.get(token=token)).status != status:  # noqa: ASYNC110 - Envoy tells nobody
            await asyncio.sleep(0.05)


async def test_keys_that_are_not_there_are_an_error_and_no_denial() -> None:
    """``error_response``: counted by Envoy as such, and with our body."""
    async with gateway({"AUTH_API_JWKS_URL": "http://127.0.0.1:9/"}, health="NOT_SERVING") as cut_off:
        reply = await cut_off.get(token=cut_off.issuer.mint("full"))
        assert (reply.status, reply.body["error"]) == (503, "keys_unavailable")
        assert int(reply.headers["Retry-After"]) >= 1
        assert (await cut_off.get("/healthz")).status == 200
        assert await asyncio.to_thread(cut_off.envoy.stats, "http.chat.ext_authz.error") == 1
        assert await asyncio.to_thread(cut_off.envoy.stats, "http.chat.ext_authz.denied") == 0
