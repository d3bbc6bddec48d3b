"""What hostile requests leave behind in logs and metrics: no token, no secret, no forged line, no label value."""

import json
import signal
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from authz_service.address import Address
from authz_service.errors import FetchFailure, Reason
from authz_service.keys.jwk import DocumentFault
from authz_service.migration.logged import read_line
from authz_service.model import Mode
from authz_service.observability.metrics import BOUNDS_SECONDS
from demo.auth_api import Issuer, auth_api
from tests.support.check_requests import AUTH, Answer, check_request, encode, header_map, message, read_answer
from tests.support.oracle import assert_denied
from tests.support.ports import free_port
from tests.support.service import Service
from tests.support.tokens import ABSENT, b64, compact, compact_json, signing_key
from tests.support.web import serve_app

CHECK = "/envoy.service.auth.v3.Authorization/Check"
POLICY = """
version: 1
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: groups, match: {path: /groups, methods: [GET]}, require: {permission: "groups:read"}}
  - {name: secret, match: {prefix: "/secret/{name}/"}, require: {role: root, claim_equals_param: {sub: name}}}
  - {name: trial, match: {path: /trial}, require: {permission: "trial:read"}, mode: shadow}
"""
RULES = {"", "health", "groups", "secret", "trial"}

MARK = "hostile-mark"
"""Part of everything that a client or the issuer chooses here; no line may hold it."""
CONTROLS = f"{MARK}\r\n{{\"level\": \"info\"}}\x1b[31m\x00\u2028\x85\x7f"


class OddIssuer(Issuer):
    """Its key set holds good keys, and entries that are reported as skipped."""

    def key_set(self) -> dict[str, Any]:
        odd: list[object] = [
            {"kty": "oct", "kid": "shared", "k": b64(MARK.encode())},
            {"kty": "RSA", "kid": "a\r\n{\"level\": \"info\"}\x1b[31m\x00\u2028\x85\x7f", "n": "AQAB", "e": "AQAB"},
            signing_key("published").jwk(d=b64(MARK.encode() * 4)),
            MARK,
        ]
        return {"keys": [*super().key_set()["keys"], *odd]}


def tokens(issuer: Issuer, salt: str) -> dict[str, str]:
    """Bad ones of all kinds."""
    claims = issuer.claims("full") | {"jti": f"{MARK}-{salt}"}
    good = issuer.key.sign(claims)
    head, payload, signature = good.split(".")
    header = {"alg": "RS256", "typ": "at+jwt", "kid": issuer.key.kid}
    stranger = signing_key("stranger")
    return {
        "signature of another": f"{head}.{payload}.{stranger.sign(claims).split('.')[2]}",
        "signature cut short": good[:-8],
        "payload changed": f"{head}.{b64(compact_json(claims | {'sub': 'root'}))}.{signature}",
        "expired": issuer.key.sign(claims | {"exp": 1}),
        "another issuer": issuer.key.sign(claims | {"iss": f"http://{MARK}"}),
        "another audience": issuer.key.sign(claims | {"aud": MARK}),
        "control characters in sub": issuer.key.sign(claims | {"sub": CONTROLS}),
        "control characters in username": issuer.key.sign(claims | {"username": CONTROLS}),
        "permissions of a wrong type": issuer.key.sign(claims | {"permissions": MARK}),
        "unknown kid": stranger.sign(claims, kid=f'un"known\\{salt}'),  # a log line names it, once per cooldown
        "control characters in kid": stranger.sign(claims, kid=CONTROLS),
        "kid of a wrong type": stranger.sign(claims, kid=[MARK]),
        "no kid": stranger.sign(claims, kid=ABSENT),
        "algorithm none": compact(compact_json(header | {"alg": "none"}), compact_json(claims), b""),
        "algorithm made up": compact(compact_json(header | {"alg": CONTROLS}), compact_json(claims), b"x" * 256),
        "key in the header": stranger.sign(claims, jwk=stranger.jwk(), jku=f"http://{MARK}/"),
        "no JSON": compact(b"{" + MARK.encode(), b"{", b"x" * 256),
        "no token": f"{MARK}{salt}.{MARK}",
        "not ASCII": f"{head}.{payload}.{MARK}é",
        "large": f"{head}.{payload}.{MARK}" + "A" * 9000,
    }


class Battery(NamedTuple):
    """Check messages, each of them to be refused, and what must not be told of them afterwards."""

    messages: list[bytes]
    secrets: set[str]


def battery(issuer: Issuer, salt: str = "first") -> Battery:
    bad = tokens(issuer, salt)
    good = issuer.key.sign(issuer.claims("full") | {"jti": f"{MARK}-{salt}"})
    messages = [
        *(bearer(token, raw=raw) for token in bad.values() for raw in (False, True)),
        *(each for raw in (False, True) for each in about(good, salt, raw=raw)),
        encode(message(f"{AUTH}.AttributeContextHttpRequest")(
            method="GET", path="/groups", header_map=header_map([("authorization", b"Bearer \xff" + MARK.encode())]),
        )),
        b"\xff" + good.encode(),
        good.encode(),
    ]  # fmt: skip
    parts = {part for token in (good, *bad.values()) for part in token.split(".") if len(part) > 8}
    return Battery(messages, {MARK, b64(MARK.encode()), *parts, *(part[:40] for part in parts)})


def bearer(token: str, *, raw: bool) -> bytes:
    return check_request(path="/groups", headers=[("authorization", f"Bearer {token}")], raw=raw)


def about(good: str, salt: str, *, raw: bool) -> Iterator[bytes]:
    """A good token where it must not be looked for, and hostile text around it."""
    truth = ("authorization", f"Bearer {good}")
    yield check_request(path=f"/groups?access_token={good}", raw=raw)
    yield check_request(path=f"/{good}", headers=[truth], raw=raw)
    yield check_request(path="/groups", headers=[("cookie", f"access_token={good}; {MARK}")], raw=raw)
    yield check_request(path="/groups", headers=[("authorization", f"Basic {good}")], raw=raw)
    yield check_request(path="/groups", headers=[("authorization", f"Bearer {good}, Bearer {good}")], raw=raw)
    yield check_request(path="/groups", headers=[("x-auth-sub", CONTROLS), (CONTROLS, CONTROLS)], raw=raw)
    yield check_request(path=f"/secret/{MARK}-{salt}/x", headers=[truth], raw=raw)
    yield check_request(path=f"/groups/{CONTROLS}{salt}", headers=[truth], raw=raw)
    yield check_request(path="/nowhere", host=CONTROLS, headers=[truth], raw=raw)
    yield check_request(f"{CONTROLS}{salt}", path="/groups", headers=[truth], raw=raw)
    yield check_request(path="/groups", request_id=CONTROLS, raw=raw)


class UnheardService(Service):
    """Found at its admin port, whatever it logs or does not."""

    def __init__(self, directory: Path, environ: Mapping[str, str], policy: str) -> None:
        self._admin = Address("127.0.0.1", free_port())
        super().__init__(directory, {**environ, "AUTHZ_ADMIN_LISTEN": str(self._admin)}, policy)

    def _listening(self) -> str | None:
        with socket.socket() as probe:
            return f"admin on {self._admin}" if probe.connect_ex(self._admin[:2]) == 0 else None


class Attacked(NamedTuple):
    """A service after a battery."""

    issuer: Issuer
    service: Service
    secrets: set[str]


async def ask(service: Service, messages: Iterable[bytes]) -> list[Answer]:
    async with grpc.aio.insecure_channel(f"unix:{service.address.path}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(CHECK)
        return [read_answer(await call(each, wait_for_ready=True)) for each in messages]


async def attack(service: Service, messages: Iterable[bytes], secrets: Iterable[str]) -> None:
    """Every message is refused as promised."""
    for answer in await ask(service, messages):
        assert_denied(answer, secrets=secrets)


@asynccontextmanager
async def attacked(
    directory: Path, level: str, log_format: str = "json", **environ: str
) -> AsyncIterator[Attacked]:
    issuer = OddIssuer("http://issuer.test")
    async with serve_app(auth_api(issuer)) as url:
        running = UnheardService(directory, {
            "AUTH_API_ISSUER": issuer.url, "AUTH_API_JWKS_URL": f"{url}/.well-known/jwks.json",
            "AUTHZ_LOG_LEVEL": level, "AUTHZ_LOG_FORMAT": log_format, **environ,
        }, POLICY)  # fmt: skip
        try:
            await running.start()
            await running.until_ready()
            messages, secrets = battery(issuer)
            await attack(running, messages, secrets)
            yield Attacked(issuer, running, secrets)
        finally:
            if running.running:
                await running.stop(signal.SIGKILL)


@pytest.mark.parametrize(("level", "log_format"), [
    ("debug", "json"), ("info", "json"), ("warning", "json"), ("error", "json"), ("debug", "text"),
])  # fmt: skip
async def test_no_line_tells_what_a_client_or_the_key_set_said(tmp_path: Path, level: str, log_format: str) -> None:
    async with attacked(tmp_path, level, log_format) as victim:
        await victim.service.stop(signal.SIGINT)
        log = victim.service.raw_log()
        assert [secret for secret in victim.secrets if secret in log] == []
        lines = log.split("\n")[:-1]
        assert [line for line in lines if not line.isprintable()] == []
        if log_format == "json":
            assert all({"time", "level", "logger", "message"} <= json.loads(line).keys() for line in lines)
        assert ("skipped" in log) == (level != "error")  # there was something to tell


async def test_the_decision_log_has_a_good_line_for_each_request_and_no_token_in_any(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    async with attacked(tmp_path, "error", AUTHZ_DECISION_LOG=str(path)) as victim:
        await victim.service.stop(signal.SIGINT)
    log = path.read_bytes()
    tokens = {secret for secret in victim.secrets if len(secret) > 30}  # what else stands in a path is told
    assert [token for token in tokens if token.encode() in log] == []
    reasons = [read_line(line).answer.reason for line in log.splitlines()]
    unreadable = 2
    assert len(reasons) == len(battery(victim.issuer).messages) - unreadable
    assert {"token_malformed", "signature_invalid", "path_ambiguous"} <= set(reasons)


def labels_of(page: str) -> Iterator[tuple[str, str]]:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            yield from sample.labels.items()


def series_of(page: str) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(page) for sample in family.samples
    }  # fmt: skip


async def test_every_label_has_a_value_from_a_closed_list(tmp_path: Path) -> None:
    async with attacked(tmp_path, "info") as victim:
        closed = {
            "decision": {"allow", "deny"}, "reason": {*Reason}, "rule": RULES, "mode": {*Mode},
            "result": {"success", "failure", "granted", "denied"}, "cause": {*FetchFailure, *DocumentFault},
            "kid": {victim.issuer.key.kid}, "le": {*map(str, BOUNDS_SECONDS), "+Inf"},
            "issuer": {victim.issuer.url}, "algorithm": {"none", "other"}, "way": {"local", "auth_api"},
        }  # fmt: skip
        (allowed,) = await ask(victim.service, [bearer(victim.issuer.mint("full"), raw=False)])
        assert allowed.allowed
        page = await victim.service.metrics()
        found = set(labels_of(page))
        assert {(name, value) for name, value in found if value not in closed.get(name, set())} == set()
        assert {"decision", "reason", "rule", "mode"} <= {name for name, _ in found}
        assert [secret for secret in victim.secrets if secret in page] == []


async def test_another_battery_brings_no_new_series(tmp_path: Path) -> None:
    async with attacked(tmp_path, "info") as victim:
        before = series_of(await victim.service.metrics())
        messages, secrets = battery(victim.issuer, "second")
        await attack(victim.service, messages, secrets)
        assert series_of(await victim.service.metrics()) == before
