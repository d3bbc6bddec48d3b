"""A refusal is told as RFC 6750 says, in words that repeat nothing the client sent."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import (
    AccessRefused,
    InternalError,
    Reason,
    Refused,
    RequestRefused,
    TokenRefused,
    Unavailable,
)
from authz_service.model import Deny, Mode
from authz_service.response.challenge import deny
from tests.support.tokens import claims_of

NO_SCOPE = (
    'Bearer realm="chat-api", error="insufficient_scope", '
    'error_description="The access token does not permit this request"'
)


def challenge(answer: Deny) -> str | None:
    values = [value for name, value in answer.headers if name == "www-authenticate"]
    assert len(values) <= 1
    return values[0] if values else None


def every_refusal() -> list[Refused]:
    trees = (TokenRefused, RequestRefused, AccessRefused, Unavailable, InternalError)
    return [tree(reason, "A sentence.") for tree in trees for reason in sorted(tree.reasons)]


def test_no_credentials_get_a_challenge_without_an_error_code() -> None:
    answer = deny(TokenRefused(Reason.TOKEN_MISSING, "An access token is required."))
    assert (answer.status, challenge(answer)) == (401, 'Bearer realm="chat-api"')


@pytest.mark.parametrize("reason", sorted(TokenRefused.reasons - {Reason.TOKEN_MISSING, Reason.TOKEN_EXPIRED}))
def test_a_bad_token_is_an_invalid_token_whatever_is_wrong_with_it(reason: Reason) -> None:
    answer = deny(TokenRefused(reason, "A sentence."))
    assert answer.status == 401
    assert challenge(answer) == (
        'Bearer realm="chat-api", error="invalid_token", error_description="The access token is not acceptable"'
    )


def test_an_expired_token_may_be_told_apart_since_clients_act_on_it() -> None:
    answer = deny(TokenRefused(Reason.TOKEN_EXPIRED, "The access token expired 12 s ago."))
    assert challenge(answer) == (
        'Bearer realm="chat-api", error="invalid_token", error_description="The access token expired"'
    )
    assert json.loads(answer.body)["message"] == "The access token expired 12 s ago."


@pytest.mark.parametrize("reason", sorted(RequestRefused.reasons))
def test_an_ambiguous_request_is_an_invalid_request(reason: Reason) -> None:
    answer = deny(RequestRefused(reason, "A sentence."))
    assert answer.status == 400
    assert challenge(answer) == (
        'Bearer realm="chat-api", error="invalid_request", '
        'error_description="The request is ambiguous or malformed"'
    )


def test_a_missing_permission_is_named_in_scope_and_body() -> None:
    required = {"all": ["groups:read", "groups:delete"]}
    answer = deny(AccessRefused(Reason.PERMISSION_DENIED, "A permission lacks.", required=required))
    assert answer.status == 403
    assert challenge(answer) == f'{NO_SCOPE}, scope="groups:delete groups:read"'
    assert json.loads(answer.body)["required"] == required


@pytest.mark.parametrize("permission", ['a"b', "a\\b", "a b", "", "ä", "a\n", "\x7f"])
def test_a_permission_that_is_no_scope_token_is_named_in_the_body_only(permission: str) -> None:
    answer = deny(AccessRefused(Reason.PERMISSION_DENIED, "A permission lacks.", required={"all": ["ok", permission]}))
    assert challenge(answer) == NO_SCOPE
    assert json.loads(answer.body)["required"] == {"all": ["ok", permission]}


def test_every_character_of_a_scope_token_is_accepted() -> None:
    permission = "".join(map(chr, [0x21, *range(0x23, 0x5C), *range(0x5D, 0x7F)]))  # RFC 6749 section 3.3
    answer = deny(AccessRefused(Reason.PERMISSION_DENIED, "A permission lacks.", required={"any": [permission]}))
    assert challenge(answer) == f'{NO_SCOPE}, scope="{permission}"'


def test_a_denial_that_names_nothing_has_no_scope() -> None:
    answer = deny(AccessRefused(Reason.NO_MATCHING_RULE, "No rule permits this request."))
    assert challenge(answer) == NO_SCOPE
    assert "required" not in json.loads(answer.body)


def test_a_rule_that_grants_to_nobody_has_no_empty_scope() -> None:
    answer = deny(AccessRefused(Reason.PERMISSION_DENIED, "A sentence.", required={"any": []}))
    assert challenge(answer) == NO_SCOPE


@pytest.mark.parametrize("reason", sorted(Unavailable.reasons))
def test_an_outage_says_when_to_come_back_and_blames_no_token(reason: Reason) -> None:
    answer = deny(Unavailable(reason, "A sentence.", retry_after=7))
    assert answer.status == 503
    assert ("retry-after", "7") in answer.headers
    assert challenge(answer) is None


def test_a_defect_is_a_500_without_a_challenge() -> None:
    answer = deny(InternalError(Reason.INTERNAL_ERROR, "Internal error."))
    assert answer.status == 500
    assert challenge(answer) is None
    assert "retry-after" not in dict(answer.headers)


@pytest.mark.parametrize("refused", every_refusal(), ids=lambda refused: refused.reason)
def test_every_denial_is_json_that_no_cache_keeps_and_no_header_of_it_is_an_identity(refused: Refused) -> None:
    answer = deny(refused, rule="a-rule", request_id="abc", claims=claims_of("user-1"), kid="key-1")
    headers = dict(answer.headers)
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert not any(name.startswith("x-auth") for name in headers)
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert json.loads(answer.body) == {"error": refused.reason, "message": "A sentence.", "request_id": "abc"}
    assert (answer.reason, answer.rule, answer.mode) == (refused.reason, "a-rule", Mode.ENFORCE)
    assert (answer.subject, answer.kid) == ("user-1", "key-1")


def test_what_is_not_known_is_left_empty() -> None:
    answer = deny(RequestRefused(Reason.PATH_AMBIGUOUS, "A sentence."))
    assert (answer.rule, answer.mode, answer.subject, answer.kid) == ("", Mode.ENFORCE, "", "")
    assert json.loads(answer.body)["request_id"] == ""


def test_all_reasons_but_those_that_allow_are_refusals() -> None:
    allowing = {Reason.ALLOWED, Reason.PUBLIC, Reason.CORS_PREFLIGHT}
    assert {refused.reason for refused in every_refusal()} == set(Reason) - allowing


@pytest.mark.parametrize("request_id", ["a" * 129, "a\nb", "é", "\x00", "\ud800"])
def test_a_request_id_that_is_not_plain_is_left_out(request_id: str) -> None:
    answer = deny(TokenRefused(Reason.TOKEN_MISSING, "A sentence."), request_id=request_id)
    assert json.loads(answer.body)["request_id"] == ""


def test_the_longest_plain_request_id_is_repeated() -> None:
    answer = deny(TokenRefused(Reason.TOKEN_MISSING, "A sentence."), request_id="a" * 128)
    assert json.loads(answer.body)["request_id"] == "a" * 128


@given(st.text())
def test_no_request_id_breaks_out_of_the_body(request_id: str) -> None:
    answer = deny(TokenRefused(Reason.TOKEN_MISSING, "A sentence."), request_id=request_id)
    assert json.loads(answer.body)["request_id"] in {request_id, ""}
    assert answer.body.isascii()
