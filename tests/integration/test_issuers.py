"""Several issuers in the policy file, each a real server of its own, one of them down or lying."""

import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from tests.support.check_requests import Answer, check_request, read_answer
from tests.support.issuer import Issuer, Status, issuer
from tests.support.service import Service, service
from tests.support.tokens import SigningKey, claims, compact_json, jwks, signing_key

CHECK = "/envoy.service.auth.v3.Authorization/Check"
A, B = "https://a.test", "https://b.test"
KEY_A, KEY_B = signing_key("shared"), signing_key("of-b")._replace(kid="shared")

RULES = """
rules:
  - {name: list-groups, match: {path: /api/chat/groups}, require: {permission: "groups:read"}}
"""


def policy(a: Issuer, b: Issuer, of_a: str = "", of_b: str | None = "") -> str:
    """Both issuers with these settings of theirs; None: without it."""
    issuers = f"  - {{issuer: '{A}', jwks_url: '{a.url}'{of_a}}}\n"
    if of_b is not None:
        issuers += f"  - {{issuer: '{B}', jwks_url: '{b.url}'{of_b}}}\n"
    return f"version: 1\nissuers:\n{issuers}{RULES}"


class Issuers(NamedTuple):
    """Two, and the service that trusts them."""

    a: Issuer
    b: Issuer
    service: Service

    def policy(self, of_a: str = "", of_b: str | None = "") -> str:
        return policy(self.a, self.b, of_a, of_b)

    async def reload(self, policy: str) -> None:
        self.service.policy_path.write_text(policy, encoding="utf-8")
        await self.service.until_logged("policy reloaded")

    async def answer(self, token: str) -> Answer:
        async with grpc.aio.insecure_channel(f"unix:{self.service.address.path}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
            message = check_request(path="/api/chat/groups", headers=[("authorization", f"Bearer {token}")])
            return read_answer(await call(message, wait_for_ready=True))

    async def says(self, token: str) -> tuple[int, str]:
        """Status and reason."""
        answer = await self.answer(token)
        return (200, "allowed") if answer.allowed else (answer.http_status, json.loads(answer.body)["error"])

    async def until_both_were_asked(self) -> None:
        await self.service.until(lambda: bool(self.a.requests) and bool(self.b.requests), "requests to both")
        await self.service.until_ready()


def token(iss: str, key: SigningKey, *, algorithm: str = "RS256", **overrides: object) -> str:
    now = int(time.time())
    return key.sign(claims(iss=iss, iat=now, exp=now + 3600, **overrides), alg=algorithm)


FROM_A, FROM_B = token(A, KEY_A), token(B, KEY_B)


@asynccontextmanager
async def running(
    *, b_is_up: bool = True, of_a: str = "", of_b: str | None = "", **environ: str
) -> AsyncIterator[Issuers]:
    async with issuer(jwks(KEY_A)) as a, issuer(jwks(KEY_B)) as b:
        if not b_is_up:
            b.behave(Status(503))
        settings = {"AUTH_API_ISSUER": "http://unlisted.test", **environ}
        async with service(settings, policy(a, b, of_a, of_b)) as authz:
            yield Issuers(a, b, authz)


async def test_the_outage_of_one_touches_no_other() -> None:
    async with running(b_is_up=False) as issuers:
        await issuers.until_both_were_asked()
        assert await issuers.says(FROM_A) == (200, "allowed")
        assert await issuers.says(FROM_B) == (503, "keys_unavailable")
        status = await issuers.service.status()
        assert status["ready"] is True
        assert {one["issuer"]: one["ready"] for one in status["issuers"]} == {A: True, B: False}
        metrics = await issuers.service.metrics()
        assert f'jwks_issuer_ready{{issuer="{B}"}} 0.0' in metrics
        assert "jwks_refresh_total 1.0" in metrics
        issuers.b.behave()
        issuers.service.send(signal.SIGHUP)
        await issuers.service.until_logged(f"JWKS refreshed: 1 usable keys of {B}")
        assert await issuers.says(FROM_B) == (200, "allowed")


async def test_the_key_of_one_issuer_vouches_for_no_token_of_another() -> None:
    async with running() as issuers:
        for iss in (A, B):
            await issuers.service.until_logged(f"JWKS refreshed: 1 usable keys of {iss}")
        assert await issuers.says(token(A, KEY_B)) == (401, "signature_invalid")
        assert await issuers.says(token(B, KEY_A)) == (401, "signature_invalid")
        assert (await issuers.says(FROM_A), await issuers.says(FROM_B)) == ((200, "allowed"),) * 2


async def test_an_issuer_that_is_not_listed_is_not_trusted_not_even_that_of_the_environment() -> None:
    async with running() as issuers:
        await issuers.until_both_were_asked()
        for stranger in ("https://c.test", "http://unlisted.test", f"{A}/", A.upper()):
            assert await issuers.says(token(stranger, KEY_A)) == (401, "issuer_mismatch")


async def test_each_has_its_own_audiences_and_headers() -> None:
    own = ", audiences: [b-api], claims_to_headers: {sub: x-auth-user, iss: x-auth-issuer}"
    async with running(of_b=own) as issuers:
        await issuers.service.until_logged(f"JWKS refreshed: 1 usable keys of {B}")
        assert await issuers.says(FROM_B) == (401, "audience_mismatch")
        headers = dict((await issuers.answer(token(B, KEY_B, aud="b-api"))).headers)
        assert headers == {"x-auth-user": "user-1", "x-auth-issuer": B, "x-auth-contract": "1"}


async def test_a_reload_that_removes_an_issuer_refuses_its_remembered_tokens_at_once() -> None:
    async with running() as issuers:
        for iss in (A, B):
            await issuers.service.until_logged(f"JWKS refreshed: 1 usable keys of {iss}")
        for _ in range(2):
            assert await issuers.says(FROM_B) == (200, "allowed")
        await issuers.reload(issuers.policy(of_b=None))
        assert await issuers.says(FROM_B) == (401, "issuer_mismatch")
        assert await issuers.says(FROM_A) == (200, "allowed")
        assert len(issuers.a.requests) == 1, "who stays is not asked again"
        assert [one["issuer"] for one in (await issuers.service.status())["issuers"]] == [A]


async def test_a_reload_that_narrows_the_audience_refuses_remembered_tokens_at_once() -> None:
    async with running() as issuers:
        await issuers.service.until_logged(f"JWKS refreshed: 1 usable keys of {A}")
        assert await issuers.says(FROM_A) == (200, "allowed")
        await issuers.reload(issuers.policy(of_a=", audiences: [other-api]"))
        assert await issuers.says(FROM_A) == (401, "audience_mismatch")


async def test_a_reload_that_adds_an_issuer_trusts_it_as_soon_as_it_has_keys() -> None:
    async with running(of_b=None) as issuers:
        await issuers.service.until_ready()
        assert await issuers.says(FROM_B) == (401, "issuer_mismatch")
        await issuers.reload(issuers.policy())
        await issuers.service.until_logged(f"JWKS refreshed: 1 usable keys of {B}")
        assert await issuers.says(FROM_B) == (200, "allowed")


async def test_discovery_that_lies_about_its_issuer_is_refused_and_an_honest_one_is_followed() -> None:
    async with issuer(b"") as id_provider, running(of_b=None) as issuers:
        metadata: dict[str, Any] = {"issuer": A, "jwks_uri": issuers.b.url}
        id_provider.document = compact_json(metadata)
        found = id_provider.origin
        policy = f"version: 1\nissuers:\n  - {{issuer: '{found}', discovery: true}}\n{RULES}"
        await issuers.reload(policy)
        await issuers.service.until_logged("metadata_other_issuer")
        assert await issuers.says(token(found, KEY_B)) == (503, "keys_unavailable")
        assert not issuers.b.requests
        id_provider.document = compact_json({**metadata, "issuer": found})
        issuers.service.send(signal.SIGHUP)
        await issuers.service.until_logged(f"JWKS refreshed: 1 usable keys of {found}")
        assert await issuers.says(token(found, KEY_B)) == (200, "allowed")
        assert id_provider.requests[0].target == "/.well-known/openid-configuration"


async def test_each_issuer_has_its_snapshot_and_a_restart_while_all_are_down_serves_all(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    async with running(AUTH_API_ISSUER=A, JWKS_SNAPSHOT_PATH=str(path)) as issuers:
        await issuers.service.until(lambda: path.exists() and len(list(tmp_path.glob("keys.json.*"))) == 1, "snapshots")
        await issuers.service.stop(signal.SIGKILL)
        for down in (issuers.a, issuers.b):
            down.behave(Status(503))
        await issuers.service.start()
        for iss in (A, B):
            await issuers.service.until_logged(f"JWKS snapshot restored: 1 keys of {iss}")
        assert (await issuers.says(FROM_A), await issuers.says(FROM_B)) == ((200, "allowed"),) * 2


async def test_tokens_of_the_old_algorithm_are_counted() -> None:
    async with running() as issuers:
        await issuers.service.until_ready()
        assert await issuers.says(token(A, KEY_A, algorithm="HS256")) == (401, "algorithm_not_allowed")
        assert 'authz_tokens_refused_algorithm_total{algorithm="HS256"} 1.0' in await issuers.service.metrics()
