"""What a remembered caller is said to weigh, and what is kept of it: the bounds of the memory go by that."""

import gc
import weakref
from types import MappingProxyType
from typing import Any

import pytest

from authz_service import caller as room
from authz_service.caller import MAX_SHARED_BYTES, Caller, Introduction
from authz_service.model import Claims
from authz_service.policy.loader import Policy, parse_policy
from authz_service.token.verifier import VerifiedToken
from authz_service.transport.check import encode_identity
from tests.support.check_level import FixedKeys
from tests.support.tokens import ISSUER, KID, NOW, signing_key

POLICY = parse_policy("""
version: 1
claims_to_headers: {sub: x-auth-sub}
rules: [{name: own, match: {path: "/orgs/{id}"}, require: {claim_equals_param: {org_id: id}}}]
""")
MANY_HEADERS = parse_policy("""
version: 1
claims_to_headers: {sub: x-auth-sub, a: x-auth-a, b: x-auth-b}
rules: []
""")
KEY = FixedKeys(signing_key()).key(ISSUER, KID)


def introduction(policy: Policy = POLICY) -> Introduction:
    return Introduction(policy, 8192, encode_identity, forward_authorization=False)


def caller(by: Introduction, permissions: frozenset[str] = frozenset(), **payload: Any) -> Caller:
    claims = Claims(ISSUER, "user-1", NOW, permissions, frozenset(), MappingProxyType({"sub": "user-1", **payload}))
    return by.of(VerifiedToken(claims, KEY))


def many(number: int) -> frozenset[str]:
    return frozenset(f"group:{number}-{n}:read" for n in range(500))


def test_permissions_weigh_as_much_as_they_take_and_once_for_all_who_have_the_same() -> None:
    by = introduction()
    nobody, first, second = caller(by), caller(by, many(1)), caller(by, many(1))
    at_least = sum(map(len, many(1))) + 500 * 50
    assert first.size > nobody.size + at_least
    assert second.permissions is first.permissions
    assert second.size < nobody.size + 100


def test_permissions_do_not_outlive_their_callers_for_ever() -> None:
    by = introduction()
    first = weakref.ref(caller(by, many(0)).permissions)
    brought, number = 0, 1
    while brought <= MAX_SHARED_BYTES:
        brought += caller(by, many(number)).brought
        number += 1
    gc.collect()
    assert first() is None


def test_of_the_payload_only_text_is_kept_that_rules_compare() -> None:
    by = introduction()
    assert caller(by, org_id="org-1", other="x").payload == {"org_id": "org-1"}
    assert caller(by, org_id=[["org-1"] * 1000]).payload == {"org_id": None}


def unspoken(by: Introduction) -> list[tuple[str, ...]]:
    """What callers do not say of themselves, who have the claims ``a``, ``b``, both, and none."""
    claims: list[dict[str, Any]] = [{"a": "1"}, {"b": "1"}, {"a": "1", "b": "1"}, {}]
    return [caller(by, **each).identity().unspoken.names for each in claims]


def test_only_so_many_combinations_of_headers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_UNSPOKEN", 2)
    by = introduction(MANY_HEADERS)
    unspoken(by)
    assert len(by._unspoken_by) == 2


def test_a_combination_that_is_not_kept_is_as_right(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = unspoken(introduction(MANY_HEADERS))
    monkeypatch.setattr(room, "MAX_UNSPOKEN", 0)
    assert unspoken(introduction(MANY_HEADERS)) == kept
