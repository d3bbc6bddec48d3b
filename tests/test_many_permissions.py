"""Ten thousand permissions: decided on the whole list, injected whole or not at all."""

import pytest

from authz_service.authorizer import Authorizer
from authz_service.errors import Reason
from authz_service.model import Allow, Decision, Deny, HttpRequest
from authz_service.policy.loader import parse_policy
from authz_service.token.claims import ClaimRules
from authz_service.token.verifier import TokenVerifier
from authz_service.transport.check import encode_identity
from tests.support.check_level import ALGORITHMS, FixedKeys
from tests.support.limits import LIMITS
from tests.support.tokens import AUDIENCE, ISSUER, NOW, signing_key, token

POLICY = """
version: 1
rules:
  - {name: last, match: {path: /last}, require: {permission: "permission:9999"}}
  - {name: beyond, match: {path: /beyond}, require: {permission: "permission:10000"}}
"""
PERMISSIONS = [f"permission:{number}" for number in range(10_000)]


def decided(path: str, max_injected_bytes: int) -> Decision:
    rules = {ISSUER: ClaimRules(ISSUER, frozenset({AUDIENCE}), leeway_seconds=30)}
    verifier = TokenVerifier(FixedKeys(signing_key()), rules, ALGORITHMS)
    limits = LIMITS._replace(max_token_bytes=1_000_000, max_injected_bytes=max_injected_bytes)
    authorizer = Authorizer(parse_policy(POLICY), verifier, limits, lambda: NOW, encode_identity)
    credentials = ("authorization", f"Bearer {token(permissions=PERMISSIONS)}")
    return authorizer.authorize(HttpRequest("GET", path, "chat.example.com", (credentials,)))


def test_the_last_of_them_grants_and_all_of_them_are_injected() -> None:
    decision = decided("/last", 1_000_000)
    assert isinstance(decision, Allow)
    assert ",".join(PERMISSIONS).encode() in decision.identity.headers


@pytest.mark.parametrize(("path", "reason"), [
    ("/last", Reason.CLAIMS_TOO_LARGE),
    ("/beyond", Reason.PERMISSION_DENIED),
])  # fmt: skip
def test_what_cannot_be_injected_is_refused_after_the_whole_list_was_asked(path: str, reason: Reason) -> None:
    decision = decided(path, LIMITS.max_injected_bytes)
    assert isinstance(decision, Deny)
    assert (decision.status, decision.reason) == (403, reason)
