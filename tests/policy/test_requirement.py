from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.errors import AccessRefused, Reason
from authz_service.model import Claims
from authz_service.policy.requirement import Requirement

READ, WRITE, DELETE = "groups:read", "groups:write", "groups:delete"


def claims(permissions: tuple[str, ...] = (), roles: tuple[str, ...] = (), **payload: Any) -> Claims:
    return Claims(
        issuer="http://auth-api:8000", subject="u1", expires_at=2_000_000_000, permissions=frozenset(permissions),
        roles=frozenset(roles), payload=MappingProxyType(payload),
    )  # fmt: skip


def refusal(requirement: Requirement, given: Claims, params: dict[str, str] | None = None) -> AccessRefused:
    with pytest.raises(AccessRefused) as caught:
        requirement.check(given, params or {})
    return caught.value


PERMISSION_HOLDS = {
    "the one": (Requirement(all_permissions=frozenset({READ})), (READ,)),
    "the one among others": (Requirement(all_permissions=frozenset({READ})), (WRITE, READ, DELETE)),
    "all": (Requirement(all_permissions=frozenset({READ, DELETE})), (DELETE, READ)),
    "one of any": (Requirement(any_permission=frozenset({READ, DELETE})), (DELETE,)),
    "all and one of any": (
        Requirement(all_permissions=frozenset({READ}), any_permission=frozenset({WRITE, DELETE})), (READ, WRITE),
    ),
}  # fmt: skip

PERMISSION_LACKS = {
    "none at all": (Requirement(all_permissions=frozenset({READ})), ()),
    "another": (Requirement(all_permissions=frozenset({READ})), (WRITE,)),
    "one of two": (Requirement(all_permissions=frozenset({READ, DELETE})), (READ,)),
    "none of any": (Requirement(any_permission=frozenset({READ, DELETE})), (WRITE,)),
    "all without one of any": (
        Requirement(all_permissions=frozenset({READ}), any_permission=frozenset({WRITE})), (READ,),
    ),
    "one of any without all": (
        Requirement(all_permissions=frozenset({READ}), any_permission=frozenset({WRITE})), (WRITE,),
    ),
    "any of nothing": (Requirement(any_permission=frozenset()), (READ, WRITE, DELETE)),
    "any of nothing, no permissions": (Requirement(any_permission=frozenset()), ()),
    "upper case": (Requirement(all_permissions=frozenset({READ})), ("GROUPS:READ",)),
    "longer": (Requirement(all_permissions=frozenset({READ})), ("groups:readonly",)),
    "shorter": (Requirement(all_permissions=frozenset({READ})), ("groups:rea", "groups", "")),
    "asterisk in the token": (Requirement(all_permissions=frozenset({READ})), ("groups:*", "*")),
    "asterisk in the rule": (Requirement(all_permissions=frozenset({"groups:*"})), (READ,)),
    "joined by a comma": (Requirement(all_permissions=frozenset({READ})), (f"{READ},{WRITE}",)),
    "space around it": (Requirement(all_permissions=frozenset({READ})), (f" {READ}",)),
    "composed another way": (Requirement(all_permissions=frozenset({"caf\u00e9"})), ("cafe\u0301",)),
}  # fmt: skip


@pytest.mark.parametrize(("requirement", "granted"), PERMISSION_HOLDS.values(), ids=PERMISSION_HOLDS)
def test_granted_permissions_satisfy(requirement: Requirement, granted: tuple[str, ...]) -> None:
    requirement.check(claims(granted), {})


@pytest.mark.parametrize(("requirement", "granted"), PERMISSION_LACKS.values(), ids=PERMISSION_LACKS)
def test_lacking_permissions_are_denied(requirement: Requirement, granted: tuple[str, ...]) -> None:
    assert refusal(requirement, claims(granted)).reason is Reason.PERMISSION_DENIED


def test_a_permission_is_not_taken_from_the_roles() -> None:
    requirement = Requirement(all_permissions=frozenset({"admin"}))
    assert refusal(requirement, claims(roles=("admin",))).reason is Reason.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("requirement", "roles"),
    [
        (Requirement(all_roles=frozenset({"admin"})), ("admin", "user")),
        (Requirement(any_role=frozenset({"admin", "owner"})), ("owner",)),
        (Requirement(all_roles=frozenset({"user"}), any_role=frozenset({"admin", "owner"})), ("user", "admin")),
    ],
    ids=["role", "any_role", "both"],
)
def test_granted_roles_satisfy(requirement: Requirement, roles: tuple[str, ...]) -> None:
    requirement.check(claims(roles=roles), {})


@pytest.mark.parametrize(
    ("requirement", "roles"),
    [
        (Requirement(all_roles=frozenset({"admin"})), ("user",)),
        (Requirement(all_roles=frozenset({"admin"})), ("administrator", "Admin")),
        (Requirement(any_role=frozenset({"admin", "owner"})), ("user",)),
        (Requirement(any_role=frozenset()), ("admin", "owner")),
        (Requirement(all_roles=frozenset({"user"}), any_role=frozenset({"admin"})), ("admin",)),
    ],
    ids=["role", "other spellings", "any_role", "any of nothing", "both"],
)
def test_lacking_roles_are_denied(requirement: Requirement, roles: tuple[str, ...]) -> None:
    assert refusal(requirement, claims(roles=roles)).reason is Reason.ROLE_DENIED


def test_any_valid_token_satisfies_authenticated() -> None:
    Requirement(authenticated=True).check(claims(), {})


ORG = Requirement(claim_equals_param=(("org_id", "org"),))


def test_a_claim_that_equals_the_parameter_satisfies() -> None:
    ORG.check(claims(org_id="o-7"), {"org": "o-7"})


MISMATCHES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "another": ({"org_id": "o-8"}, {"org": "o-7"}),
    "absent claim": ({}, {"org": "o-7"}),
    "absent parameter": ({"org_id": "o-7"}, {}),
    "both absent": ({}, {}),
    "null": ({"org_id": None}, {}),
    "null against its name": ({"org_id": None}, {"org": "None"}),
    "number": ({"org_id": 7}, {"org": "7"}),
    "boolean": ({"org_id": True}, {"org": "True"}),
    "list": ({"org_id": ["o-7"]}, {"org": "o-7"}),
    "object": ({"org_id": {"o-7": 1}}, {"org": "o-7"}),
    "other case": ({"org_id": "O-7"}, {"org": "o-7"}),
    "longer": ({"org_id": "o-77"}, {"org": "o-7"}),
    "composed another way": ({"org_id": "cafe\u0301"}, {"org": "caf\u00e9"}),
    "under the parameter's name": ({"org": "o-7"}, {"org": "o-7"}),
    "parameter under the claim's name": ({"org_id": "o-7"}, {"org_id": "o-7"}),
}


@pytest.mark.parametrize(("payload", "params"), MISMATCHES.values(), ids=MISMATCHES)
def test_a_claim_that_is_not_the_same_text_is_denied(payload: dict[str, Any], params: dict[str, str]) -> None:
    assert refusal(ORG, claims(**payload), params).reason is Reason.PARAM_MISMATCH


def test_each_pair_must_be_equal() -> None:
    both = Requirement(claim_equals_param=(("org_id", "org"), ("team", "team")))
    both.check(claims(org_id="o", team="t"), {"org": "o", "team": "t"})
    assert refusal(both, claims(org_id="o", team="x"), {"org": "o", "team": "t"}).reason is Reason.PARAM_MISMATCH
    assert refusal(both, claims(org_id="x", team="t"), {"org": "o", "team": "t"}).reason is Reason.PARAM_MISMATCH


ALL_OF_IT = Requirement(
    all_permissions=frozenset({READ}), all_roles=frozenset({"admin"}), claim_equals_param=(("org_id", "org"),)
)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (claims(), Reason.PERMISSION_DENIED),
        (claims((READ,)), Reason.ROLE_DENIED),
        (claims((READ,), ("admin",)), Reason.PARAM_MISMATCH),
        (claims(roles=("admin",), org_id="o"), Reason.PERMISSION_DENIED),
        (claims((READ,), org_id="o"), Reason.ROLE_DENIED),
    ],
    ids=["nothing", "permission", "permission and role", "all but permission", "all but role"],
)
def test_permissions_come_before_roles_and_roles_before_parameters(given: Claims, reason: Reason) -> None:
    assert refusal(ALL_OF_IT, given, {"org": "o"}).reason is reason


def test_authenticated_waives_nothing_else() -> None:
    requirement = Requirement(authenticated=True, all_permissions=frozenset({READ}))
    assert refusal(requirement, claims()).reason is Reason.PERMISSION_DENIED


def test_a_requirement_that_asks_for_nothing_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="asks for something"):
        Requirement()


REQUIRED = {
    "all, sorted": (Requirement(all_permissions=frozenset({READ, DELETE})), {"all": [DELETE, READ]}),
    "any, sorted": (Requirement(any_permission=frozenset({WRITE, DELETE})), {"any": [DELETE, WRITE]}),
    "both": (
        Requirement(all_permissions=frozenset({READ}), any_permission=frozenset({WRITE})),
        {"all": [READ], "any": [WRITE]},
    ),
    "any of nothing": (Requirement(any_permission=frozenset()), {"any": []}),
}


@pytest.mark.parametrize(("requirement", "required"), REQUIRED.values(), ids=REQUIRED)
def test_a_denied_permission_tells_what_is_required(requirement: Requirement, required: dict[str, list[str]]) -> None:
    assert refusal(requirement, claims()).required == required


def test_a_denied_role_or_parameter_requires_no_permission() -> None:
    assert refusal(Requirement(all_roles=frozenset({"admin"})), claims()).required is None
    assert refusal(ORG, claims(), {"org": "o"}).required is None


MESSAGES = {
    "permission": (Requirement(all_permissions=frozenset({READ})), "This needs the permission groups:read."),
    "permissions": (
        Requirement(all_permissions=frozenset({READ, DELETE})),
        "This needs the permissions groups:delete and groups:read.",
    ),
    "any": (
        Requirement(any_permission=frozenset({READ, WRITE})),
        "This needs one of the permissions groups:read, groups:write.",
    ),
    "both": (
        Requirement(all_permissions=frozenset({READ}), any_permission=frozenset({WRITE})),
        "This needs the permission groups:read, and one of the permissions groups:write.",
    ),
    "nobody": (Requirement(any_permission=frozenset()), "This is granted to nobody: the rule accepts no permission."),
    "role": (Requirement(all_roles=frozenset({"admin"})), "This needs the role admin."),
    "any role": (Requirement(any_role=frozenset({"a", "b"})), "This needs one of the roles a, b."),
    "parameter": (ORG, "Here the path's org must equal the token's org_id."),
}


@pytest.mark.parametrize(("requirement", "message"), MESSAGES.values(), ids=MESSAGES)
def test_a_denial_says_what_would_be_needed(requirement: Requirement, message: str) -> None:
    assert refusal(requirement, claims()).message == message


def test_a_denial_repeats_nothing_of_the_token_or_the_path() -> None:
    message = refusal(ORG, claims(org_id="secret-claim"), {"org": "secret-path"}).message
    assert "secret" not in message


@settings(max_examples=200)
@given(
    granted=st.frozensets(st.sampled_from("abcd")),
    everything=st.frozensets(st.sampled_from("abcd")),
    anything=st.none() | st.frozensets(st.sampled_from("abcd")),
)
def test_permissions_pass_exactly_when_each_of_all_and_one_of_any_are_there(
    granted: frozenset[str], everything: frozenset[str], anything: frozenset[str] | None
) -> None:
    requirement = Requirement(authenticated=True, all_permissions=everything, any_permission=anything)
    should_pass = all(name in granted for name in everything) and (
        anything is None or any(name in granted for name in anything)
    )
    try:
        requirement.check(claims(tuple(granted)), {})
        passed = True
    except AccessRefused:
        passed = False
    assert passed is should_pass
