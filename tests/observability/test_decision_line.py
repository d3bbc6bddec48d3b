"""A line holds what is needed to decide again, and nothing that a client would mind to see there."""

import json
import time
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import AccessRefused, Reason, RequestRefused, TokenRefused
from authz_service.model import Allow, Claims, Decision, HttpRequest, Mode
from authz_service.observability.decision_line import MAX_METHOD_LENGTH, decided, write_line
from authz_service.policy.grammar import METHOD_PATTERN
from authz_service.policy.hosts import HostList
from authz_service.policy.path import MAX_PATH_BYTES, split_target
from authz_service.policy.rollout import effective_mode, share
from authz_service.response.challenge import deny
from tests.support.tokens import ISSUER, NOW, token

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
"""Control characters and lone surrogates included."""
AUTHORIZED = (("authorization", "Bearer a.b.c"),)


def request(**fields: Any) -> HttpRequest:
    given = {"method": "GET", "path": "/groups/7", "host": "chat.example.com", "headers": (), "request_id": "r-1"}
    return HttpRequest(**(given | fields))


def claims(**payload: object) -> Claims:
    return Claims(
        ISSUER, "user-1", NOW, frozenset({"b:read", "a:read"}), frozenset({"member"}), MappingProxyType(payload)
    )


def allowed(**payload: object) -> Allow:
    return Allow(Reason.ALLOWED, "groups", Mode.ENFORCE, claims=claims(**payload), kid="key-1")


REFUSED = deny(TokenRefused(Reason.TOKEN_EXPIRED, "A sentence."), rule="groups")


def line(asked: HttpRequest, decision: Decision, *, plain_subject: bool = False) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(write_line(decided(asked, decision, NOW), plain_subject=plain_subject))
    return written


def test_an_allowed_request_is_told_with_what_the_policy_may_ask_of_its_caller() -> None:
    assert line(request(path="/groups/7?page=2"), allowed(org_id="org-1")) == {
        "v": 1, "time": "2025-06-15T15:06:40.000Z", "request_id": "r-1", "decision": "allow", "reason": "allowed",
        "rule": "groups", "mode": "enforce", "method": "GET", "path": "/groups/7", "host": "chat.example.com",
        "caller": {
            "issuer": ISSUER, "kid": "key-1", "sub_hash": "c6c289e49e9c05b2", "permissions": ["a:read", "b:read"],
            "roles": ["member"], "claims": {"org_id": "org-1"},
        },
    }  # fmt: skip


@pytest.mark.parametrize(("headers", "credentials"), [((), False), (AUTHORIZED, True)])
def test_of_whom_nothing_is_known_it_is_told_whether_credentials_came(
    headers: tuple[tuple[str, str], ...], credentials: bool
) -> None:
    written = line(request(headers=headers), REFUSED)
    assert (written["decision"], written["reason"], written["credentials"]) == ("deny", "token_expired", credentials)
    assert "caller" not in written


def test_a_preflight_is_told_as_one() -> None:
    headers = (("origin", "https://app.example.com"), ("access-control-request-method", "POST"))
    assert line(request(method="OPTIONS", headers=headers), REFUSED)["preflight"] is True
    assert "preflight" not in line(request(method="OPTIONS"), REFUSED)


def test_the_hash_of_a_caller_falls_into_the_share_that_percentages_pick() -> None:
    bucket = share(bytes.fromhex(line(request(), allowed())["caller"]["sub_hash"]))
    assert effective_mode(Mode.SHADOW, bucket, "user-1") is Mode.SHADOW
    assert effective_mode(Mode.SHADOW, bucket + 1, "user-1") is Mode.ENFORCE


def test_a_caller_has_a_name_only_if_that_is_wanted_also_where_rules_compare_it() -> None:
    decision = allowed(sub="user-1", org_id="org-1")
    assert "user-1" not in json.dumps(line(request(), decision))
    plain = line(request(), decision, plain_subject=True)["caller"]
    assert (plain["sub"], plain["claims"]) == ("user-1", {"org_id": "org-1"})


@pytest.mark.parametrize("value", [None, 7, True, ["org-1"], {"id": "org-1"}])
def test_a_compared_claim_that_can_equal_nothing_is_told_as_such(value: object) -> None:
    assert line(request(), allowed(org_id=value))["caller"]["claims"] == {"org_id": None}


TOKEN = token()
HEAD, PAYLOAD, SIGNATURE = TOKEN.split(".")


@pytest.mark.parametrize("where", [
    {"path": f"/groups?access_token={TOKEN}"}, {"path": f"/{TOKEN}"}, {"path": f"/key{TOKEN}/x"},
    {"path": f"/{HEAD}%2E{PAYLOAD}%2e{SIGNATURE}"}, {"path": f"/reset;{TOKEN[:-8]}"},
    {"path": f"/{HEAD}..{PAYLOAD}.{SIGNATURE}.x"},
    {"host": TOKEN}, {"method": TOKEN}, {"request_id": TOKEN},
    {"headers": (("authorization", f"Bearer {TOKEN}"), ("cookie", TOKEN), ("x-request-id", TOKEN))},
])  # fmt: skip
@pytest.mark.parametrize("decision", [allowed(), REFUSED, deny(RequestRefused(Reason.PATH_AMBIGUOUS, "A sentence."))])
def test_a_token_is_told_nowhere(where: dict[str, Any], decision: Decision) -> None:
    written = write_line(decided(request(**where), decision, NOW), plain_subject=True).decode()
    for part in (HEAD, PAYLOAD, SIGNATURE):
        assert part[:30] not in written
        assert part[-30:] not in written


@pytest.mark.parametrize("path", [
    "/static/app.bundle.min.js", "/files/report-2025.11.25.pdf", "/v1.2.3/groups", "/eyes.on.the-road", "/key/a.b.c",
])  # fmt: skip
def test_what_only_has_dots_is_told(path: str) -> None:
    assert line(request(path=path), allowed())["path"] == path


@pytest.mark.parametrize("piece", ["ey", "e", "ey.", "eyJhbGciOiJSUzI1.", "eyJhbGciOiJSUzI1%2e", "a-"])
def test_to_look_for_tokens_takes_time_that_grows_with_the_path_and_not_with_its_square(piece: str) -> None:
    def seconds(length: int) -> float:
        seen = decided(request(path="/" + piece * (length // len(piece))), REFUSED, NOW)
        started = time.perf_counter()
        write_line(seen, plain_subject=False)
        return time.perf_counter() - started

    short, long = zip(*((seconds(1_000), seconds(8_000)) for _ in range(40)), strict=True)
    eightfold = min(long) / min(short)
    assert eightfold < 20, "8 or less where it grows with the length, 64 with the square"


@given(method=ANY_TEXT, path=ANY_TEXT, host=ANY_TEXT, request_id=ANY_TEXT)
def test_whatever_a_client_sends_a_line_is_one_line_of_ascii(
    method: str, path: str, host: str, request_id: str
) -> None:
    asked = request(method=method, path=path, host=host, request_id=request_id)
    written = write_line(decided(asked, REFUSED, NOW), plain_subject=False)
    assert written.isascii()
    assert written.endswith(b"\n")
    assert written[:-1].decode().isprintable()
    assert json.loads(written)["path"] == path.partition("?")[0]


def test_what_is_too_long_to_match_anything_is_left_out_and_matches_nothing() -> None:
    written = line(request(method="A" * 99, path="/" + "a" * 99_999, host="a" * 9_999, request_id="a" * 999), REFUSED)
    assert [written[name] for name in ("method", "path", "host", "request_id")] == ["…"] * 4
    assert f"{{0,{MAX_METHOD_LENGTH - 1}}}$" in METHOD_PATTERN, "a rule may name longer methods than are told"
    with pytest.raises(RequestRefused):
        split_target("/" + "a" * MAX_PATH_BYTES)
    with pytest.raises(RequestRefused):
        split_target("…")
    assert not HostList(["*.example.com"]).permits("…")


def test_a_denial_holds_what_the_rule_asked_in_vain() -> None:
    decision = deny(AccessRefused(Reason.PERMISSION_DENIED, "A sentence."), rule="groups", claims=claims(), kid="k")
    written = line(request(), decision)
    assert (written["rule"], written["caller"]["permissions"]) == ("groups", ["a:read", "b:read"])
