"""The old way decides by what the Auth-API says of each token, each time, and by the same policy."""

import asyncio

import pytest

from authz_service.errors import Reason, Unavailable, UnknownKeyId, UnknownToken
from authz_service.migration.asking import AskedVerifier, AskingWay
from authz_service.model import HttpRequest
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy
from authz_service.token.claims import vouched_claims
from authz_service.token.jws import NO_KEY
from authz_service.token.verifier import VerifiedToken
from authz_service.transport.check import encode_identity
from authz_service.transport.check_service import CheckService
from tests.support.asked import AnsweringApi
from tests.support.check_requests import Answer, check_request, read_answer
from tests.support.limits import LIMITS
from tests.support.tokens import ABSENT, NOW, claims, token

POLICY = """
version: 1
hosts: [chat.example.com]
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - name: list-groups
    match: {path: /groups, methods: [GET]}
    require: {permission: "groups:read"}
    cors_preflight: true
  - {name: delete-groups, match: {path: /groups, methods: [DELETE]}, require: {permission: "groups:delete"}}
  - {name: trial, match: {path: /trial, methods: [GET]}, require: {permission: "trial:use"}, mode: shadow}
"""
HS256_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJl"


class Checks:
    """Check calls, with a table for an Auth-API."""

    def __init__(self, auth_api: AnsweringApi) -> None:
        limits = LIMITS._replace(max_token_bytes=1024)
        self.way = AskingWay(parse_policy(POLICY), limits, lambda: NOW, encode_identity, auth_api)
        self.service = CheckService(self.way, Metrics(), timer=lambda: 0.0)

    async def check(
        self, bearer: str | None, path: str = "/groups", method: str = "GET", host: str = "chat.example.com",
        *headers: tuple[str, str],
    ) -> Answer:  # fmt: skip
        credentials = [("authorization", f"Bearer {bearer}")] if bearer is not None else []
        answer = self.service.check(check_request(method, path, host, [*credentials, *headers]))
        return read_answer(answer if isinstance(answer, bytes) else await answer)


async def test_the_policy_is_held_against_what_the_auth_api_says() -> None:
    checks = Checks(AnsweringApi({HS256_TOKEN: claims(permissions=["groups:read"])}))
    allowed = await checks.check(HS256_TOKEN)
    denied = await checks.check(HS256_TOKEN, method="DELETE")
    assert (allowed.allowed, allowed.metadata["reason"]) == (True, "allowed")
    assert (denied.http_status, denied.metadata["reason"]) == (403, "permission_denied")


async def test_chat_api_reads_the_same_identity_as_of_a_verified_token() -> None:
    answer = await Checks(AnsweringApi({HS256_TOKEN: claims()})).check(HS256_TOKEN)
    assert dict(answer.headers) == {
        "x-auth-contract": "1", "x-auth-sub": "user-1", "x-auth-org-id": "org-1", "x-auth-roles": "member",
        "x-auth-permissions": "groups:read,messages:read", "x-auth-username": "ada", "x-auth-email": "ada@example.com",
        "x-auth-exp": str(claims()["exp"]),
    }  # fmt: skip
    assert "authorization" in answer.removed


async def test_an_expiry_that_nobody_names_is_no_header() -> None:
    answer = await Checks(AnsweringApi({HS256_TOKEN: claims(exp=ABSENT)})).check(HS256_TOKEN)
    assert "x-auth-exp" not in dict(answer.headers)
    assert "x-auth-exp" in answer.removed


async def test_a_refused_token_is_401() -> None:
    answer = await Checks(AnsweringApi()).check(token())
    assert (answer.http_status, answer.metadata["reason"]) == (401, "signature_invalid")


async def test_no_answer_is_503_and_may_be_tried_again() -> None:
    auth_api = AnsweringApi()
    auth_api.failure = Unavailable(Reason.AUTH_API_UNAVAILABLE, "The Auth-API cannot be asked at the moment.")
    answer = await Checks(auth_api).check(token())
    assert (answer.http_status, answer.metadata["reason"]) == (503, "auth_api_unavailable")
    assert dict(answer.headers)["retry-after"] == "1"
    assert answer.is_error


async def test_a_defect_denies() -> None:
    auth_api = AnsweringApi({HS256_TOKEN: claims()})
    auth_api.failure = ZeroDivisionError()
    assert (await Checks(auth_api).check(HS256_TOKEN)).http_status == 500


async def test_shadow_lets_pass_and_introduces_who_is_known() -> None:
    checks = Checks(AnsweringApi({HS256_TOKEN: claims()}))
    known, unknown = await checks.check(HS256_TOKEN, "/trial"), await checks.check("unknown", "/trial")
    assert known.allowed
    assert dict(known.headers)["x-auth-shadow"] == "would-deny; reason=permission_denied"
    assert dict(known.headers)["x-auth-sub"] == "user-1"
    assert unknown.allowed
    assert dict(unknown.headers)["x-auth-shadow"] == "would-deny; reason=signature_invalid"
    assert "x-auth-sub" not in dict(unknown.headers)


NOT_ASKED = {
    "a public route": ("health", {"bearer": HS256_TOKEN, "path": "/healthz"}),
    "no rule": ("no_matching_rule", {"bearer": HS256_TOKEN, "path": "/nowhere"}),
    "no token": ("token_missing", {"bearer": None}),
    "another host": ("host_not_allowed", {"bearer": HS256_TOKEN, "host": "evil.example"}),
    "a path of two meanings": ("path_ambiguous", {"bearer": HS256_TOKEN, "path": "/groups//"}),
    "characters that no token has": ("token_malformed", {"bearer": "a b"}),
    "a token that is too large": ("token_too_large", {"bearer": "x" * 1025}),
}


@pytest.mark.parametrize("name", NOT_ASKED)
async def test_the_auth_api_is_asked_only_where_a_token_decides(name: str) -> None:
    expected, request = NOT_ASKED[name]
    auth_api = AnsweringApi({HS256_TOKEN: claims()})
    answer = await Checks(auth_api).check(**request)  # type: ignore[arg-type]
    assert expected in {answer.metadata["reason"], answer.metadata["rule"]}
    assert auth_api.asked == []


async def test_a_preflight_asks_nobody() -> None:
    auth_api = AnsweringApi()
    preflight = (("origin", "https://app.example"), ("access-control-request-method", "GET"))
    answer = await Checks(auth_api).check(None, "/groups", "OPTIONS", "chat.example.com", *preflight)
    assert answer.metadata["reason"] == "cors_preflight"
    assert auth_api.asked == []


async def test_each_request_asks_and_nothing_is_remembered() -> None:
    auth_api = AnsweringApi({HS256_TOKEN: claims()})
    checks = Checks(auth_api)
    assert [(await checks.check(HS256_TOKEN)).allowed for _ in range(3)] == [True] * 3
    assert auth_api.asked == [HS256_TOKEN] * 3
    assert len(checks.way.authorizer.remembered) == 0
    auth_api.known.clear()
    assert (await checks.check(HS256_TOKEN)).http_status == 401


async def test_answers_to_requests_at_once_do_not_meet() -> None:
    """The one who may, the one who may not, and the one who is nobody, all waiting for the Auth-API together."""
    auth_api = AnsweringApi({"may": claims(sub="may"), "may-not": claims(sub="may-not", permissions=[])})
    auth_api.gate = asyncio.Event()
    checks = Checks(auth_api)
    tokens = ["may", "may-not", "nobody"] * 20
    answers = asyncio.gather(*(checks.check(bearer) for bearer in tokens))
    while len(auth_api.asked) < len(tokens):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    auth_api.gate.set()
    outcomes = [(answer.metadata["reason"], answer.metadata["sub"]) for answer in await answers]
    assert outcomes == [("allowed", "may"), ("permission_denied", "may-not"), ("signature_invalid", "")] * 20


def test_an_answer_is_about_one_token_and_no_other() -> None:
    verifier = AskedVerifier()
    verifier.hold("asked-about", VerifiedToken(vouched_claims(claims(), "http://issuer"), NO_KEY))
    assert verifier.verify("asked-about", NOW).claims.subject == "user-1"
    with pytest.raises(UnknownToken):
        verifier.verify("another", NOW)


async def test_a_question_that_is_not_about_a_token_is_not_answered() -> None:
    request = HttpRequest("GET", "/groups", "chat.example.com", ())
    with pytest.raises(UnknownKeyId):
        await Checks(AnsweringApi()).way.decide(request, UnknownKeyId("http://issuer", "key-1"))
