"""One request's story: which refusal comes first, and what every allow sets and removes."""

import gc
import sys
from ast import literal_eval
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from authz_service.authorizer import Authorizer, Limits
from authz_service.errors import InternalError, Reason, Refused, TokenRefused, Unavailable, UnknownKeyId
from authz_service.model import Allow, Claims, Decision, Deny, Headers, HttpRequest, Mode
from authz_service.policy.loader import parse_policy
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import VerifiedToken
from tests.support.limits import LIMITS

POLICY = """
version: 1
hosts: ["chat.example.com"]
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: groups, match: {path: /groups, methods: [GET]}, require: {permission: "groups:read"}}
  - name: org
    match: {prefix: "/orgs/{org_id}/"}
    require: {role: admin, claim_equals_param: {org_id: org_id}}
  - {name: trial, match: {path: /trial}, require: {permission: "trial:read"}, mode: shadow}
  - {name: cors, match: {path: /cors}, require: {authenticated: true}, cors_preflight: true}
"""

ISSUERS = "issuers: [{issuer: http://issuer, claims_to_headers: {sub: x-auth-who}}, {issuer: http://other}]"

KEY = VerificationKey("key-1", frozenset({"RS256"}), "thumbprint", {})

PREFLIGHT = (("origin", "https://app.example.com"), ("access-control-request-method", "POST"))


def verified(issuer: str = "http://issuer", **payload: Any) -> VerifiedToken:
    payload = {"sub": "user-1", "permissions": ["groups:read"], "roles": ["member"], "org_id": "org-1"} | payload
    claims = Claims(
        issuer, "user-1", 1_700_000_000, frozenset(payload["permissions"]), frozenset(payload["roles"]),
        MappingProxyType(payload),
    )  # fmt: skip
    return VerifiedToken(claims, KEY)


def encode(headers: Headers, subject: str, kid: str) -> tuple[bytes, bytes]:
    return repr(headers).encode(), repr((subject, kid)).encode()


class Verifier:
    """Says what it was told to say; remembers what it was asked."""

    def __init__(self, outcome: VerifiedToken | Exception) -> None:
        self.outcome = outcome
        self.vouching = True
        self.asked: list[str] = []

    def vouches(self, _claims: Claims, _key: VerificationKey, now: float) -> bool:
        assert now == 1_600_000_000
        return self.vouching

    def verify(self, token: str, now: float) -> VerifiedToken:
        assert now == 1_600_000_000
        self.asked.append(token)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def authorizer(
    outcome: VerifiedToken | Exception, limits: Limits = LIMITS, policy: str = POLICY
) -> Authorizer:
    return Authorizer(parse_policy(policy), Verifier(outcome), limits, lambda: 1_600_000_000, encode)


def remembering(outcome: VerifiedToken | Exception | None = None) -> tuple[Authorizer, Verifier]:
    verifier = Verifier(outcome or verified())
    return Authorizer(parse_policy(POLICY), verifier, LIMITS, lambda: 1_600_000_000, encode), verifier


def request(
    path: str, *headers: tuple[str, str], method: str = "GET", host: str = "chat.example.com", token: bool = True
) -> HttpRequest:
    bearer = (("authorization", "Bearer aaaa.bbbb.cccc"),) if token else ()
    return HttpRequest(method, path, host, (*bearer, *headers), "request-1")


def decide(
    path: str, *headers: tuple[str, str], outcome: VerifiedToken | Exception | None = None, **kwargs: Any
) -> Decision:
    return authorizer(outcome or verified()).authorize(request(path, *headers, **kwargs))


def injected(decision: Decision) -> Mapping[str, str]:
    assert isinstance(decision, Allow)
    identity = literal_eval(decision.identity.headers.decode()) if decision.identity.headers else ()
    assert len({name for name, _ in (*identity, *decision.set_headers)}) == len(identity) + len(decision.set_headers)
    return dict((*identity, *decision.set_headers))


class TestAllow:
    def test_a_permitted_request_carries_the_identity(self) -> None:
        decision = decide("/groups")
        assert injected(decision) == {
            "x-auth-sub": "user-1", "x-auth-org-id": "org-1", "x-auth-roles": "member",
            "x-auth-permissions": "groups:read", "x-auth-exp": "1700000000", "x-auth-contract": "1",
        }  # fmt: skip
        assert (decision.reason, decision.rule, decision.mode) == (Reason.ALLOWED, "groups", Mode.ENFORCE)
        assert (decision.subject, decision.kid) == ("user-1", "key-1")

    def test_a_public_route_looks_at_no_token(self) -> None:
        gate = authorizer(TokenRefused(Reason.SIGNATURE_INVALID, "A sentence."))
        decision = gate.authorize(request("/healthz"))
        assert injected(decision) == {"x-auth-contract": "1"}
        assert decision.reason is Reason.PUBLIC

    def test_a_preflight_passes_where_the_policy_says_so(self) -> None:
        decision = decide("/cors", *PREFLIGHT, method="OPTIONS", token=False)
        assert injected(decision) == {"x-auth-contract": "1"}
        assert (decision.reason, decision.rule) == (Reason.CORS_PREFLIGHT, "cors")

    @pytest.mark.parametrize("path", ["/groups", "/healthz", "/trial"])
    @pytest.mark.parametrize("name", ["x-auth-roles", "X-Auth-Roles", "x_auth_roles", "x-auth-email", "x-auth-shadow"])
    def test_every_identity_header_of_the_client_is_removed_or_overwritten(self, path: str, name: str) -> None:
        decision = decide(path, (name, "admin"), (name, "root"))
        assert isinstance(decision, Allow)
        assert name.lower() in {*decision.remove_headers, *injected(decision)}
        assert decision.spoofed_headers == 2

    def test_identity_headers_that_are_not_set_are_removed_whether_seen_or_not(self) -> None:
        decision = decide("/healthz")
        assert isinstance(decision, Allow)
        assert {"x-auth-sub", "x-auth-roles", "x-auth-permissions", "x-auth-shadow"} <= set(decision.remove_headers)
        assert decision.spoofed_headers == 0

    def test_no_name_is_both_set_and_removed(self) -> None:
        """Envoy removes after it sets: such a name would reach nobody."""
        decision = decide("/groups", ("x-auth-sub", "root"), ("X_AUTH_SUB", "root"))
        assert isinstance(decision, Allow)
        assert not injected(decision).keys() & set(decision.remove_headers)
        assert "x_auth_sub" in decision.remove_headers

    def test_the_token_ends_here_unless_it_is_asked_for(self) -> None:
        kept = authorizer(verified(), LIMITS._replace(forward_authorization=True)).authorize(request("/groups"))
        ended = decide("/groups")
        assert isinstance(kept, Allow)
        assert isinstance(ended, Allow)
        assert "authorization" in ended.remove_headers
        assert "authorization" not in kept.remove_headers


class TestDeny:
    @pytest.mark.parametrize(
        ("path", "options", "reason"),
        [
            pytest.param("/a//b", {"host": "evil.example"}, Reason.PATH_AMBIGUOUS, id="path before host"),
            pytest.param("/nowhere", {"host": "evil.example"}, Reason.HOST_NOT_ALLOWED, id="host before rule"),
            pytest.param("/nowhere", {"token": False}, Reason.NO_MATCHING_RULE, id="rule before token"),
            pytest.param("/groups", {"token": False}, Reason.TOKEN_MISSING, id="token before its verification"),
            pytest.param("/groups", {"method": "POST"}, Reason.NO_MATCHING_RULE, id="another method"),
            pytest.param("/groups", {"method": "get"}, Reason.NO_MATCHING_RULE, id="another spelling of the method"),
            pytest.param("/orgs/org-1/x", {}, Reason.ROLE_DENIED, id="requirement at the end"),
            pytest.param("/cors", {"method": "OPTIONS", "token": False}, Reason.TOKEN_MISSING, id="OPTIONS alone"),
        ],
    )  # fmt: skip
    def test_the_first_thing_that_is_wrong_is_the_reason(self, path: str, options: Any, reason: Reason) -> None:
        decision = decide(path, **options)
        assert isinstance(decision, Deny)
        assert decision.reason is reason

    @pytest.mark.parametrize("missing", [0, 1])
    def test_half_a_preflight_is_none(self, missing: int) -> None:
        decision = decide("/cors", PREFLIGHT[1 - missing], method="OPTIONS", token=False)
        assert isinstance(decision, Deny)

    def test_a_preflight_passes_nowhere_else(self) -> None:
        assert isinstance(decide("/groups", *PREFLIGHT, method="OPTIONS", token=False), Deny)

    def test_a_parameter_that_is_not_the_claim(self) -> None:
        decision = decide("/orgs/org-2/x", outcome=verified(roles=["admin"]))
        assert decision.reason is Reason.PARAM_MISMATCH

    def test_who_was_refused_is_known_once_the_token_is_verified(self) -> None:
        decision = decide("/orgs/org-1/x")
        assert (decision.rule, decision.subject, decision.kid) == ("org", "user-1", "key-1")

    def test_a_token_that_was_not_verified_names_nobody(self) -> None:
        decision = decide("/groups", outcome=TokenRefused(Reason.TOKEN_EXPIRED, "A sentence."))
        assert (decision.rule, decision.subject, decision.kid) == ("groups", "", "")

    def test_of_each_claim_that_a_rule_compares_it_is_known_whether_the_token_has_it(self) -> None:
        for claim, known in (("org_id", "org-1"), ("team", None)):
            policy = POLICY.replace("{org_id: org_id}", f"{{{claim}: org_id}}")
            decision = authorizer(verified(), policy=policy).authorize(request("/groups"))
            assert decision.claims is not None
            assert decision.claims.payload == {claim: known}

    def test_claims_that_no_header_can_carry(self) -> None:
        assert decide("/groups", outcome=verified(username="a\nb")).reason is Reason.CLAIMS_INVALID

    def test_claims_that_are_too_large(self) -> None:
        gate = authorizer(verified(username="a" * 300), LIMITS._replace(max_injected_bytes=256))
        assert gate.authorize(request("/groups")).reason is Reason.CLAIMS_TOO_LARGE


class TestUnknownKey:
    def test_the_first_time_it_is_no_verdict(self) -> None:
        with pytest.raises(UnknownKeyId):
            decide("/groups", outcome=UnknownKeyId("http://issuer", "key-2"))

    def test_with_nothing_to_wait_for_it_is_the_tokens_fault_at_once(self) -> None:
        decision = decide("/groups", outcome=UnknownKeyId("http://issuer", "key-2", may_come=False))
        assert decision.reason is Reason.KEY_NOT_FOUND

    def test_after_a_refresh_it_is_the_tokens_fault(self) -> None:
        gate = authorizer(UnknownKeyId("http://issuer", "key-2"))
        decision = gate.authorize(request("/groups"), after_refresh=True)
        assert isinstance(decision, Deny)
        assert decision.reason is Reason.KEY_NOT_FOUND

    def test_in_shadow_it_would_deny(self) -> None:
        gate = authorizer(UnknownKeyId("http://issuer", "key-2"))
        decision = gate.authorize(request("/trial"), after_refresh=True)
        assert isinstance(decision, Allow)
        assert decision.reason is Reason.KEY_NOT_FOUND


class TestShadow:
    def test_what_would_be_denied_passes_with_a_warning_and_the_identity(self) -> None:
        decision = decide("/trial")
        assert injected(decision)["x-auth-shadow"] == "would-deny; reason=permission_denied"
        assert injected(decision)["x-auth-sub"] == "user-1"
        assert (decision.reason, decision.mode) == (Reason.PERMISSION_DENIED, Mode.SHADOW)

    @pytest.mark.parametrize(
        "refused",
        [
            TokenRefused(Reason.SIGNATURE_INVALID, "A sentence."), TokenRefused(Reason.TOKEN_EXPIRED, "A sentence."),
            Unavailable(Reason.KEYS_UNAVAILABLE, "A sentence."),
        ],
        ids=lambda refused: refused.reason,
    )  # fmt: skip
    def test_an_identity_that_was_not_verified_is_not_injected(self, refused: Refused) -> None:
        decision = decide("/trial", outcome=refused)
        assert injected(decision) == {
            "x-auth-contract": "1", "x-auth-shadow": f"would-deny; reason={refused.reason}"
        }  # fmt: skip

    def test_what_would_be_allowed_carries_no_warning(self) -> None:
        decision = decide("/trial", outcome=verified(permissions=["trial:read"]))
        assert "x-auth-shadow" not in injected(decision)
        assert isinstance(decision, Allow)
        assert "x-auth-shadow" in decision.remove_headers

    @pytest.mark.parametrize(("percent", "mode"), [(0, Mode.SHADOW), (100, Mode.ENFORCE)])
    def test_where_a_rule_is_enforced_for_a_share_of_callers_an_allow_has_the_mode_of_its_caller(
        self, percent: int, mode: Mode
    ) -> None:
        policy = POLICY.replace("mode: shadow", f"enforce_percent: {percent}")
        decision = authorizer(verified(permissions=["trial:read"]), policy=policy).authorize(request("/trial"))
        assert (decision.reason, decision.mode) == (Reason.ALLOWED, mode)

    def test_an_identity_that_no_header_can_carry_is_left_out_whole(self) -> None:
        decision = decide("/trial", outcome=verified(permissions=["trial:read"], username="a\nb"))
        assert injected(decision) == {"x-auth-contract": "1", "x-auth-shadow": "would-deny; reason=claims_invalid"}

    def test_the_default_mode_is_for_requests_that_no_rule_knows(self) -> None:
        policy = POLICY.replace("version: 1", "version: 1\ndefaults: {mode: shadow}")
        decision = authorizer(verified(), policy=policy).authorize(request("/nowhere"))
        assert isinstance(decision, Allow)
        assert (decision.reason, decision.mode) == (Reason.NO_MATCHING_RULE, Mode.SHADOW)


def test_a_new_policy_decides_from_the_next_request_on() -> None:
    gate = authorizer(verified())
    assert isinstance(gate.authorize(request("/groups")), Allow)
    gate.use_policy(parse_policy("version: 1\nrules: []\n"))
    assert gate.authorize(request("/groups")).reason is Reason.NO_MATCHING_RULE


class TestSeveralIssuers:
    POLICY = POLICY.replace("version: 1", f"version: 1\n{ISSUERS}")

    def test_each_has_the_headers_of_its_own_claim_map(self) -> None:
        own = authorizer(verified(), policy=self.POLICY).authorize(request("/groups"))
        assert injected(own) == {"x-auth-contract": "1", "x-auth-who": "user-1"}
        other = injected(authorizer(verified("http://other"), policy=self.POLICY).authorize(request("/groups")))
        assert "x-auth-who" not in other
        assert other["x-auth-sub"] == "user-1"

    def test_what_only_another_issuer_says_is_removed(self) -> None:
        decision = authorizer(verified(), policy=self.POLICY).authorize(request("/groups"))
        assert isinstance(decision, Allow)
        assert {"x-auth-sub", "x-auth-org-id", "x-auth-permissions"} <= set(decision.remove_headers)

    @pytest.mark.parametrize("path", ["/healthz", "/trial"])
    def test_without_an_identity_those_of_all_issuers_are_removed(self, path: str) -> None:
        refused = TokenRefused(Reason.TOKEN_EXPIRED, "A sentence.")
        decision = authorizer(refused, policy=self.POLICY).authorize(request(path))
        assert isinstance(decision, Allow)
        assert {"x-auth-sub", "x-auth-who"} <= set(decision.remove_headers)


class TestMemory:
    def test_a_token_that_the_verifier_still_vouches_for_is_not_verified_again(self) -> None:
        gate, verifier = remembering()
        first, second = gate.authorize(request("/groups")), gate.authorize(request("/groups"))
        assert first == second
        assert len(verifier.asked) == 1

    def test_a_token_is_remembered_once_however_its_header_is_spelled(self) -> None:
        gate, verifier = remembering()
        for spelled in ("Bearer a.b.c", "bearer a.b.c", "Bearer   a.b.c"):
            gate.authorize(request("/groups", ("authorization", spelled), token=False))
        assert (len(gate.remembered), verifier.asked) == (1, ["a.b.c"])

    def test_one_that_it_does_not_vouch_for_any_more_is_verified_again(self) -> None:
        gate, verifier = remembering()
        gate.authorize(request("/groups"))
        verifier.vouching = False
        verifier.outcome = TokenRefused(Reason.TOKEN_EXPIRED, "A sentence.")
        assert gate.authorize(request("/groups")).reason is Reason.TOKEN_EXPIRED
        assert len(gate.remembered) == 0

    def test_a_remembered_token_is_held_against_each_rule_anew(self) -> None:
        gate, _ = remembering()
        assert isinstance(gate.authorize(request("/groups")), Allow)
        assert gate.authorize(request("/orgs/org-1/x")).reason is Reason.ROLE_DENIED

    @pytest.mark.parametrize("path", ["/groups", "/orgs/org-1/x", "/trial"])
    def test_of_a_request_nothing_is_remembered_where_no_header_can_carry_the_claims(self, path: str) -> None:
        def refuse(headers: Headers, _subject: str, _kid: str) -> tuple[bytes, bytes]:
            try:
                return bytes.fromhex(headers[0][0]), b""
            except ValueError:
                raise InternalError(Reason.INTERNAL_ERROR, "A sentence.") from None

        gate = Authorizer(parse_policy(POLICY), Verifier(verified()), LIMITS, lambda: 1_600_000_000, refuse)
        large = "x" * 50_000
        references = sys.getrefcount(large)
        gate.authorize(request(path, ("x-large", large)))
        assert len(gate.remembered) == 1
        gc.collect()
        assert sys.getrefcount(large) == references

    def test_what_a_rule_compares_with_the_path_is_remembered(self) -> None:
        gate, verifier = remembering(verified(roles=["admin"]))
        for _ in range(2):
            assert isinstance(gate.authorize(request("/orgs/org-1/x")), Allow)
            assert gate.authorize(request("/orgs/org-2/x")).reason is Reason.PARAM_MISMATCH
        assert len(verifier.asked) == 1

    def test_a_refused_token_is_not_remembered(self) -> None:
        gate, verifier = remembering(TokenRefused(Reason.SIGNATURE_INVALID, "A sentence."))
        for _ in range(2):
            assert gate.authorize(request("/groups")).reason is Reason.SIGNATURE_INVALID
        assert len(verifier.asked) == 2

    def test_claims_that_no_header_can_carry_are_refused_each_time(self) -> None:
        gate, verifier = remembering(verified(username="a\nb"))
        for _ in range(2):
            assert gate.authorize(request("/groups")).reason is Reason.CLAIMS_INVALID
        assert len(verifier.asked) == 1

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            pytest.param("version: 1", "version: 1\nclaims_to_headers: {sub: x-auth-who}", id="headers"),
            pytest.param("{org_id: org_id}", "{sub: org_id}", id="claims that rules compare"),
            pytest.param("version: 1", f"version: 1\n{ISSUERS}", id="other issuers"),
            pytest.param(
                "version: 1", "version: 1\nissuers: [{issuer: http://issuer, audiences: [b]}]", id="other audiences",
            ),
        ],
    )
    def test_a_policy_that_introduces_otherwise_forgets_who_was_introduced(self, old: str, new: str) -> None:
        gate, verifier = remembering()
        gate.authorize(request("/groups"))
        gate.use_policy(parse_policy(POLICY.replace(old, new)))
        gate.authorize(request("/groups"))
        assert len(verifier.asked) == 2

    def test_a_policy_that_introduces_as_before_forgets_nobody(self) -> None:
        gate, verifier = remembering()
        gate.authorize(request("/groups"))
        gate.use_policy(parse_policy(POLICY.replace("mode: shadow", "mode: enforce")))
        gate.authorize(request("/groups"))
        assert len(verifier.asked) == 1
