"""Rows of hostile tokens, each through a whole Check, held to the one oracle of the global promise."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from authz_service.errors import Reason
from tests.support.check_level import Checks
from tests.support.check_requests import check_request
from tests.support.oracle import assert_denied
from tests.support.tokens import ABSENT, NOW, claims, signing_key

POLICY = """
version: 1
rules:
  - {name: groups, match: {path: /groups}, require: {permission: "groups:read"}}
"""
GOOD = signing_key().sign(claims())
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")


@pytest.fixture(scope="module")
def checks() -> Checks:
    return Checks(POLICY)


def shapes() -> Iterator[tuple[str, str]]:
    """Whole values of ``Authorization``."""
    yield "no dots", "Bearer abc"
    yield "two parts", f"Bearer {HEADER}.{PAYLOAD}"
    yield "no signature", f"Bearer {HEADER}.{PAYLOAD}."
    yield "five parts", f"Bearer {GOOD}.a.b"
    yield "JSON serialisation", 'Bearer {"protected":"e30"}'
    yield "padded", f"Bearer {GOOD}="
    yield "standard alphabet", f"Bearer {HEADER}.{PAYLOAD}.{SIGNATURE[:-2]}+/"
    yield "another last character", f"Bearer {HEADER}.{PAYLOAD}.{SIGNATURE[:-1]}{chr(ord(SIGNATURE[-1]) ^ 1)}"
    yield "a space inside", f"Bearer {HEADER} .{PAYLOAD}.{SIGNATURE}"
    yield "a tab before", f"Bearer \t{GOOD}"
    yield "a line break", f"Bearer {GOOD}\n"
    yield "not ASCII", f"Bearer {GOOD}é"
    yield "too long", f"Bearer {GOOD}{'a' * 9000}"
    yield "two in one", f"Bearer {GOOD}, Bearer {GOOD}"
    yield "twice the token", f"Bearer {GOOD} {GOOD}"
    yield "another scheme", f"Basic {GOOD}"
    yield "no scheme", GOOD
    yield "nothing", "Bearer "


def headers() -> Iterator[tuple[str, Any]]:
    """Changes of the JOSE header, signed by the right key."""
    for algorithm in ("none", "NONE", "HS256", "RS384", "rs256", "", 1, None, ["RS256"], {"RS256": 1}):
        yield f"alg {algorithm!r}", {"alg": algorithm}
    for kid in ("", 1, None, ["key-1"], "k" * 10_000, "a\nb", "\ud800"):
        yield f"kid {str(kid)[:12]!r}", {"kid": kid}
    for typ in ("JWE", "id_token", 1, None, ["JWT"]):
        yield f"typ {typ!r}", {"typ": typ}
    for name in ("crit", "b64", "zip", "cty"):
        yield name, {name: ["exp"] if name == "crit" else "JWT"}


def wrong_claims() -> Iterator[tuple[str, Any]]:
    """Claims that are absent, of a wrong type, on the boundary, or absurd."""
    wrong: tuple[Any, ...] = (ABSENT, None, True, 1, 1.5, "", [], {}, [1], [[]])
    for name in ("iss", "aud", "sub"):
        yield from ((f"{name} {value!r}", {name: value}) for value in wrong)
    for name in ("exp", "nbf", "iat"):
        absurd: tuple[Any, ...] = ("1", True, [], {}, -1, 2**53 + 2, 10**400, 1e308)
        yield from ((f"{name} {str(value)[:12]}", {name: value}) for value in absurd)
    yield "another issuer", {"iss": "http://auth-api:8000/"}
    yield "another audience", {"aud": "chat-api-2"}
    yield "exp absent", {"exp": ABSENT}
    yield "exp now", {"exp": NOW - 30}
    yield "nbf later", {"nbf": NOW + 31}
    yield "iat later", {"iat": NOW + 31}
    for name in ("permissions", "roles"):
        for value in ("groups:read", {"groups:read": 1}, [["groups:read"]], ["groups:read", 1], 1, None):
            yield f"{name} {value!r}", {name: value}
    for text in ("a\r\nx-auth-roles: admin", "a\x00", "\x7f", "\ud800", "\x85"):
        yield f"username {text!r}", {"username": text}
    yield "permissions with a line break", {"permissions": ["groups:read", "a\nb"]}
    yield "no such permission", {"permissions": ["groups:reader", "groups", "groups:read,"]}
    yield "too many permissions", {"permissions": ["groups:read", *(f"p{number}" for number in range(10_000))]}


def ids(rows: Iterator[tuple[str, Any]]) -> dict[str, Any]:
    return {"argvalues": [pytest.param(value, id=name.encode("unicode_escape").decode()) for name, value in rows]}


@pytest.mark.parametrize("value", **ids(shapes()))
def test_a_token_of_another_shape(checks: Checks, value: str) -> None:
    answer = checks.check(check_request(path="/groups", headers=[("authorization", value)], raw=True))
    assert_denied(answer, secrets=[SIGNATURE, PAYLOAD])


@pytest.mark.parametrize("change", **ids(headers()))
def test_a_token_with_another_header(checks: Checks, change: dict[str, Any]) -> None:
    header = json.dumps({"alg": "RS256", "typ": "JWT", "kid": signing_key().kid} | change).encode()
    token = signing_key().sign_octets(header, json.dumps(claims()).encode())
    answer = checks.check(check_request(path="/groups", headers=[("authorization", f"Bearer {token}")]))
    assert_denied(answer, secrets=[token.rpartition(".")[2]])


@pytest.mark.parametrize("change", **ids(wrong_claims()))
def test_a_token_with_other_claims(change: dict[str, Any]) -> None:
    checks = Checks(POLICY, max_token_bytes=200_000)
    token = signing_key().sign(claims(**change))
    answer = checks.check(check_request(path="/groups", headers=[("authorization", f"Bearer {token}")]))
    assert_denied(answer, secrets=[token.rpartition(".")[2]])


def test_none_of_these_makes_the_service_ask_anybody(checks: Checks) -> None:
    assert checks.keys.refreshes == []


def test_the_token_that_all_of_them_are_made_of_is_good(checks: Checks) -> None:
    answer = checks.check(check_request(path="/groups", headers=[("authorization", f"Bearer {GOOD}")]))
    assert answer.allowed
    assert answer.metadata["reason"] == Reason.ALLOWED


def test_ten_thousand_permissions_are_decided_on_whole_and_not_cut_short() -> None:
    many = [*(f"p{number}" for number in range(10_000)), "groups:read"]
    token = signing_key().sign(claims(permissions=many))
    checks = Checks(POLICY, max_token_bytes=200_000)
    answer = checks.check(check_request(path="/groups", headers=[("authorization", f"Bearer {token}")]))
    assert assert_denied(answer) is Reason.CLAIMS_TOO_LARGE
