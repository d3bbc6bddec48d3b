"""Whom to trust is said by the policy file, and where it is silent, by the environment."""

import pytest

from authz_service.config import load_config
from authz_service.issuers import TrustedIssuer, trusted_issuers
from authz_service.policy.loader import parse_policy
from authz_service.token.claims import ClaimRules

ENVIRON = {
    "AUTH_API_ISSUER": "http://env", "AUTH_API_JWKS_URL": "http://keys/env", "JWT_AUDIENCE": "a,b",
    "JWT_LEEWAY_SECONDS": "7",
}  # fmt: skip


def trusted(issuers: str = "") -> tuple[TrustedIssuer, ...]:
    return trusted_issuers(load_config(ENVIRON), parse_policy(f"version: 1\nrules: []\n{issuers}"))


def rules(issuer: str, *audiences: str) -> ClaimRules:
    return ClaimRules(issuer, frozenset(audiences or ("a", "b")), 7)


def test_a_policy_without_issuers_trusts_that_of_the_environment() -> None:
    assert trusted() == (TrustedIssuer(rules("http://env"), "http://keys/env"),)


def test_a_policy_with_issuers_trusts_no_others() -> None:
    assert [issuer.issuer for issuer in trusted("issuers: [{issuer: http://a}, {issuer: http://b}]")] == [
        "http://a", "http://b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("issuer", "expected"),
    [
        ("{issuer: http://a/x/}", TrustedIssuer(rules("http://a/x/"), "http://a/x/.well-known/jwks.json")),
        ("{issuer: http://env}", TrustedIssuer(rules("http://env"), "http://keys/env")),
        ("{issuer: http://env/}", TrustedIssuer(rules("http://env/"), "http://env/.well-known/jwks.json")),
        ("{issuer: http://env, jwks_url: http://k}", TrustedIssuer(rules("http://env"), "http://k")),
        ("{issuer: http://a, audiences: [c]}", TrustedIssuer(rules("http://a", "c"), "http://a/.well-known/jwks.json")),
        (
            "{issuer: http://env, discovery: true}",
            TrustedIssuer(rules("http://env"), "http://env/.well-known/openid-configuration", discovery=True),
        ),
    ],
)
def test_what_an_issuer_does_not_say_follows(issuer: str, expected: TrustedIssuer) -> None:
    assert trusted(f"issuers: [{issuer}]") == (expected,)
