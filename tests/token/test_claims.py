import dataclasses
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import Reason, TokenRefused
from authz_service.token.claims import ClaimRules, unverified_issuer, verify_claims, vouched_claims
from tests.support.tokens import ABSENT, AUDIENCE, ISSUER, NOW, claims

LEEWAY = 30
RULES = ClaimRules(ISSUER, frozenset({AUDIENCE, "chat-admin"}), LEEWAY)


def refusal(rules: ClaimRules = RULES, now: float = NOW, /, **overrides: object) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        verify_claims(claims(**overrides), rules, now)
    return caught.value


def test_good_claims_are_accepted() -> None:
    verified = verify_claims(claims(), RULES, NOW)
    assert (verified.issuer, verified.subject, verified.expires_at) == (ISSUER, "user-1", NOW + 3540)
    assert verified.permissions == {"groups:read", "messages:read"}
    assert verified.roles == {"member"}
    assert verified.payload == claims()


def test_verified_claims_are_read_only() -> None:
    assert isinstance(verify_claims(claims(), RULES, NOW).payload, MappingProxyType)


# --- every type that JSON has, for every claim that is judged ------------------------------------------------------

JSON_TYPES: dict[str, Any] = {
    "null": None, "true": True, "false": False, "zero": 0, "number": NOW + 60, "float": NOW + 60.5, "string": "x",
    "empty string": "", "digits": str(NOW + 60), "array": ["x"], "empty array": [], "array of numbers": [1],
    "array of null": [None], "array of arrays": [["x"]], "array of objects": [{"x": 1}], "mixed array": ["x", 1],
    "object": {"x": "y"}, "empty object": {},
}  # fmt: skip

RIGHT_TYPES = {
    "iss": {"string", "digits"}, "sub": {"string", "digits"}, "jti": {"string", "digits"},
    "aud": {"string", "digits", "array"},
    "exp": {"zero", "number", "float"}, "nbf": {"zero", "number", "float"}, "iat": {"zero", "number", "float"},
    "permissions": {"array", "empty array"}, "roles": {"array", "empty array"},
}  # fmt: skip

WRONG = [(claim, kind) for claim, right in RIGHT_TYPES.items() for kind in JSON_TYPES if kind not in right]


@pytest.mark.parametrize(("claim", "kind"), WRONG)
def test_a_claim_of_a_wrong_type_is_refused(claim: str, kind: str) -> None:
    assert refusal(**{claim: JSON_TYPES[kind]}).reason is Reason.CLAIMS_INVALID


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "sub"])
def test_a_required_claim_that_is_absent_is_refused(claim: str) -> None:
    assert refusal(**{claim: ABSENT}).reason is Reason.CLAIMS_INVALID


@pytest.mark.parametrize(("claim", "value"), [
    *((claim, ABSENT) for claim in ("iss", "aud", "exp", "sub")), *((claim, {}) for claim in sorted(RIGHT_TYPES)),
])  # fmt: skip
def test_the_refusal_names_the_claim(claim: str, value: object) -> None:
    told = f"The access token's {claim} claim is absent or not what it must be."
    assert refusal(**{claim: value}).message == told


@pytest.mark.parametrize("claim", ["nbf", "iat", "jti", "permissions", "roles", "org_id", "username", "email"])
def test_an_optional_claim_may_be_absent(claim: str) -> None:
    assert claim not in verify_claims(claims(**{claim: ABSENT}), RULES, NOW).payload


@pytest.mark.parametrize("claim", ["iss", "sub"])
def test_names_of_claims_are_compared_to_the_letter(claim: str) -> None:
    assert refusal(**{claim: ABSENT, claim.upper(): claims()[claim]}).reason is Reason.CLAIMS_INVALID


# --- whose, and for whom -------------------------------------------------------------------------------------------

ISSUERS = [
    "http://auth-api:8000/", "http://auth-api:800", "http://auth-api:80000", "https://auth-api:8000",
    "HTTP://AUTH-API:8000", " http://auth-api:8000", "http://auth-api:8000\0",
    "http://\u0430uth-api:8000", "http://auth-api:8000?", "*",
]  # fmt: skip


@pytest.mark.parametrize("issuer", ISSUERS)
def test_another_issuer_is_refused_however_much_alike(issuer: str) -> None:
    assert refusal(iss=issuer).reason is Reason.ISSUER_MISMATCH


def test_the_issuer_is_read_as_it_stands() -> None:
    assert unverified_issuer({"iss": "http://x/ "}) == "http://x/ "


@pytest.mark.parametrize("issuer", [ABSENT, None, True, 1, "", [ISSUER], {}])
def test_without_an_issuer_there_is_no_key_to_look_for(issuer: object) -> None:
    with pytest.raises(TokenRefused) as caught:
        unverified_issuer(claims(iss=issuer))
    assert caught.value.reason is Reason.CLAIMS_INVALID


@pytest.mark.parametrize("audience", [AUDIENCE, "chat-admin", [AUDIENCE], ["other", AUDIENCE], [AUDIENCE, ""]])
def test_one_audience_of_ours_is_enough(audience: object) -> None:
    assert verify_claims(claims(aud=audience), RULES, NOW).subject == "user-1"


AUDIENCES = [
    "other", "chat-api2", "chat", "CHAT-API", " chat-api", "chat-api ", "chat-api,other", "chat-api other",
    ["other"], ["chat", "api"], ["chat-ap", "i"], ["*"], [""], ["chat-api chat-api"],
]  # fmt: skip


@pytest.mark.parametrize("audience", AUDIENCES)
def test_another_audience_is_refused_however_much_alike(audience: object) -> None:
    assert refusal(aud=audience).reason is Reason.AUDIENCE_MISMATCH


@pytest.mark.parametrize("audience", [[AUDIENCE, 1], [None, AUDIENCE], [AUDIENCE, [AUDIENCE]], {AUDIENCE: 1}])
def test_an_audience_beside_something_else_is_refused(audience: object) -> None:
    assert refusal(aud=audience).reason is Reason.CLAIMS_INVALID


def test_an_empty_set_of_audiences_accepts_nobody() -> None:
    assert refusal(ClaimRules(ISSUER, frozenset(), LEEWAY)).reason is Reason.AUDIENCE_MISMATCH


# --- when ----------------------------------------------------------------------------------------------------------

IN_TIME = {
    "exp == now, within the leeway": {"exp": NOW}, "last moment": {"exp": NOW - LEEWAY + 1},
    "last fraction of a second": {"exp": NOW - LEEWAY + 0.001}, "latest": {"exp": 2**53},
    "nbf == now": {"nbf": NOW}, "nbf at the leeway": {"nbf": NOW + LEEWAY}, "nbf 0": {"nbf": 0},
    "iat == now": {"iat": NOW},
    "iat at the leeway": {"iat": NOW + LEEWAY}, "iat as a fraction": {"iat": NOW - 0.5}, "iat after exp": {"iat": NOW,
    "exp": NOW - 1},
}  # fmt: skip

OUT_OF_TIME = {
    "exp at the leeway": ({"exp": NOW - LEEWAY}, Reason.TOKEN_EXPIRED),
    "exp a fraction beyond it": ({"exp": NOW - LEEWAY - 0.001}, Reason.TOKEN_EXPIRED),
    "exp long ago": ({"exp": NOW - 86400}, Reason.TOKEN_EXPIRED),
    "exp 0": ({"exp": 0}, Reason.TOKEN_EXPIRED),
    "nbf beyond the leeway": ({"nbf": NOW + LEEWAY + 1}, Reason.TOKEN_NOT_YET_VALID),
    "nbf a fraction beyond it": ({"nbf": NOW + LEEWAY + 0.001}, Reason.TOKEN_NOT_YET_VALID),
    "iat beyond the leeway": ({"iat": NOW + LEEWAY + 1}, Reason.TOKEN_NOT_YET_VALID),
    "nbf latest": ({"nbf": 2**53}, Reason.TOKEN_NOT_YET_VALID),
    "expired and not yet valid": ({"exp": NOW - 99, "nbf": NOW + 99}, Reason.TOKEN_EXPIRED),
}

ABSURD = [
    -1, -0.5, -NOW, -(10**400), 2**53 + 1, 10**400, 1e300, float("inf"), float("-inf"), float("nan"),
]  # fmt: skip


@pytest.mark.parametrize("times", IN_TIME.values(), ids=IN_TIME.keys())
def test_a_token_is_good_up_to_the_leeway(times: dict[str, object]) -> None:
    assert verify_claims(claims(**times), RULES, NOW).subject == "user-1"


@pytest.mark.parametrize(("times", "reason"), OUT_OF_TIME.values(), ids=OUT_OF_TIME.keys())
def test_and_not_a_moment_longer(times: dict[str, object], reason: Reason) -> None:
    assert refusal(**times).reason is reason


def test_without_leeway_a_token_ends_when_it_says() -> None:
    assert refusal(dataclasses.replace(RULES, leeway_seconds=0), exp=NOW).reason is Reason.TOKEN_EXPIRED


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ABSURD)
def test_a_time_that_is_none_is_refused(claim: str, value: float) -> None:
    assert refusal(**{claim: value}).reason is Reason.CLAIMS_INVALID


def test_the_message_says_how_long_ago_it_expired() -> None:
    assert refusal(RULES, NOW + 0.9, exp=NOW - 42).message == "The access token expired 42 s ago."


@pytest.mark.parametrize(("overrides", "message"), [
    ({"iss": "other"}, "The access token was not issued by a trusted issuer."),
    ({"aud": "other"}, "The access token is not meant for this service."),
    ({"nbf": NOW + 99}, "The access token is not valid yet."),
    ({"iat": NOW + 99}, "The access token was issued in the future."),
])  # fmt: skip
def test_the_client_reads_which_claim_does_not_fit(overrides: dict[str, object], message: str) -> None:
    assert refusal(**overrides).message == message


def test_a_fraction_of_the_last_second_is_not_shown_to_anybody() -> None:
    expires_at = verify_claims(claims(exp=NOW + 60.9), RULES, NOW).expires_at
    assert (expires_at, type(expires_at)) == (NOW + 60, int)


# --- about whom ----------------------------------------------------------------------------------------------------

LISTS = {
    "a single string": "groups:read", "a list as a string": '["groups:read"]',
    "with commas": "groups:read,groups:write",
    "with spaces": "groups:read groups:write", "an object": {"groups:read": True}, "nested": [["groups:read"]],
    "mixed": ["groups:read", 1], "with null": ["groups:read", None], "with true": [True],
    "with an object": [{"name": "groups:read"}],
    "null": None, "zero": 0, "true": True, "empty string": "",
}  # fmt: skip


@pytest.mark.parametrize("claim", ["permissions", "roles"])
@pytest.mark.parametrize("value", LISTS.values(), ids=LISTS.keys())
def test_permissions_and_roles_are_lists_of_strings_or_nothing(claim: str, value: object) -> None:
    assert refusal(**{claim: value}).reason is Reason.CLAIMS_INVALID


@pytest.mark.parametrize("claim", ["permissions", "roles"])
def test_absent_and_empty_lists_grant_nothing(claim: str) -> None:
    assert getattr(verify_claims(claims(**{claim: ABSENT}), RULES, NOW), claim) == frozenset()
    assert getattr(verify_claims(claims(**{claim: []}), RULES, NOW), claim) == frozenset()


ITEMS = ["a,b", "a b", "GROUPS:READ", "groups:read ", " groups:read", "groups:read\0", "*", "", "\u00e9", '"']


@pytest.mark.parametrize("item", ITEMS)
def test_a_permission_is_taken_to_the_letter_and_never_taken_apart(item: str) -> None:
    assert verify_claims(claims(permissions=[item]), RULES, NOW).permissions == {item}


def test_ten_thousand_permissions_are_all_there() -> None:
    permissions = [f"permission:{number}" for number in range(10_000)]
    verified = verify_claims(claims(permissions=permissions), RULES, NOW)
    assert verified.permissions == set(permissions)
    assert verified.payload["permissions"] == permissions


def test_claims_that_mean_nothing_here_are_carried_along_untouched() -> None:
    extra: dict[str, object] = {"at_hash": "x", "nonce": 1, "scope": "groups:delete", "cnf": {"jkt": "x"}}
    verified = verify_claims(claims(**extra), RULES, NOW)
    assert verified.payload == claims(**extra)
    assert "groups:delete" not in verified.permissions


# --- in which order ------------------------------------------------------------------------------------------------

FAULTS: list[tuple[dict[str, object], Reason]] = [
    ({"iss": "other"}, Reason.ISSUER_MISMATCH),
    ({"aud": "other"}, Reason.AUDIENCE_MISMATCH),
    ({"exp": NOW - 99}, Reason.TOKEN_EXPIRED),
    ({"nbf": NOW + 99}, Reason.TOKEN_NOT_YET_VALID),
    ({"sub": ABSENT}, Reason.CLAIMS_INVALID),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_the_first_fault_in_the_documented_order_is_the_reason(first: int) -> None:
    overrides = {claim: value for fault, _ in FAULTS[first:] for claim, value in fault.items()}
    assert refusal(**overrides).reason is FAULTS[first][1]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(sorted(RIGHT_TYPES)), VALUES), st.sets(st.sampled_from(sorted(RIGHT_TYPES))))
def test_no_values_raise_anything_but_a_refusal_that_repeats_none(overrides: dict[str, Any], absent: set[str]) -> None:
    payload = claims(**overrides, **dict.fromkeys(absent - overrides.keys(), ABSENT))
    try:
        verified = verify_claims(payload, RULES, NOW)
    except TokenRefused as refused:
        message = refused.message
    else:
        assert verified.expires_at + LEEWAY >= NOW
        return
    assert message.startswith(("The access token", "The access token's "))
    assert len(message) < 100


# --- what somebody else vouches for --------------------------------------------------------------------------------


def test_claims_that_are_vouched_for_are_all_there() -> None:
    vouched = vouched_claims(claims(), "http://other")
    assert (vouched.issuer, vouched.subject, vouched.expires_at) == (ISSUER, claims()["sub"], claims()["exp"])
    assert sorted(vouched.permissions) == sorted(claims()["permissions"])
    assert sorted(vouched.roles) == sorted(claims()["roles"])
    assert vouched.payload == claims()


def test_a_subject_is_enough_where_somebody_vouches() -> None:
    vouched = vouched_claims({"sub": "user-1"}, ISSUER)
    assert (vouched.issuer, vouched.subject, vouched.expires_at) == (ISSUER, "user-1", 0)
    assert (vouched.permissions, vouched.roles) == (frozenset(), frozenset())


@pytest.mark.parametrize(("claim", "value"), [
    ("sub", ABSENT), ("sub", ""), ("iss", ""), ("iss", None), ("exp", "soon"), ("exp", -1), ("permissions", "all"),
    ("roles", [1]),
])  # fmt: skip
def test_what_a_claim_cannot_be_nobody_vouches_for(claim: str, value: object) -> None:
    payload = {name: each for name, each in {**claims(), claim: value}.items() if each is not ABSENT}
    with pytest.raises(TokenRefused, match=f"The access token's {claim} claim") as caught:
        vouched_claims(payload, ISSUER)
    assert caught.value.reason is Reason.CLAIMS_INVALID
