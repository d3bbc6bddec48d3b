"""The whole migration on live traffic, through a real Envoy: not one request fails or gets an answer that is not meant.

Two endpoints, restarted in turn for each change of a flag; policies are reloaded. Meanwhile requests keep coming.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from itertools import cycle
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from authz_service.model import Mode
from authz_service.policy.loader import parse_policy
from authz_service.policy.rollout import effective_mode
from chaos.stage import until, until_healthy
from demo.chat_api import ChatApi
from demo.envoy_bootstrap import load, with_endpoints
from tests.support.envoy import RunningEnvoy, run_envoy
from tests.support.permissions_api import PERMISSIONS_PATH, PermissionsApi
from tests.support.service import Service, service
from tests.support.tokens import claims, signing_key
from tests.support.web import serve_app

PER_SECOND = 60.0
STEADY_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
AS_BEFORE_SECONDS = 2.5
"""Two health checks: only then does Envoy rely on an endpoint that has come back."""
PEOPLE = 40
ISSUER = "http://issuer.test"

POLICY = """
version: 1
defaults: {DEFAULTS}
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: list-groups, match: {path: /api/chat/groups, methods: [GET]}, require: {permission: "groups:read"}}
  - name: create-group
    match: {path: /api/chat/groups, methods: [POST]}
    require: {permission: "groups:write"}
"""
SHADOW = POLICY.replace("DEFAULTS", "mode: shadow")
TEN_PERCENT = POLICY.replace("DEFAULTS", "mode: shadow, enforce_percent: 10")
ENFORCE = POLICY.replace("DEFAULTS", "mode: enforce")

OLD_WAY = {"USE_OAUTH2_AUTH": "false", "AUTHZ_COMPARE_SAMPLE": "0"}
COMPARED = {"USE_OAUTH2_AUTH": "true", "AUTHZ_COMPARE_SAMPLE": "1"}
LOCAL = {"USE_OAUTH2_AUTH": "true", "AUTHZ_COMPARE_SAMPLE": "0"}


class Caller(NamedTuple):
    """Somebody who asks again and again, and the reason for which the policy would deny it."""

    subject: str
    token: str | None
    path: str = "/api/chat/groups"
    flaw: str = ""

    def expected(self, share: int) -> str:
        """The verdict while the policy is enforced for ``share`` percent of callers."""
        known = self.subject if self.flaw in {"", "permission_denied"} and self.token else ""
        if not self.flaw:
            return f"200 {known}".strip()
        if share == 100 or effective_mode(Mode.SHADOW, share, known) is Mode.ENFORCE:
            return f"{403 if self.flaw == 'permission_denied' else 401} {self.flaw}"
        return f"200 {known} would-deny; reason={self.flaw}".replace("  ", " ")


class Traffic:
    """Requests at a constant rate, each held against what is meant while it is under way."""

    def __init__(self, url: str, callers: list[Caller]) -> None:
        self._url = url
        self._callers: Iterator[Caller] = cycle(callers)
        self._shares: set[int] = {100}
        self._under_way: dict[int, set[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.with_token = 0
        """Answered requests that a token decides."""
        self.verdicts: Counter[str] = Counter()
        self.unexpected: list[str] = []

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def may_become(self, share: int) -> None:
        """From now on this is meant as well, also for requests that are under way."""
        for meant in (self._shares, *self._under_way.values()):
            meant.add(share)

    def has_become(self, share: int) -> None:
        """For requests from now on, only this is meant."""
        self._shares = {share}

    async def flow(self) -> None:
        """Until cancelled."""
        async with ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(30)) as session:
            started, sent = time.monotonic(), 0
            try:
                while True:
                    due = int((time.monotonic() - started) * PER_SECOND) + 1
                    for _ in range(sent, due):
                        task = asyncio.create_task(self._ask(session, next(self._callers)))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                    sent = due
                    await asyncio.sleep(1 / PER_SECOND)
            finally:
                await asyncio.gather(*self._tasks)

    async def _ask(self, session: ClientSession, caller: Caller) -> None:
        meant = set(self._shares)
        self._under_way[id(meant)] = meant
        verdict = await self._verdict(session, caller)
        del self._under_way[id(meant)]
        self.with_token += caller.token is not None
        self.verdicts[verdict] += 1
        expected = {caller.expected(share) for share in meant}
        if verdict not in expected:
            self.unexpected.append(f"{caller.subject or caller.flaw or caller.path}: {verdict}, not {expected}")

    async def _verdict(self, session: ClientSession, caller: Caller) -> str:
        headers = {"Authorization": f"Bearer {caller.token}"} if caller.token else {}
        try:
            async with session.get(self._url + caller.path, headers=headers) as response:
                body: dict[str, Any] = await response.json(content_type=None)
        except (ClientError, TimeoutError, ValueError) as failure:
            return f"failed: {type(failure).__name__}"
        if response.status != 200:
            return f"{response.status} {body.get('error')}"
        identity = body["identity"]
        told = ("200", identity.get("x-auth-sub", ""), identity.get("x-auth-shadow", ""))
        return " ".join(part for part in told if part)


class Stage(NamedTuple):
    """What runs."""

    api: PermissionsApi
    endpoints: list[Service]
    envoy: RunningEnvoy

    @property
    def asked(self) -> int:
        """How often the Auth-API was, about a token."""
        return self.api.requests[PERMISSIONS_PATH]

    async def use_policy(self, text: str) -> None:
        """A hot reload everywhere."""
        digest = parse_policy(text).digest
        for endpoint in self.endpoints:
            endpoint.policy_path.write_text(text, encoding="utf-8")
        for endpoint in self.endpoints:
            await until(lambda: _uses(endpoint, digest))  # noqa: B023 - awaited at once

    async def use_flags(self, environ: dict[str, str]) -> None:
        """A rolling restart."""
        for endpoint in self.endpoints:
            await endpoint.stop()
            endpoint.configure(environ)
            await endpoint.start()
            await endpoint.until_ready()
            await asyncio.sleep(AS_BEFORE_SECONDS)
            await until_healthy(self.envoy, len(self.endpoints))

    async def comparison(self) -> dict[str, Counter[str]]:
        """The figures of all endpoints together, by rule."""
        found: dict[str, Counter[str]] = {}
        for endpoint in self.endpoints:
            for rule in (await endpoint.status())["comparison"]["rules"]:
                of_rule = found.setdefault(rule["rule"], Counter())
                of_rule.update({name: rule[name] for name in ("compared", "agree", "stricter", "looser", "unknown")})
                of_rule.update(rule["reasons"])
        return found


async def _uses(endpoint: Service, digest: str) -> bool:
    return bool((await endpoint.status())["policy"]["digest"] == digest)


@asynccontextmanager
async def staged(
    known: dict[str, Any], environ: dict[str, str], policy: str, *, endpoints: int = 2
) -> AsyncIterator[Stage]:
    api = PermissionsApi(known)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serve_app(api.app()))
        settings = {
            "AUTH_API_ISSUER": ISSUER, "AUTH_API_JWKS_URL": f"{url}/.well-known/jwks.json",
            "AUTH_API_PERMISSIONS_URL": f"{url}{PERMISSIONS_PATH}", "AUTH_API_TIMEOUT_SECONDS": "8",
        }  # fmt: skip
        running = [await stack.enter_async_context(service(settings | environ, policy)) for _ in range(endpoints)]
        chat_url = await stack.enter_async_context(serve_app(ChatApi().app()))
        bootstrap = with_endpoints(
            load(), listener_port=0, authz=[each.address for each in running],
            chat_api_port=urlsplit(chat_url).port or 0, admin_port=0,
        )  # fmt: skip
        envoy = await stack.enter_async_context(run_envoy(_patient(bootstrap)))
        await until_healthy(envoy, endpoints)
        yield Stage(api, running, envoy)


def _patient(bootstrap: dict[str, Any]) -> dict[str, Any]:
    """The shipped configuration, with more time for an answer: how busy this machine is decides nothing here."""
    patient = deepcopy(bootstrap)
    (listener,) = patient["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    grpc_service = manager["http_filters"][0]["typed_config"]["grpc_service"]
    grpc_service["timeout"] = "20s"
    (one_try,) = grpc_service["initial_metadata"]
    one_try["value"] = "10000"
    return patient


def mint(subject: str, *permissions: str) -> tuple[str, dict[str, Any]]:
    """A token, and what it claims."""
    now = int(time.time())
    payload = claims(iss=ISSUER, sub=subject, iat=now - 60, exp=now + 3600, permissions=list(permissions))
    return signing_key().sign(payload), payload


def crowd() -> tuple[list[Caller], dict[str, Any]]:
    """Everybody who calls, and what the Auth-API knows: who may, who may not, who is nobody, who lies, and anyone."""
    callers: list[Caller] = []
    known: dict[str, Any] = {}
    for number in range(PEOPLE):
        reader, guest = f"reader-{number}", f"guest-{number}"
        for subject, permissions, flaw in ((reader, ("groups:read",), ""), (guest, (), "permission_denied")):
            token, payload = mint(subject, *permissions)
            known[token] = payload
            callers.append(Caller(subject, token, flaw=flaw))
    forged = mint("admin", "groups:read")[0][:-6] + "AAAAAA"
    others = [
        Caller("", None, flaw="token_missing"), Caller("admin", forged, flaw="signature_invalid"),
        Caller("", None, "/healthz"),
    ]  # fmt: skip
    return [caller for several in batched(callers, 10) for caller in (*several, *others)], known


def batched(callers: list[Caller], size: int) -> Iterator[list[Caller]]:
    return (callers[start : start + size] for start in range(0, len(callers), size))


async def test_the_migration_there_and_back_and_there_again() -> None:
    callers, known = crowd()
    guests = [caller for caller in callers if caller.flaw == "permission_denied"]
    assert 0 < sum(caller.expected(10).startswith("403") for caller in guests) < len(guests)
    async with staged(known, OLD_WAY, ENFORCE) as stage:
        traffic = Traffic(stage.envoy.url, callers)
        flow = asyncio.create_task(traffic.flow())
        try:
            await migrate(stage, traffic)
        finally:
            flow.cancel()
            await asyncio.gather(flow, return_exceptions=True)
    assert traffic.unexpected == []
    assert not [verdict for verdict in traffic.verdicts if verdict.startswith(("failed", "5"))]
    assert traffic.verdicts.total() > 1_000


async def migrate(stage: Stage, traffic: Traffic) -> None:
    """All phases, one after the other. Each step says what it changes; the traffic is judged all the time."""
    await every_token_is_asked_about(stage, traffic)

    traffic.may_become(0)
    await stage.use_policy(SHADOW)
    traffic.has_become(0)
    await stage.use_flags(COMPARED)
    asked, already = stage.asked, (await stage.comparison())["list-groups"]["compared"]
    await until(lambda: compared(stage, "list-groups", already + 100), PATIENCE_SECONDS)
    assert stage.asked > asked, "compared without asking"
    found = (await stage.comparison())["list-groups"]
    assert (found["looser"], found["stricter"], found["unknown"]) == (0, 0, 0)

    traffic.may_become(10)
    await stage.use_policy(TEN_PERCENT)
    traffic.has_become(10)
    await asyncio.sleep(STEADY_SECONDS)
    assert (await stage.comparison())["list-groups"]["compared"] >= found["compared"], "a share is no other rule"

    traffic.may_become(100)
    await stage.use_policy(ENFORCE)
    traffic.has_become(100)
    await stage.use_flags(LOCAL)
    await nobody_is_asked(stage, traffic)

    await stage.use_flags(OLD_WAY)
    await every_token_is_asked_about(stage, traffic)

    await stage.use_flags(LOCAL)
    await nobody_is_asked(stage, traffic)


async def compared(stage: Stage, rule: str, at_least: int) -> bool:
    return (await stage.comparison())[rule]["compared"] >= at_least


async def every_token_is_asked_about(stage: Stage, traffic: Traffic) -> None:
    asked, answered, waiting = stage.asked, traffic.with_token, traffic.under_way
    await asyncio.sleep(STEADY_SECONDS)
    asked, answered = stage.asked - asked, traffic.with_token - answered
    assert answered > 0
    # What was under way at one end of the time is in only one of the two counts.
    assert answered - waiting <= asked <= answered + traffic.under_way


async def nobody_is_asked(stage: Stage, traffic: Traffic) -> None:
    asked, answered = stage.asked, traffic.with_token
    await asyncio.sleep(STEADY_SECONDS)
    assert traffic.with_token > answered
    assert stage.asked == asked


async def test_a_permission_that_only_one_of_the_two_knows_is_found_and_named_by_rule() -> None:
    """The Auth-API has granted one since the token was issued, and withdrawn another."""
    promoted, as_promoted = mint("promoted")
    demoted, as_demoted = mint("demoted", "groups:read", "groups:write")
    known = {
        promoted: as_promoted | {"permissions": ["groups:read"]},
        demoted: as_demoted | {"permissions": ["groups:read"]},
    }  # fmt: skip
    for environ in (COMPARED, COMPARED | {"USE_OAUTH2_AUTH": "false"}):
        async with staged(known, environ, ENFORCE, endpoints=1) as stage, ClientSession() as session:
            url = stage.envoy.url + "/api/chat/groups"
            for method, token in (("GET", promoted), ("GET", demoted), ("POST", demoted)):
                await session.request(method, url, headers={"Authorization": f"Bearer {token}"})
            await until(lambda: compared(stage, "list-groups", 2), PATIENCE_SECONDS)
            await until(lambda: compared(stage, "create-group", 1), PATIENCE_SECONDS)
            found = await stage.comparison()
        assert found["list-groups"] == Counter(compared=2, agree=1, stricter=1, permission_denied=1)
        assert found["create-group"] == Counter(compared=1, looser=1, permission_denied=1)
