"""An explanation never disagrees with the service, and never repeats a token."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.authorizer import Authorizer
from authz_service.config import load_config
from authz_service.errors import Reason, UnknownKeyId
from authz_service.explain.key_sets import KeySets
from authz_service.explain.step import Outcome, Step
from authz_service.explain.walk import Explainer, Explanation
from authz_service.issuers import trusted_issuers
from authz_service.keys.jwk import parse_key_set
from authz_service.model import HttpRequest, Mode
from authz_service.policy.loader import parse_policy
from authz_service.token.verifier import TokenVerifier
from authz_service.transport.check import encode_identity
from tests.support.decisions import as_values
from tests.support.limits import LIMITS
from tests.support.tokens import ABSENT, ISSUER, NOW, claims, compact_json, jwks, signing_key, token

POLICY = """
version: 1
hosts: [chat.example.com]
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: groups, match: {path: /groups, methods: [GET]}, require: {permission: "groups:read"}}
  - {name: write, match: {path: /groups, methods: [POST]}, require: {any_permission: ["groups:write", "all"]}}
  - name: org
    match: {prefix: "/orgs/{org_id}/"}
    require: {all_permissions: ["groups:read"], any_role: [admin, member], claim_equals_param: {org_id: org_id}}
    cors_preflight: true
  - {name: trial, match: {path: /trial}, require: {role: admin}, mode: shadow}
  - {name: share, match: {path: /share}, require: {any_role: []}, enforce_percent: 50}
  - {name: anyone, match: {path: /anyone}, require: {authenticated: true}}
"""
ALGORITHMS, HOST = frozenset({"RS256"}), "chat.example.com"
TIGHT = LIMITS._replace(max_token_bytes=4096, max_injected_bytes=300)
KEY_SET = parse_key_set(jwks(signing_key(), signing_key("key-2").jwk(use="enc")), ALGORITHMS)
COMPILED = parse_policy(POLICY)
ISSUERS = trusted_issuers(load_config({}), COMPILED)

PREFLIGHT = (("origin", "https://app.example.com"), ("access-control-request-method", "GET"))


def tokens() -> Iterable[str]:
    yield token()
    yield token("key-9")
    yield token("key-2")
    odd_claims: tuple[dict[str, Any], ...] = (
        {"exp": NOW - 31}, {"exp": "soon"}, {"exp": ABSENT}, {"exp": 2**53, "nbf": NOW + 60}, {"iss": "http://other"},
        {"iss": 7}, {"iss": ABSENT}, {"aud": "other"}, {"aud": ["a", "chat-api"]}, {"sub": ""}, {"permissions": "all"},
        {"permissions": []}, {"roles": ["admin"]}, {"roles": []}, {"org_id": "org-2"}, {"email": "a\nb"},
        {"username": "u" * 400}, {"sub": "user-2"}, {"sub": "ä\x1b[31m"},
    )  # fmt: skip
    for overrides in odd_claims:
        yield token(**overrides)
    key = signing_key()
    yield key.sign(claims(), alg="HS256")
    yield key.sign(claims(), alg=ABSENT)
    yield key.sign(claims(), kid="")
    yield key.sign(claims(), typ="id+jwt")
    yield signing_key("other").sign(claims(), kid="key-1")
    yield key.sign_octets(b"[]", compact_json(claims()))
    yield "a.b.c"
    yield "opaque"
    yield "x" * 5000


TOKENS = tuple(tokens())


def explainer(keys: KeySets | None = None) -> Explainer:
    return Explainer(COMPILED, ISSUERS, keys or KeySets(KEY_SET), algorithms=ALGORITHMS, limits=TIGHT, now=NOW)


def explained(
    path: str, given_token: str | None = None, *headers: tuple[str, str], method: str = "GET", host: str = HOST
) -> Explanation:
    bearer = (("authorization", f"Bearer {given_token}"),) if given_token else ()
    return explainer().explain(HttpRequest(method, path, host, (*bearer, *headers)), after_refresh=True)


def refusal(explanation: Explanation) -> Step:
    (step,) = (step for step in explanation.steps if step.outcome is Outcome.REFUSED)
    return step


def names(explanation: Explanation) -> list[str]:
    return [step.name for step in explanation.steps if step.outcome is Outcome.PASSED]


def said(explanation: Explanation) -> str:
    return repr((explanation.steps, explanation.headers, explanation.target, explanation.decision))


PATHS = (
    "/healthz", "/groups", "/groups?access_token=a", "/orgs/org-1/x", "/orgs/org%2D1/x", "/orgs//x", "/trial",
    "/share", "/anyone", "/nowhere", "/%67roups", "//groups", "/a;b", "/../groups", "*", "", "/groups#x", "/%zz",
    "/orgs/caf%C3%A9/x", "/orgs/%2F/x", "/ä",
)  # fmt: skip

requests = st.builds(
    HttpRequest,
    st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE", "get", "CONNECT"]),
    st.sampled_from(PATHS),
    st.sampled_from([HOST, f"{HOST}:443", "other.example.com", ""]),
    st.lists(st.one_of(
        st.sampled_from(TOKENS).map(lambda text: ("authorization", f"Bearer {text}")),
        st.sampled_from([*PREFLIGHT, ("authorization", "Basic YQ=="), ("X-Auth-Roles", "admin"), ("x_auth_sub", "a")]),
    ), max_size=4).map(tuple),
)  # fmt: skip


def check_agreement(request: HttpRequest, keys: KeySets) -> None:
    """The verdict is the authorizer's, and the steps lead to it."""
    verifier = TokenVerifier(keys, {issuer.issuer: issuer.rules for issuer in ISSUERS}, ALGORITHMS)
    service = Authorizer(COMPILED, verifier, TIGHT, lambda: NOW, encode_identity)
    explanation = explainer(keys).explain(request, after_refresh=True)
    decision = service.authorize(request, after_refresh=True)
    assert as_values(explanation.decision) == as_values(decision)
    refusals = [step.reason for step in explanation.steps if step.outcome is Outcome.REFUSED]
    permitted = decision.reason in {Reason.ALLOWED, Reason.PUBLIC, Reason.CORS_PREFLIGHT}
    assert refusals == ([] if permitted else [decision.reason])


@given(requests, st.booleans())
def test_an_explanation_agrees_with_the_service(request: HttpRequest, known: bool) -> None:
    check_agreement(request, KeySets(KEY_SET) if known else KeySets())


@pytest.mark.parametrize("path", PATHS)
def test_it_agrees_about_each_kind_of_token_on_each_kind_of_path(path: str) -> None:
    for text in TOKENS:
        bearer = ("authorization", f"Bearer {text}")
        check_agreement(HttpRequest("GET", path, HOST, (bearer,)), KeySets(KEY_SET))
        check_agreement(HttpRequest("OPTIONS", path, HOST, (bearer, *PREFLIGHT)), KeySets(KEY_SET))


@given(requests)
def test_no_token_and_no_signature_is_repeated(request: HttpRequest) -> None:
    text = said(explainer().explain(request, after_refresh=True))
    for name, value in request.headers:
        if name == "authorization" and len(value) > 20:
            assert value.removeprefix("Bearer ") not in text
            assert value.rpartition(".")[2] not in text


def test_a_key_that_is_not_there_yet_is_asked_for_as_the_service_does() -> None:
    request = HttpRequest("GET", "/groups", HOST, (("authorization", f"Bearer {token()}"),))
    keys = KeySets()
    with pytest.raises(UnknownKeyId) as unknown:
        explainer(keys).explain(request)
    keys.put(unknown.value.issuer, KEY_SET)
    assert explainer(keys).explain(request).decision.reason is Reason.ALLOWED
    assert unknown.value.issuer == ISSUER


def test_no_key_is_asked_for_where_no_token_is_looked_at() -> None:
    request = HttpRequest("GET", "/healthz", HOST, (("authorization", f"Bearer {token()}"),))
    assert explainer(KeySets()).explain(request).decision.reason is Reason.PUBLIC


def test_an_allowed_request_passes_all_rooms_in_order() -> None:
    explanation = explained("/groups", token())
    assert names(explanation) == ["path", "host", "rule", "credentials", "header", "issuer", "key", "signature",
                                  "claims", "requirement", "identity"]  # fmt: skip
    assert dict(explanation.headers)["x-auth-sub"] == "user-1"


class TestWhy:
    def test_each_rule_up_to_the_one_that_decides_says_why(self) -> None:
        (step,) = (step for step in explained("/groups", method="POST").steps if step.name == "rule")
        assert step.details == (
            "health: another path (/healthz)", "groups: another method (GET)", "write: matches (/groups)"
        )

    def test_without_a_rule_all_of_them_say_why(self) -> None:
        step = refusal(explained("/nowhere"))
        assert len(step.details) == 7
        assert all("another path" in line for line in step.details)

    def test_a_parameter_is_told_with_its_value(self) -> None:
        (step,) = (step for step in explained("/orgs/org%2D1/x", token()).steps if step.name == "rule")
        assert step.details[-1] == "{org_id} is org-1"

    def test_a_literal_that_is_percent_encoded_names_the_rule_that_it_misses(self) -> None:
        step = refusal(explained("/%67roups"))
        assert (step.name, step.reason) == ("rule", Reason.PATH_AMBIGUOUS)
        assert "groups: this path once decoded, and paths are not decoded (/groups)" in step.details

    @pytest.mark.parametrize(("path", "why"), [
        ("//a", "it has an empty segment: //"), ("/a/../b", "it has a dot segment"), ("/a#b", "it has a fragment: #"),
        ("/a;b", "it has characters that no path has, or that servers differ about: ;"),
        ("/a/%2F", "the segment %2F is percent-encoded where it must not be, or not as UTF-8"),
        ("*", "it does not begin with /"), ("/" + "a/" * 70, "it is longer than 8192 bytes or 64 segments"),
    ])  # fmt: skip
    def test_an_ambiguous_path_says_what_is_ambiguous(self, path: str, why: str) -> None:
        assert why in refusal(explained(path)).details

    def test_a_host_that_was_not_given_is_hinted_at(self) -> None:
        assert "--host" in refusal(explained("/groups", host="")).text

    @pytest.mark.parametrize(("overrides", "step", "detail"), [
        ({"exp": NOW - 31}, "claims", f"exp: {NOW - 31} (2025-06-15 15:06:09+00:00, 31 s ago)"),
        ({"aud": "other"}, "claims", 'aud: "other"; accepted: chat-api'),
        ({"iss": "http://other"}, "issuer", f"trusted: {ISSUER}"),
        ({"permissions": []}, "requirement", "permission groups:read: no"),
    ])  # fmt: skip
    def test_a_token_that_does_not_pass_says_what_it_claims(
        self, overrides: dict[str, Any], step: str, detail: str
    ) -> None:
        refused = refusal(explained("/groups", token(**overrides)))
        assert refused.name == step
        assert detail in refused.details

    def test_claims_are_not_shown_before_the_signature_is_good(self) -> None:
        forged = signing_key("other").sign(claims(sub="mallory"), kid="key-1")
        explanation = explained("/groups", forged)
        assert refusal(explanation).name == "signature"
        assert "mallory" not in said(explanation)

    def test_an_unknown_key_tells_which_there_are(self) -> None:
        explanation = explained("/groups", token("key-9"))
        refused = refusal(explanation)
        assert names(explanation)[-1] == "issuer"
        assert refused.details == ("in the key set: key-1", "skipped there: key-2 (use_not_sig)")

    def test_an_algorithm_tells_what_is_allowed(self) -> None:
        refused = refusal(explained("/groups", signing_key().sign(claims(), alg="HS256")))
        assert refused.details == ("the token names HS256", "allowed: RS256")

    def test_each_part_of_a_requirement_says_whether_it_holds(self) -> None:
        assert refusal(explained("/orgs/org-2/x", token())).details == (
            "permission groups:read: yes", "one of the roles admin, member: yes", "claim org_id equals {org_id}: no",
        )  # fmt: skip

    def test_in_shadow_mode_the_refusal_is_told_and_the_request_passes(self) -> None:
        explanation = explained("/trial", token())
        assert (explanation.decision.mode, refusal(explanation).reason) == (Mode.SHADOW, Reason.ROLE_DENIED)
        assert dict(explanation.headers)["x-auth-shadow"] == "would-deny; reason=role_denied"
        assert explanation.steps[-1].text == "shadow: let through all the same, with x-auth-shadow"

    @pytest.mark.parametrize(("headers", "step"), [(PREFLIGHT, Outcome.PASSED), ((), Outcome.NOTED)])
    def test_a_preflight_that_passes_is_told_from_one_that_does_not(
        self, headers: tuple[tuple[str, str], ...], step: Outcome
    ) -> None:
        explanation = explained("/orgs/a/b", None, *headers, method="OPTIONS")
        assert [found.outcome for found in explanation.steps if found.name == "preflight"] == [step]

    def test_claims_that_no_header_can_carry_are_refused_behind_the_requirement(self) -> None:
        explanation = explained("/groups", token(username="u" * 400))
        assert names(explanation)[-1] == "requirement"
        assert (refusal(explanation).name, refusal(explanation).reason) == ("identity", Reason.CLAIMS_TOO_LARGE)

    def test_what_a_terminal_would_obey_is_escaped(self) -> None:
        explanation = explained("/groups", token(nickname="\x1b[31m\u202e"))
        assert all(line.isprintable() for step in explanation.steps for line in (step.text, *step.details))
