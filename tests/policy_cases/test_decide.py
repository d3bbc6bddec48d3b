"""Cases are decided as the service would decide them, and a failure says what was expected, what came and why."""

import pytest

from authz_service.config import load_config
from authz_service.issuers import trusted_issuers
from authz_service.policy.loader import parse_policy
from authz_service.policy_cases.decide import Failure, failures
from authz_service.policy_cases.document import parse_cases
from tests.support.limits import LIMITS

NOW = 1_750_000_000
POLICY = """
version: 1
rules:
  - {name: health, match: {path: /healthz}, public: true}
  - {name: groups, match: {path: /groups, methods: [GET]}, require: {permission: "groups:read"}, cors_preflight: true}
  - {name: trial, match: {path: /trial}, require: {role: admin}, mode: shadow}
"""
TWO_ISSUERS = POLICY + "issuers: [{issuer: 'http://one'}, {issuer: 'http://two', audiences: [second]}]\n"


def decided(case: str, policy: str = POLICY) -> list[Failure]:
    compiled = parse_policy(policy)
    cases = parse_cases(f"version: 1\ncases:\n  - {{name: one, {case}}}\n")
    return failures(cases, compiled, trusted_issuers(load_config({}), compiled), LIMITS, NOW)


READER = "claims: {permissions: ['groups:read']}"


@pytest.mark.parametrize("case", [
    "request: {path: /healthz}, expect: allow, rule: health",
    "request: {path: /healthz}, expect: public",
    f"request: {{path: /groups}}, {READER}, expect: allow, headers: {{x-auth-permissions: 'groups:read'}}",
    "request: {path: /groups}, expect: token_missing",
    "request: {path: /groups}, claims: {}, expect: permission_denied, rule: groups, mode: enforce",
    f"request: {{path: /groups, method: POST}}, {READER}, expect: no_matching_rule",
    "request: {path: /groups}, claims: {exp: 1749999969}, expect: token_expired",
    "request: {path: /groups}, claims: {aud: other}, expect: audience_mismatch",
    "request: {path: /groups}, claims: {iss: 'http://other'}, expect: issuer_mismatch",
    "request: {path: /groups}, claims: {iss: [a]}, expect: claims_invalid",
    "request: {path: /groups}, claims: {permissions: all}, expect: claims_invalid",
    "request: {path: /groups, headers: {authorization: Bearer a}}, claims: {}, expect: multiple_tokens",
    "request: {path: /groups, headers: {authorization: Bearer case-0}}, expect: signature_invalid",
    "request: {path: /groups, method: OPTIONS, headers: {origin: a, access-control-request-method: GET}}, "
    "expect: cors_preflight",
    "request: {path: //groups}, expect: path_ambiguous",
    "request: {path: /groups}, expect: token_missing, headers: {www-authenticate: 'Bearer realm=\"chat-api\"'}",
])  # fmt: skip
def test_a_case_that_comes_out_as_expected_is_no_failure(case: str) -> None:
    assert decided(case) == []


@pytest.mark.parametrize(("case", "expected", "got"), [
    ("request: {path: /groups}, claims: {}, expect: allow", "allow", "permission_denied, rule groups, mode enforce"),
    (f"request: {{path: /groups}}, {READER}, expect: permission_denied", "permission_denied",
     "allow, rule groups, mode enforce"),
    ("request: {path: /healthz}, expect: allow, rule: groups", "rule groups", "allow, rule health, mode enforce"),
    ("request: {path: /healthz}, expect: allowed", "allowed", "allow, rule health, mode enforce"),
    ("request: {path: /healthz}, expect: allow, mode: shadow", "mode shadow", "allow, rule health, mode enforce"),
    (f"request: {{path: /groups}}, {READER}, expect: allow, headers: {{x-auth-sub: user-2}}", "x-auth-sub: user-2",
     "allow, rule groups, mode enforce; x-auth-sub: user-1"),
    ("request: {path: /healthz}, expect: allow, headers: {x-auth-sub: user-1}", "x-auth-sub: user-1",
     "allow, rule health, mode enforce; no x-auth-sub"),
    ("request: {path: /nowhere}, expect: allow", "allow", "no_matching_rule, no rule, mode enforce"),
    ("request: {path: /trial}, claims: {}, expect: allow", "allow",
     "role_denied (in shadow mode: let through all the same), rule trial, mode shadow"),
])  # fmt: skip
def test_a_failure_says_what_was_expected_and_what_came(case: str, expected: str, got: str) -> None:
    (failure,) = decided(case)
    assert (failure.name, failure.line, failure.expected, failure.got) == ("one", 3, expected, got)


def test_a_failure_says_why_in_the_words_that_the_client_reads() -> None:
    (failure,) = decided("request: {path: /groups}, claims: {}, expect: allow")
    assert failure.why == "This needs the permission groups:read."
    assert failure.request == "GET /groups with a token without claims"


def test_a_shadow_rule_is_held_to_what_it_will_decide_when_it_is_enforced() -> None:
    assert decided("request: {path: /trial}, claims: {}, expect: role_denied, mode: shadow") == []


@pytest.mark.parametrize(("issuer", "answer"), [
    ("", "permission_denied"), ("iss: 'http://two'", "permission_denied"), ("iss: 'http://three'", "issuer_mismatch"),
    ("iss: 'http://two', aud: chat-api", "audience_mismatch"),
])  # fmt: skip
def test_what_a_case_leaves_out_is_right_for_the_issuer_that_it_names(issuer: str, answer: str) -> None:
    assert decided(f"request: {{path: /groups}}, claims: {{{issuer}}}, expect: {answer}", TWO_ISSUERS) == []
