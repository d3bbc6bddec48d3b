"""One Check call on real parts, and what must be true of its answer whatever was asked."""

import asyncio
import re
from collections.abc import Awaitable
from functools import lru_cache

from authz_service.authorizer import Authorizer
from authz_service.model import HttpRequest
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy
from authz_service.transport.check import encode_identity, read_check_request
from authz_service.transport.check_service import CheckService
from authz_service.ways import LocalWay
from tests.fuzz.issuer import GOOD_TOKEN, verifier
from tests.support.check_requests import Answer, read_answer
from tests.support.limits import LIMITS
from tests.support.oracle import applied, assert_denied, assert_no_spoof, is_identity
from tests.support.tokens import NOW

POLICY = """
version: 1
hosts: ["chat.example.com", "*.chat.internal"]
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: groups, match: {path: /groups, methods: [GET]}, require: {permission: "groups:read"}, cors_preflight: true}
  - {name: group, match: {path: "/groups/{id}", methods: [GET]}, require: {permission: "groups:read"}}
  - {name: delete, match: {path: "/groups/{id}", methods: [DELETE]}, require: {permission: "groups:delete"}}
  - {name: org, match: {prefix: "/orgs/{id}/"}, require: {role: member, claim_equals_param: {org_id: id}}}
  - {name: nobody, match: {prefix: /admin/}, require: {any_permission: []}}
  - {name: trial, match: {prefix: /trial/}, require: {role: admin}, mode: shadow}
"""

OPEN_DOORS = {
    ("public", "health"): r"(GET|HEAD) /healthz",
    ("cors_preflight", "groups"): r"OPTIONS /groups",
    ("allowed", "groups"): r"(GET|HEAD) /groups",
    ("allowed", "group"): r"(GET|HEAD) /groups/[^/]+",
    ("allowed", "org"): r"[A-Z]+ /orgs/org-1/.*",
}
"""The only ways to be let through but for the shadow rule: reason and rule, and the request that it takes."""
SHADOW_DOOR = r"[A-Z]+ /trial/.*"
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HOSTS = re.compile(r"(chat\.example\.com|[a-z0-9_.-]+\.chat\.internal)(:[0-9]*)?", re.IGNORECASE)
SUBJECT = "user-1"


class _NoRefresh:
    async def refresh_for_unknown_kid(self, issuer: str, kid: str) -> None:
        """No key comes of it."""


TIGHT = LIMITS._replace(max_token_bytes=2048)
AUTHORIZER = Authorizer(parse_policy(POLICY), verifier(), TIGHT, lambda: NOW, encode_identity)
SERVICE = CheckService(LocalWay(AUTHORIZER, _NoRefresh()), Metrics(), timer=lambda: 0.0)

LOOP = asyncio.new_event_loop()
"""For what waits; the same one for all inputs, because fuzzing has to be quick."""

read = lru_cache(4096)(read_answer)
"""The second reading takes its time, and most answers are alike."""


def judge(message: bytes) -> bool:
    """Whether the request that these bytes ask about is let through.

    :raises AssertionError: for an answer that no request may get.
    """
    answer = SERVICE.check(message)
    answered = read(answer if isinstance(answer, bytes) else LOOP.run_until_complete(_awaited(answer)))
    assert answered.metadata.keys() == {"reason", "rule", "sub", "kid", "mode"}
    assert all(value.isascii() and value.isprintable() for _, value in answered.headers)
    if answered.allowed:
        _judge_allow(answered, read_check_request(message))
    else:
        assert_denied(answered)
    return answered.allowed


async def _awaited(answer: Awaitable[bytes]) -> bytes:
    return await answer


def _judge_allow(answer: Answer, request: HttpRequest) -> None:
    metadata, line = answer.metadata, f"{request.method} {request.path.partition('?')[0]}"
    assert HOSTS.fullmatch(request.host)
    if metadata["mode"] == "shadow":
        assert metadata["rule"] == "trial"
        assert re.fullmatch(SHADOW_DOOR, line)
    else:
        assert re.fullmatch(OPEN_DOORS[metadata["reason"], metadata["rule"]], line)
    _judge_identity(answer, request)


def _judge_identity(answer: Answer, request: HttpRequest) -> None:
    """Whoever is named in a header has shown the token, and nothing that the client said of itself is left."""
    injected = dict(answer.headers)
    assert len(injected) == len(answer.headers)
    assert injected["x-auth-contract"] == "1"
    assert "authorization" in answer.removed
    # A name that is no token (RFC 9110 section 5.6.2) is in no request that an HTTP codec has let in.
    sent = [(name, value) for name, value in request.headers if TOKEN.fullmatch(name)]
    assert_no_spoof(applied(sent, answer), [header for header in answer.headers if is_identity(header[0])])
    shown = any(name.lower() == "authorization" and GOOD_TOKEN in value for name, value in sent)
    assert shown or not ("x-auth-sub" in injected or answer.metadata["sub"])
    assert "x-auth-sub" in injected or answer.metadata["reason"] != "allowed"
    assert injected.get("x-auth-sub", SUBJECT) == SUBJECT
