"""A log decided again comes out as the service would decide by the other policy, or it is said that it cannot."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from authz_service.authorizer import Authorizer
from authz_service.errors import Reason, Refused, RequestRefused, TokenRefused, Unavailable
from authz_service.migration.replay import Replay
from authz_service.migration.report import Direction, Report, Unknown, Why
from authz_service.model import Allow, Claims, Decision, HttpRequest
from authz_service.observability.decision_line import decided, write_line
from authz_service.policy.loader import Policy, parse_policy
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import VerifiedToken
from tests.support.limits import LIMITS

KEY = VerificationKey("key-1", frozenset({"RS256"}), "thumbprint", {})
PREFLIGHT = (("origin", "https://app.example.com"), ("access-control-request-method", "POST"))


class Verifier:
    """Tokens are the claims themselves, or the reason to refuse them."""

    def __init__(self, tokens: Mapping[str, "Claims | Refused"]) -> None:
        self._tokens = tokens

    def verify(self, token: str, _now: float) -> VerifiedToken:
        found = self._tokens[token]
        if isinstance(found, Refused):
            raise found.with_traceback(None)
        return VerifiedToken(found, KEY)

    def vouches(self, _claims: Claims, _key: VerificationKey, _now: float) -> bool:
        return False


def claims(sub: str = "user-1", *permissions: str, issuer: str = "http://issuer", **payload: object) -> Claims:
    roles = payload.pop("roles", ["member"])
    assert isinstance(roles, list)
    payload |= {"iss": issuer, "sub": sub}
    return Claims(issuer, sub, 1, frozenset(permissions), frozenset(roles), MappingProxyType(payload))


TOKENS: dict[str, Claims | Refused] = {
    "nothing": claims("user-1"),
    "reader": claims("user-1", "groups:read", org_id="org-1"),
    "writer": claims("user-2", "groups:read", "groups:write", org_id="org-2", team="red"),
    "admin": claims("user-3", "groups:write", roles=["admin"], org_id=["org-1"]),
    "chief": claims("user-6", roles=["admin"]),
    "partner": claims("user-4", "groups:read", issuer="http://partner", org_id="org-1"),
    "control": claims("user-5", "groups:read", username="a\nb"),
    "expired": TokenRefused(Reason.TOKEN_EXPIRED, "A sentence."),
    "foreign": TokenRefused(Reason.ISSUER_MISMATCH, "A sentence."),
    "two": RequestRefused(Reason.MULTIPLE_TOKENS, "A sentence."),
    "unavailable": Unavailable(Reason.KEYS_UNAVAILABLE, "A sentence."),
    "overloaded": Unavailable(Reason.OVERLOADED, "A sentence."),
}


def policy(*rules: str, more: str = "") -> Policy:
    return parse_policy("\n".join(["version: 1", more, "rules:", *(f"  - {rule}" for rule in rules)]))


def decide(by: Policy, request: HttpRequest) -> Decision:
    encode = lambda *_: (b"", b"")  # noqa: E731
    return Authorizer(by, Verifier(TOKENS), LIMITS, lambda: 0.0, encode).authorize(request, after_refresh=True)


def asked(path: str = "/groups", by: str | None = "reader", method: str = "GET", **fields: Any) -> HttpRequest:
    headers = (("authorization", f"Bearer {by}"),) if by else ()
    return HttpRequest(method, path, fields.pop("host", "chat.example.com"), headers + fields.pop("more", ()))


def logged(by: Policy, *requests: HttpRequest, plain: bool = False) -> list[bytes]:
    return [write_line(decided(each, decide(by, each), 0), plain_subject=plain) for each in requests]


def replay(lines: list[bytes], by: Policy) -> Report:
    again = Replay(by)
    again.read(lines)
    return again.report


Change = tuple[str, str, str, str]
"""Direction, rule, reasons before and after."""


def flipped(before: Policy, after: Policy, *requests: HttpRequest, plain: bool = False) -> list[Change]:
    report = replay(logged(before, *requests, plain=plain), after)
    assert not report.unknown
    return [(flip.direction, flip.rule, flip.before.reason, flip.after.reason) for flip in report.flips]


def untold(before: Policy, after: Policy, *requests: HttpRequest) -> list[Unknown]:
    report = replay(logged(before, *requests), after)
    assert not report.flips
    return list(report.unknown)


GROUPS = 'match: {path: /groups, methods: [GET]}'
READ = policy(f'{{name: groups, {GROUPS}, require: {{permission: "groups:read"}}}}')
WRITE = policy(f'{{name: groups, {GROUPS}, require: {{permission: "groups:write"}}}}')
SHADOW = policy(f'{{name: groups, {GROUPS}, require: {{permission: "groups:write"}}, mode: shadow}}')
PUBLIC = policy(f"{{name: groups, {GROUPS}, public: true}}")
NOTHING = parse_policy("version: 1\nrules: []")


class TestPlantedDifferences:
    def test_a_permission_more_is_stricter_for_those_who_lack_it(self) -> None:
        assert flipped(READ, WRITE, asked(), asked(by="writer")) == [
            ("stricter", "groups", "allowed", "permission_denied")
        ]

    def test_a_permission_less_is_looser_for_those_who_lacked_it(self) -> None:
        assert flipped(WRITE, READ, asked(), asked(by="nothing")) == [
            ("looser", "groups", "permission_denied", "allowed")
        ]

    def test_a_rule_that_is_gone_is_named_by_the_rule_that_decided(self) -> None:
        assert flipped(READ, NOTHING, asked()) == [("stricter", "groups", "allowed", "no_matching_rule")]

    def test_a_route_that_becomes_public_is_looser_for_everybody_without_a_good_token(self) -> None:
        assert flipped(READ, PUBLIC, asked(by=None), asked(by="expired"), asked()) == [
            ("looser", "groups", "token_missing", "public"), ("looser", "groups", "token_expired", "public"),
        ]  # fmt: skip

    def test_a_public_route_that_asks_for_a_token_is_stricter_for_those_who_sent_none(self) -> None:
        assert flipped(PUBLIC, READ, asked(by=None)) == [("stricter", "groups", "public", "token_missing")]

    def test_a_host_that_is_not_served_any_more_is_stricter(self) -> None:
        other = policy(f'{{name: groups, {GROUPS}, require: {{permission: "groups:read"}}}}', more="hosts: [a.example]")
        assert flipped(READ, other, asked(), asked(host="a.example")) == [
            ("stricter", "groups", "allowed", "host_not_allowed")
        ]

    def test_an_issuer_that_is_not_trusted_any_more_is_stricter_for_its_callers(self) -> None:
        other = policy(f'{{name: groups, {GROUPS}, require: {{permission: "groups:read"}}}}',
                       more="issuers: [{issuer: http://issuer}]")  # fmt: skip
        assert flipped(READ, other, asked(), asked(by="partner")) == [
            ("stricter", "groups", "allowed", "issuer_mismatch")
        ]

    def test_a_preflight_is_decided_as_one(self) -> None:
        cors = policy(f'{{name: groups, {GROUPS}, require: {{permission: "groups:read"}}, cors_preflight: true}}')
        preflight = asked(method="OPTIONS", by=None, more=PREFLIGHT)
        assert flipped(READ, cors, preflight) == [("looser", "groups", "no_matching_rule", "cors_preflight")]
        assert flipped(READ, cors, asked(method="OPTIONS", by=None)) == []


class TestShadow:
    def test_to_enforce_what_was_in_shadow_is_stricter_for_those_who_got_through(self) -> None:
        assert flipped(SHADOW, WRITE, asked(), asked(by="writer")) == [
            ("stricter", "groups", "permission_denied", "permission_denied")
        ]

    def test_to_put_into_shadow_what_was_enforced_is_looser(self) -> None:
        assert flipped(WRITE, SHADOW, asked()) == [("looser", "groups", "permission_denied", "permission_denied")]

    def test_what_a_rule_in_shadow_would_deny_is_judged_as_if_it_did(self) -> None:
        assert flipped(READ, SHADOW, asked()) == [("stricter", "groups", "allowed", "permission_denied")]
        assert flipped(SHADOW, READ, asked()) == [("looser", "groups", "permission_denied", "allowed")]

    @pytest.mark.parametrize("plain", [False, True])
    def test_a_percentage_picks_the_same_callers_as_the_service(self, plain: bool) -> None:
        subjects = {f"s{number}": claims(f"user-{number}") for number in range(50)}
        half = policy(f'{{name: groups, {GROUPS}, require: {{permission: "groups:write"}}, enforce_percent: 50}}')
        TOKENS.update(subjects)
        requests = [asked(by=name) for name in subjects]
        denied = sum(not isinstance(decide(half, each), Allow) for each in requests)
        report = replay(logged(SHADOW, *requests, plain=plain), half)
        assert 0 < denied < 50
        assert report.total(Direction.STRICTER) == denied


ORG = 'match: {path: "/orgs/{id}", methods: [GET]}'
OPEN = policy(f"{{name: org, {ORG}, require: {{authenticated: true}}}}")
OWN = policy(f"{{name: org, {ORG}, require: {{permission: \"groups:read\", claim_equals_param: {{org_id: id}}}}}}")
OWN_TEAM = policy(f"{{name: org, {ORG}, require: {{claim_equals_param: {{team: id, org_id: id}}}}}}")
SELF = policy(f"{{name: org, {ORG}, require: {{claim_equals_param: {{sub: id}}}}}}")
FROM = policy(f"{{name: org, {ORG}, require: {{claim_equals_param: {{iss: id}}}}}}")


class TestComparedClaims:
    def test_a_claim_in_the_log_is_compared_again(self) -> None:
        by_value = policy(f"{{name: org, {ORG}, require: {{claim_equals_param: {{org_id: id}}}}}}")
        assert flipped(OWN, by_value, asked("/orgs/org-1"), asked("/orgs/org-2"), asked("/orgs/x", "nothing")) == []
        assert flipped(OWN, by_value, asked("/orgs/org-2", "writer"), asked("/orgs/org-1", "admin")) == []

    def test_a_claim_that_is_not_in_the_log_is_not_guessed(self) -> None:
        assert untold(OPEN, OWN, asked("/orgs/org-1")) == [Unknown(Why.CLAIM_NOT_LOGGED, "org")]

    def test_unless_the_answer_is_no_whatever_it_is(self) -> None:
        assert flipped(OPEN, OWN, asked("/orgs/org-1", "nothing")) == [
            ("stricter", "org", "allowed", "permission_denied")
        ]
        assert flipped(OWN, OWN_TEAM, asked("/orgs/org-9")) == []

    def test_nor_is_one_of_two_that_is_missing(self) -> None:
        assert untold(OWN, OWN_TEAM, asked("/orgs/org-1")) == [Unknown(Why.CLAIM_NOT_LOGGED, "org")]

    @pytest.mark.parametrize("plain", [False, True])
    def test_a_subject_is_compared_by_its_hash_as_well(self, plain: bool) -> None:
        requests = [asked("/orgs/user-1"), asked("/orgs/user-2")]
        assert flipped(OPEN, SELF, *requests, plain=plain) == [("stricter", "org", "allowed", "param_mismatch")]
        assert flipped(SELF, OPEN, *requests, plain=plain) == [("looser", "org", "param_mismatch", "allowed")]

    def test_an_issuer_is_known_in_any_case(self) -> None:
        assert flipped(OPEN, FROM, asked("/orgs/x")) == [("stricter", "org", "allowed", "param_mismatch")]


class TestCouldNotTell:
    def test_what_was_public_says_nothing_of_its_token(self) -> None:
        assert untold(PUBLIC, READ, asked()) == [Unknown(Why.NOT_LOOKED_AT, "groups")]

    def test_nor_does_what_no_rule_was_about(self) -> None:
        assert untold(NOTHING, READ, asked()) == [Unknown(Why.NOT_LOOKED_AT, "groups")]

    @pytest.mark.parametrize("after", [READ, PUBLIC])
    def test_an_outage_is_no_verdict_of_a_policy(self, after: Policy) -> None:
        for by in ("unavailable", "overloaded"):
            assert untold(READ, after, asked(by=by)) == [Unknown(Why.SERVICE, "groups")]

    def test_an_issuer_that_was_refused_may_be_one_of_the_new_ones(self) -> None:
        other = policy(f'{{name: groups, {GROUPS}, require: {{permission: "groups:read"}}}}',
                       more="issuers: [{issuer: http://partner}]")  # fmt: skip
        assert untold(READ, other, asked(by="foreign")) == [Unknown(Why.ISSUERS, "groups")]
        assert flipped(READ, WRITE, asked(by="foreign")) == []

    def test_what_made_a_path_ambiguous_may_not_be_in_the_log(self) -> None:
        assert untold(PUBLIC, PUBLIC, asked("/groups?#", None)) == [Unknown(Why.PATH, "groups")]
        assert flipped(PUBLIC, NOTHING, asked("//groups", None)) == []


def test_a_caller_whom_no_header_can_carry_stays_refused_wherever_the_rule_would_do() -> None:
    assert flipped(READ, READ, asked(by="control")) == []
    assert flipped(READ, WRITE, asked(by="control")) == []
    assert flipped(READ, PUBLIC, asked(by="control")) == [("looser", "groups", "claims_invalid", "public")]


def test_a_disagreement_of_a_comparison_is_told_by_its_rule_and_is_no_decision_besides() -> None:
    request = asked()
    lines = [write_line(decided(request, decide(READ, request), 0, Reason.TOKEN_EXPIRED), plain_subject=False)]
    report = replay(lines, WRITE)
    assert (report.lines, report.decided, report.flips) == (1, 0, {})
    ((disagreement, found),) = report.disagreements.items()
    assert (disagreement, found.count) == (("groups", "allowed", "token_expired"), 1)


def test_damaged_lines_are_counted_and_the_others_decided() -> None:
    good = logged(READ, asked())[0]
    report = replay([good, good[:50], b"\n", good], WRITE)
    assert (report.lines, report.decided, report.damaged, report.damaged_lines) == (4, 2, 2, [2, 3])
    ((_, found),) = report.flips.items()
    assert [example.line for example in found.examples] == [1, 4]


def test_the_first_few_of_many_are_shown_and_all_are_counted() -> None:
    report = replay(logged(READ, asked()) * 50 + [b"\n"] * 50, WRITE)
    ((_, found),) = report.flips.items()
    assert (found.count, len(found.examples)) == (50, 3)
    assert (report.damaged, len(report.damaged_lines)) == (50, 20)


ADMINS = policy(f"{{name: groups, {GROUPS}, require: {{role: admin}}}}")
ANYBODY = policy(f"{{name: groups, {GROUPS}, require: {{authenticated: true}}}}")
ONE_HOST = policy(
    f'{{name: groups, {GROUPS}, require: {{permission: "groups:read"}}}}', more="hosts: [chat.example.com]"
)
OPTIONS = "match: {path: /groups, methods: [OPTIONS]}"
WITH_CORS = policy(f"{{name: groups, {OPTIONS}, require: {{authenticated: true}}, cors_preflight: true}}")
WITHOUT = policy(f"{{name: groups, {OPTIONS}, require: {{authenticated: true}}}}")


@pytest.mark.parametrize(("before", "after", "one", "other"), [
    (READ, WRITE, asked(by="reader"), asked(by="writer")),
    (ANYBODY, ADMINS, asked(by="nothing"), asked(by="chief")),
    (READ, ONE_HOST, asked(), asked(host="other.example")),
    (PUBLIC, READ, asked(by=None), asked()),
    (WITHOUT, WITH_CORS, asked(by=None, method="OPTIONS"), asked(by=None, method="OPTIONS", more=PREFLIGHT)),
    (OPEN, SELF, asked("/orgs/user-1"), asked("/orgs/user-2")),
], ids=["permissions", "roles", "host", "credentials", "preflight", "path"])  # fmt: skip
def test_what_makes_a_difference_is_not_taken_for_the_same(
    before: Policy, after: Policy, one: HttpRequest, other: HttpRequest
) -> None:
    for requests in ([one, other], [other, one]):
        report = replay(logged(before, *requests), after)
        assert [found.count for found in (*report.flips.values(), *report.unknown.values())] in ([1], [1, 1])


# And whatever the policies are.

REQUIREMENTS = [
    'require: {permission: "groups:read"}', 'require: {any_permission: ["groups:write", "x"], role: admin}',
    "require: {authenticated: true}", "public: true", "require: {claim_equals_param: {org_id: id}}",
    "require: {claim_equals_param: {sub: id}}", 'require: {permission: "groups:read", claim_equals_param: {team: id}}',
]
MATCHES = ['{path: "/groups/{id}"}', '{path: "/groups/{id}", methods: [GET]}', '{prefix: "/groups/{id}/"}',
           '{path: "/groups/{id}/x"}']  # fmt: skip
MODES = ["", ", mode: shadow", ", enforce_percent: 30", ", cors_preflight: true"]
TOPS = ["", "hosts: [chat.example.com]", "defaults: {mode: shadow}", "issuers: [{issuer: http://issuer}]"]
RULES = st.lists(st.tuples(st.sampled_from(MATCHES), st.sampled_from(REQUIREMENTS), st.sampled_from(MODES)), max_size=3)
REQUESTS = st.builds(
    asked,
    st.sampled_from(["/groups/org-1", "/groups/user-2", "/groups/red", "/groups/red/x", "/groups/a?b", "//", "/x"]),
    st.sampled_from([None, "nothing", "reader", "writer", "admin", "expired", "two", "unavailable"]),
    st.sampled_from(["GET", "POST", "OPTIONS", "get"]), host=st.sampled_from(["chat.example.com", "other.example"]),
    more=st.sampled_from([(), PREFLIGHT]),
)  # fmt: skip


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rules = draw(RULES)
    return policy(
        *(f"{{name: rule-{number}, match: {match}, {asks}{mode}}}" for number, (match, asks, mode) in enumerate(rules)),
        more=draw(st.sampled_from(TOPS)),
    ) if rules else NOTHING  # fmt: skip


class Seen(NamedTuple):
    permitted: bool
    passed: bool


def seen(decision: Decision) -> Seen:
    permitted = decision.reason in {Reason.ALLOWED, Reason.PUBLIC, Reason.CORS_PREFLIGHT}
    return Seen(permitted, isinstance(decision, Allow))


@given(before=policies(), after=policies(), request=REQUESTS, plain=st.booleans())
def test_it_comes_out_as_the_service_would_decide(
    before: Policy, after: Policy, request: HttpRequest, plain: bool
) -> None:
    report = replay(logged(before, request, plain=plain), after)
    assume(not report.unknown)
    was, now = seen(decide(before, request)), decide(after, request)
    for flip in report.flips:
        assert (flip.after.reason, flip.after.rule, flip.after.mode) == (now.reason, now.rule, now.mode)
        assert (flip.after.permitted, flip.after.passed) == seen(now)
    assert bool(report.flips) == (was != seen(now))


@given(by=policies(), requests=st.lists(REQUESTS, max_size=5), plain=st.booleans())
def test_by_the_same_policy_nothing_flips(by: Policy, requests: list[HttpRequest], plain: bool) -> None:
    report = replay(logged(by, *requests, plain=plain), by)
    assert report.flips == {}
    assert {unknown.why for unknown in report.unknown} <= {Why.SERVICE}


@given(before=policies(), after=policies(), requests=st.lists(REQUESTS, max_size=8), plain=st.booleans())
def test_what_is_remembered_of_one_line_is_true_of_the_others(
    before: Policy, after: Policy, requests: list[HttpRequest], plain: bool
) -> None:
    lines = logged(before, *requests, plain=plain)
    together = replay(lines, after)
    alone = [replay([line], after) for line in lines]
    flips = Counter(flip for report in alone for flip in report.flips)
    unknown = Counter(key for report in alone for key in report.unknown)
    assert {key: found.count for key, found in together.flips.items()} == flips
    assert {key: found.count for key, found in together.unknown.items()} == unknown
