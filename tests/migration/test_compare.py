"""A sample of requests is decided both ways, behind their answers; what differs is told by rule, and why."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from authz_service.authorizer import Authorizer
from authz_service.errors import NoVerdictYet, Reason, Unavailable
from authz_service.migration.asking import AskingWay
from authz_service.migration.compare import AT_ONCE, PER_SECOND, QUEUE, Comparison, Result, changed_rules
from authz_service.model import Decision, HttpRequest
from authz_service.policy.loader import parse_policy
from authz_service.token.claims import ClaimRules
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import TokenVerifier
from authz_service.transport.check import encode_identity
from authz_service.ways import LocalWay, Way
from tests.support.asked import AnsweringApi
from tests.support.check_level import ALGORITHMS, FixedKeys
from tests.support.clock import Clock, settle
from tests.support.limits import LIMITS
from tests.support.tokens import AUDIENCE, ISSUER, NOW, claims, signing_key, token

POLICY = parse_policy("""
version: 1
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: read, match: {path: /groups, methods: [GET]}, require: {permission: "groups:read"}}
  - {name: delete, match: {path: /groups, methods: [DELETE]}, require: {permission: "groups:delete"}, mode: shadow}
""")
READER, DELETER, NOBODY = token(), token(permissions=["groups:read", "groups:delete"]), token(permissions=[])
EXPIRED = token(exp=NOW - 100)


class Told:
    """What a comparison tells."""

    def __init__(self) -> None:
        self.results: list[tuple[str, str, str]] = []
        self.drops = 0
        self.disagreements: list[tuple[str, str, str, str]] = []

    def compared(self, rule: str, result: str, reason: str = "") -> None:
        self.results.append((rule, result, reason))

    def dropped(self) -> None:
        self.drops += 1

    def disagreed(self, request: HttpRequest, decision: Decision, other: Reason) -> None:
        self.disagreements.append((request.method, decision.rule, decision.reason, other))


class Stage(NamedTuple):
    """Both ways, of which one decides."""

    deciding: Way
    comparison: Comparison
    told: Told
    api: AnsweringApi
    clock: Clock

    async def request(self, bearer: str | None, method: str = "GET", path: str = "/groups") -> Decision:
        """Decided as the service would, then seen."""
        headers = (("authorization", f"Bearer {bearer}"),) if bearer is not None else ()
        request = HttpRequest(method, path, "chat.example.com", headers)
        decision = await decide(self.deciding, request)
        self.comparison.saw(request, decision)
        await settle()
        return decision


async def decide(way: Way, request: HttpRequest) -> Decision:
    try:
        return way.authorizer.authorize(request)
    except NoVerdictYet as question:
        return await way.decide(request, question)


@asynccontextmanager
async def comparing(
    api: AnsweringApi, *, local: bool = True, sample: float = 1.0, chance: float = 0.0, keys: FixedKeys | None = None
) -> AsyncIterator[Stage]:
    rules = {ISSUER: ClaimRules(ISSUER, frozenset({AUDIENCE}), leeway_seconds=30)}
    keys = keys or FixedKeys(signing_key())
    verifier = TokenVerifier(keys, rules, ALGORITHMS)
    here = LocalWay(Authorizer(POLICY, verifier, LIMITS, lambda: NOW, encode_identity), keys)
    asking = AskingWay(POLICY, LIMITS, lambda: NOW, encode_identity, api)
    told, clock = Told(), Clock()
    deciding, other = (here, asking) if local else (asking, here)
    comparison = Comparison(
        other, other_is_local=not local, sample=sample, observer=told, disagreed=told.disagreed,
        chance=lambda: chance, monotonic=clock,
    )  # fmt: skip
    comparison.start()
    try:
        yield Stage(deciding, comparison, told, api, clock)
    finally:
        await comparison.stop()


class Case(NamedTuple):
    token: str
    answer: dict[str, Any] | None
    """What the Auth-API says of it; None: 401."""
    method: str
    result: tuple[str, str, str]


CASES = {
    "both allow": Case(READER, claims(), "GET", ("read", "agree", "")),
    "both deny": Case(NOBODY, claims(permissions=[]), "GET", ("read", "agree", "")),
    "both refuse the token": Case(EXPIRED, None, "GET", ("read", "both_refuse", "")),
    "the Auth-API grants what the token lacks": Case(
        READER, claims(permissions=["groups:read", "groups:delete"]), "DELETE",
        ("delete", "local_stricter", "permission_denied"),
    ),
    "the token has what the Auth-API does not grant": Case(
        DELETER, claims(), "DELETE", ("delete", "local_looser", "permission_denied")
    ),
    "the Auth-API takes an expired token": Case(EXPIRED, claims(), "GET", ("read", "local_stricter", "token_expired")),
    "the Auth-API has withdrawn the token": Case(READER, None, "GET", ("read", "local_looser", "signature_invalid")),
    "a token of before": Case("not.a.jws", claims(), "GET", ("read", "local_stricter", "token_malformed")),
}  # fmt: skip


@pytest.mark.parametrize("local", [True, False], ids=["verified here", "the Auth-API decides"])
@pytest.mark.parametrize("name", CASES)
async def test_each_outcome_is_told_of_the_local_way_whichever_decides(name: str, *, local: bool) -> None:
    case = CASES[name]
    api = AnsweringApi({} if case.answer is None else {case.token: case.answer})
    async with comparing(api, local=local) as stage:
        await stage.request(case.token, case.method)
    assert stage.told.results == [case.result]


@pytest.mark.parametrize("local", [True, False])
async def test_a_disagreement_comes_with_both_reasons(*, local: bool) -> None:
    async with comparing(AnsweringApi({READER: claims(permissions=["groups:delete"])}), local=local) as stage:
        await stage.request(READER, "DELETE")
        await stage.request(READER)
    here, there = Reason.PERMISSION_DENIED, Reason.ALLOWED
    first = ("DELETE", "delete", *((here, there) if local else (there, here)))
    second = ("GET", "read", *((there, here) if local else (here, there)))
    assert stage.told.disagreements == [first, second]


async def test_who_cannot_tell_does_not_disagree() -> None:
    api = AnsweringApi()
    api.failure = Unavailable(Reason.AUTH_API_UNAVAILABLE, "The Auth-API cannot be asked at the moment.")
    async with comparing(api) as stage:
        await stage.request(READER)
    async with comparing(AnsweringApi({READER: claims()}), keys=NoKeys(), local=False) as other:
        await other.request(READER)
    assert stage.told.results == other.told.results == [("read", "unknown", "")]
    assert not stage.told.disagreements


class NoKeys(FixedKeys):
    def key(self, issuer: str, kid: str) -> VerificationKey:
        raise Unavailable(Reason.KEYS_UNAVAILABLE, "The keys to verify access tokens are not available at the moment.")


async def test_a_key_that_is_not_there_yet_is_waited_for() -> None:
    keys = FixedKeys()
    async with comparing(AnsweringApi({READER: claims()}), keys=keys, local=False) as stage:
        await stage.request(READER)
    assert keys.refreshes == [(ISSUER, "key-1")]
    assert stage.told.results == [("read", "local_stricter", "key_not_found")]


@pytest.mark.parametrize(("bearer", "path"), [(None, "/groups"), (READER, "/healthz"), (READER, "/nowhere")])
async def test_what_no_token_decides_is_not_compared(bearer: str | None, path: str) -> None:
    async with comparing(AnsweringApi()) as stage:
        await stage.request(bearer, "GET", path)
    assert (stage.told.results, stage.api.asked) == ([], [])


async def test_only_the_sample_is_compared() -> None:
    async with comparing(AnsweringApi(), sample=0.25, chance=0.25) as outside:
        await outside.request(READER)
    async with comparing(AnsweringApi(), sample=0.25, chance=0.2) as inside:
        await inside.request(READER)
    assert (len(outside.told.results), len(inside.told.results)) == (0, 1)


async def test_an_auth_api_that_hangs_costs_no_request_anything_and_bounded_memory() -> None:
    api = AnsweringApi()
    api.gate = asyncio.Event()
    async with comparing(api) as stage:
        for _ in range(QUEUE + AT_ONCE + 50):
            stage.clock.now += 1
            decision = await stage.request(READER)
            assert decision.reason is Reason.ALLOWED
        assert len(api.asked) == AT_ONCE
        assert stage.told.drops == 50


async def test_the_rate_is_bounded_in_the_long_run() -> None:
    async with comparing(AnsweringApi({READER: claims()})) as stage:
        for _ in range(PER_SECOND * 3):
            await stage.request(READER)
        assert (len(stage.told.results), stage.told.drops) == (PER_SECOND, PER_SECOND * 2)
        stage.clock.now += 0.5
        for _ in range(PER_SECOND):
            await stage.request(READER)
    assert len(stage.told.results) == PER_SECOND * 1.5


async def test_what_was_decided_by_other_rules_is_not_compared() -> None:
    api = AnsweringApi({READER: claims()})
    api.gate = asyncio.Event()
    async with comparing(api) as stage:
        await stage.request(READER)
        stage.comparison._other.authorizer.use_policy(parse_policy("version: 1\nrules: []\n"))
        api.gate.set()
        await settle()
    assert stage.told.results == []


async def test_a_defect_ends_one_comparison_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    api = AnsweringApi({READER: claims()})
    async with comparing(api) as stage:
        api.failure = ZeroDivisionError()
        await stage.request(READER)
        api.failure = None
        await stage.request(READER)
    assert stage.told.results == [("read", Result.AGREE, "")]
    assert "A comparison failed" in caplog.text
    assert READER not in caplog.text


def test_a_rule_changes_when_it_decides_otherwise_and_not_when_it_is_enforced() -> None:
    text = """
    version: 1
    rules:
      - {name: same, match: {path: /a}, require: {permission: "a"}}
      - {name: enforced, match: {path: /b}, require: {permission: "b"}, mode: shadow}
      - {name: requirement, match: {path: /c}, require: {permission: "c"}}
      - {name: path, match: {path: /d}, require: {permission: "d"}}
      - {name: gone, match: {path: /e}, require: {permission: "e"}}
    """
    after = text.replace("mode: shadow", "enforce_percent: 10").replace('"c"', '"c2"').replace("/d}", "/d2}")
    after = after.replace("name: gone", "name: new")
    assert changed_rules(parse_policy(text), parse_policy(after)) == {"requirement", "path", "gone"}
