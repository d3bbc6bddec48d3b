from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.errors import ConfigurationError
from authz_service.model import Mode
from authz_service.policy.document import MAX_RULES
from authz_service.policy.loader import (
    DEFAULT_IDENTITY_HEADERS,
    MAX_POLICY_BYTES,
    MAX_PROBLEMS,
    IssuerPolicy,
    Policy,
    parse_policy,
)
from authz_service.policy.path import split_target
from authz_service.policy.requirement import Requirement
from authz_service.policy.routes import COMMON_METHODS, Rule
from tests.support.rules import matched

DEMO = Path(__file__).parents[2] / "demo" / "policy.yaml"

EXAMPLE = """
version: 1
hosts: ["chat.example.com", "*.chat.internal"]    # optional Host allow-list
defaults: {mode: enforce}
rules:
  - name: health
    match: {path: /healthz, methods: [GET]}
    public: true
  - name: list-groups
    match: {path: /api/chat/groups, methods: [GET]}
    require: {permission: "groups:read"}
  - name: delete-group
    match: {path: "/api/chat/groups/{group_id}", methods: [DELETE]}
    require: {all_permissions: ["groups:read", "groups:delete"]}
  - name: org-admin
    match: {prefix: "/api/orgs/{org_id}/"}
    require: {any_permission: ["orgs:manage"], role: admin, claim_equals_param: {org_id: org_id}}
    mode: shadow
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_policy(text)
    return list(caught.value.problems)


def only_rule(rule: str, before: str = "") -> Rule:
    """The one rule ``r`` for ``/a``, with more said about it."""
    policy = parse_policy(f"version: 1\n{before}\nrules:\n- {{name: r, match: {{path: /a}}, {rule}}}\n")
    assert len(policy.routes.rules) == 1
    return policy.routes.rules[0]


def requirement(text: str) -> Requirement | None:
    return only_rule(f"require: {{{text}}}").requirement


@pytest.fixture
def example() -> Policy:
    return parse_policy(EXAMPLE)


def test_the_examples_rules_are_there_in_their_order(example: Policy) -> None:
    assert [rule.name for rule in example.routes.rules] == ["health", "list-groups", "delete-group", "org-admin"]


def test_a_public_rule_requires_nothing(example: Policy) -> None:
    health = example.routes.rules[0]
    assert (health.public, health.requirement, health.methods) == (True, None, frozenset({"GET"}))


def test_what_a_rule_requires_is_all_there(example: Policy) -> None:
    assert example.routes.rules[3].requirement == Requirement(
        any_permission=frozenset({"orgs:manage"}), all_roles=frozenset({"admin"}),
        claim_equals_param=(("org_id", "org_id"),),
    )  # fmt: skip


def test_each_rule_has_its_mode(example: Policy) -> None:
    assert [rule.mode for rule in example.routes.rules] == [Mode.ENFORCE] * 3 + [Mode.SHADOW]


def test_the_examples_hosts_are_the_only_ones(example: Policy) -> None:
    assert example.hosts.permits("chat.example.com:443")
    assert example.hosts.permits("a.chat.internal")
    assert not example.hosts.permits("example.com")


@pytest.mark.parametrize(
    ("method", "target", "rule"),
    [("GET", "/healthz", "health"), ("HEAD", "/api/chat/groups?limit=5", "list-groups"),
     ("DELETE", "/api/chat/groups/42", "delete-group"), ("PATCH", "/api/orgs/o-7/users/8", "org-admin"),
     ("POST", "/healthz", None), ("GET", "/api/orgs/o-7", None)],
)  # fmt: skip
def test_the_example_decides(example: Policy, method: str, target: str, rule: str | None) -> None:
    assert matched(example.routes.match(method, split_target(target))) == rule


def test_the_demo_has_a_good_policy() -> None:
    assert len(parse_policy(DEMO.read_text(encoding="utf-8")).routes.rules) == 8


def test_no_rules_deny_everything() -> None:
    policy = parse_policy("version: 1\nrules: []")
    assert policy.routes.match("GET", ("",)) is None
    assert policy.default_mode is Mode.ENFORCE


def test_without_hosts_any_host_is_served() -> None:
    assert parse_policy("version: 1\nrules: []").hosts.permits("whatever")


def test_what_json_writes_is_a_policy_too() -> None:
    text = '{"version": 1, "rules": [{"name": "r", "match": {"path": "/a"}, "public": true}]}'
    assert [rule.name for rule in parse_policy(text).routes.rules] == ["r"]


REQUIREMENTS = {
    "permission": ("permission: p", Requirement(all_permissions=frozenset({"p"}))),
    "any_permission": ("any_permission: [p, q]", Requirement(any_permission=frozenset({"p", "q"}))),
    "any_permission, empty": ("any_permission: []", Requirement(any_permission=frozenset())),
    "all_permissions": ("all_permissions: [p, q]", Requirement(all_permissions=frozenset({"p", "q"}))),
    "permission and all": ("permission: p, all_permissions: [q]", Requirement(all_permissions=frozenset({"p", "q"}))),
    "role": ("role: r", Requirement(all_roles=frozenset({"r"}))),
    "any_role": ("any_role: [r, s]", Requirement(any_role=frozenset({"r", "s"}))),
    "any_role, empty": ("any_role: []", Requirement(any_role=frozenset())),
    "authenticated": ("authenticated: true", Requirement(authenticated=True)),
    "asterisk, taken literally": ("permission: 'groups:*'", Requirement(all_permissions=frozenset({"groups:*"}))),
}


@pytest.mark.parametrize(("text", "expected"), REQUIREMENTS.values(), ids=REQUIREMENTS)
def test_each_word_of_a_requirement_is_carried_over(text: str, expected: Requirement) -> None:
    assert requirement(text) == expected


def test_rules_that_ask_the_same_share_what_they_ask() -> None:
    asked = ("{permission: p}", "{permission: q}", "{all_permissions: [p]}", "{permission: p, role: r}")
    lines = [f"- {{name: r{at}, match: {{path: /{at}}}, require: {require}}}" for at, require in enumerate(asked)]
    first, other, same, more = parse_policy("\n".join(["version: 1", "rules:", *lines])).routes.rules
    assert same.requirement is first.requirement
    assert len({first.requirement, other.requirement, more.requirement}) == 3


def test_a_rule_without_methods_covers_the_common_ones() -> None:
    assert only_rule("public: true").methods == COMMON_METHODS


DEFAULTS = {
    "nothing said": ("", "", (Mode.ENFORCE, None, False)),
    "mode by default": ("mode: shadow", "", (Mode.SHADOW, None, False)),
    "mode in the rule": ("mode: shadow", "mode: enforce", (Mode.ENFORCE, None, False)),
    "percentage by default": ("enforce_percent: 10", "", (Mode.ENFORCE, 10, False)),
    "percentage in the rule": ("enforce_percent: 10", "enforce_percent: 0", (Mode.ENFORCE, 0, False)),
    "percentage in the rule, mode by default": (
        "mode: shadow, enforce_percent: 10", "enforce_percent: 20", (Mode.SHADOW, 20, False),
    ),
    "mode in the rule, which is for everyone": ("enforce_percent: 10", "mode: enforce", (Mode.ENFORCE, None, False)),
    "preflight by default": ("cors_preflight: true", "", (Mode.ENFORCE, None, True)),
    "preflight, but not here": ("cors_preflight: true", "cors_preflight: false", (Mode.ENFORCE, None, False)),
    "preflight here": ("", "cors_preflight: true", (Mode.ENFORCE, None, True)),
}  # fmt: skip


@pytest.mark.parametrize(("defaults", "own", "expected"), DEFAULTS.values(), ids=DEFAULTS)
def test_a_rule_takes_over_the_defaults_that_it_does_not_replace(
    defaults: str, own: str, expected: tuple[Mode, int | None, bool]
) -> None:
    rule = only_rule(", ".join(filter(None, ["public: true", own])), before=f"defaults: {{{defaults}}}")
    assert (rule.mode, rule.enforce_percent, rule.cors_preflight) == expected


def test_the_default_mode_is_also_for_requests_that_no_rule_matches() -> None:
    assert parse_policy("version: 1\ndefaults: {mode: shadow}\nrules: []").default_mode is Mode.SHADOW


def test_without_a_map_the_claims_of_the_contract_become_headers() -> None:
    assert parse_policy("version: 1\nrules: []").identity_headers == DEFAULT_IDENTITY_HEADERS == (
        ("sub", "x-auth-sub"), ("org_id", "x-auth-org-id"), ("roles", "x-auth-roles"),
        ("permissions", "x-auth-permissions"), ("username", "x-auth-username"), ("email", "x-auth-email"),
        ("exp", "x-auth-exp"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "headers"),
    [("{tenant: x-auth-tenant, sub: x-auth-user}", (("tenant", "x-auth-tenant"), ("sub", "x-auth-user"))), ("{}", ())],
)
def test_a_map_of_claims_to_headers_replaces_the_whole_default(text: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert parse_policy(f"version: 1\nclaims_to_headers: {text}\nrules: []").identity_headers == headers


def test_without_issuers_the_environment_says_whom_to_trust() -> None:
    assert parse_policy("version: 1\nrules: []").issuers == ()


def test_an_issuer_that_says_no_more_leaves_the_rest_to_the_environment_and_the_policy() -> None:
    text = "version: 1\nclaims_to_headers: {sub: x-auth-who}\nissuers: [{issuer: http://a}]\nrules: []"
    headers = (("sub", "x-auth-who"),)
    assert parse_policy(text).issuers == (IssuerPolicy("http://a", None, False, None, headers),)


def test_each_issuer_has_its_own_keys_audiences_and_headers() -> None:
    issuers = """
issuers:
- {issuer: "http://a", jwks_url: "http://keys/a", audiences: [one, two]}
- {issuer: "http://b/", discovery: true, claims_to_headers: {}}
"""
    assert parse_policy(f"version: 1\n{issuers}\nrules: []").issuers == (
        IssuerPolicy("http://a", "http://keys/a", False, frozenset({"one", "two"}), DEFAULT_IDENTITY_HEADERS),
        IssuerPolicy("http://b/", None, True, None, ()),
    )


def test_the_digest_is_that_of_the_text() -> None:
    assert parse_policy(EXAMPLE).digest == sha256(EXAMPLE.encode()).hexdigest()[:12]
    assert parse_policy(EXAMPLE).digest != parse_policy(EXAMPLE + "\n").digest


NO_POLICY = {
    "empty": ("", "is empty; a policy has at least version: 1 and rules: [], which denies everything"),
    "only a comment": ("# a policy", "is empty; a policy has at least version: 1 and rules: []"),
    "number": ("7", "must be a mapping with the keys version and rules, not 7"),
    "list": ("[]", "must be a mapping with the keys version and rules, not a list"),
    "text": ("<html>", "must be a mapping with the keys version and rules, not '<html>'"),
    "no version": ("rules: []", "version: is missing"),
    "no rules": ("version: 1", "rules: is missing"),
    "rules without a value": ("version: 1\nrules:", "rules: has no value; give it one, or leave the key out"),
    "another version": ("version: 2\nrules: []", "version: must be 1, not 2"),
    "version in quotes": ("version: '1'\nrules: []", "version: must be 1, not '1'"),
    "version that equals 1": ("version: true\nrules: []", "version: must be 1, not true"),
    "rules as a mapping": ("version: 1\nrules: {}", "rules: must be a list, not a mapping"),
}

NOT_PLAIN = {
    "alias": ("version: 1\nrules: &r []\nx: *r", "line 2, column 8: anchors and aliases are not allowed"),
    "key twice": ("version: 1\nrules: []\nrules: []", "line 3, column 1: the key 'rules' comes a second time"),
    "tag": ("version: !!int 1\nrules: []", "line 1, column 10: the tag 'tag:yaml.org,2002:int' is not allowed"),
    "Python tag": ("rules: !!python/name:os.system ''", "the tag 'tag:yaml.org,2002:python/name:os.system' is not"),
    "merge key": ("<<: {version: 1}\nrules: []", "line 1, column 1: the key << must be text"),
    "second document": ("version: 1\nrules: []\n---\nversion: 1", "line 3, column 1: a second document begins"),
    "syntax": ("version: 1\nrules: [", "not YAML"),
    "control character": ("version: 1\nrules: []\0", "the character '\\x00' is not allowed"),
    "lone surrogate": ("version: 1\nrules: []\udc80", "must be Unicode text; it contains a lone surrogate"),
    "billion laughs": (
        "a: &a [x]\n" + "".join(f"{b}: &{b} [*{a},*{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "line 2, column 4: anchors and aliases are not allowed; write the value out",
    ),
    "nested deeply": ("[" * 100_000, "nested more than 16 deep"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), NO_POLICY.values(), ids=NO_POLICY)
def test_what_is_no_policy_is_refused_with_what_one_is(text: str, expected: str) -> None:
    assert [problem for problem in problems(text) if problem.startswith(expected)]


@pytest.mark.parametrize(("text", "expected"), NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_yaml_that_can_be_read_in_two_ways_is_refused(text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(text))


def test_yaml_mistakes_alone_are_enough_to_refuse_a_policy() -> None:
    assert problems("version: 1\nrules: []\nrules: []") == [
        "line 3, column 1: the key 'rules' comes a second time; merge the two"
    ]


def test_all_mistakes_are_told_at_once_from_yaml_to_rules() -> None:
    text = """
version: 2
version: 1
hots: []
rules:
- {name: a, match: {path: a}, public: true}
- {name: a, match: {path: /a}, requires: {role: admin}}
"""
    assert problems(text) == [
        "line 3, column 1: the key 'version' comes a second time; merge the two",
        "version: must be 1, not 2",
        'rules[0] (a).match.path: must begin with "/"',
        "rules[1] (a): needs either public: true or require, one of the two",
        "rules[1] (a).requires: there is no such key; did you mean require?",
        "hots: there is no such key; did you mean hosts?",
        "rules[1].name: 'a' is the name of rules[0] already; give it its own",
    ]


def test_two_rules_cannot_have_one_name() -> None:
    rule = "- {name: a, match: {path: /a}, public: true}\n"
    assert problems("version: 1\nrules:\n" + rule * 3) == [
        f"rules[{index}].name: 'a' is the name of rules[0] already; give it its own" for index in (1, 2)
    ]


def test_two_claims_cannot_share_a_header() -> None:
    headers = '{sub: x-auth-user, "user\\n": x-auth-user}'
    assert (
        "claims_to_headers.'user\\n': 'x-auth-user' carries sub already; give it its own"
        in problems(f"version: 1\nclaims_to_headers: {headers}\nrules: []")
    )


def test_rules_that_branch_too_far_are_a_mistake_too() -> None:
    def templates(depth: int) -> list[str]:
        if depth == 0:
            return [""]
        return [end for start in templates(depth - 1) for end in (f"{start}/a", f"{start}/{{p{depth}}}")]

    rules = (f'- {{name: r{i}, match: {{path: "{path}"}}, public: true}}' for i, path in enumerate(templates(7)))
    assert problems("version: 1\nrules:\n" + "\n".join(rules))[0].startswith("rules: a path could go up to 128 ways")


def test_the_largest_policy_is_read_and_a_longer_one_is_not() -> None:
    text = "version: 1\nrules: [] #" + "\u00e9" * ((MAX_POLICY_BYTES - 22) // 2)
    assert len(text.encode()) == MAX_POLICY_BYTES
    assert parse_policy(text)
    assert problems(text + "x") == [f"must be at most {MAX_POLICY_BYTES} bytes long"]


def test_too_many_rules_are_refused_before_any_of_them_is_looked_at() -> None:
    assert problems("version: 1\nrules: [" + "7," * (MAX_RULES + 1) + "]") == [
        f"rules: must be at most {MAX_RULES} rules, not {MAX_RULES + 1}"
    ]


def test_a_thousand_mistakes_are_enough() -> None:
    told = problems("version: 1\nrules: [" + "7," * (MAX_PROBLEMS + 1) + "]")
    assert len(told) == MAX_PROBLEMS + 1
    assert told[-1] == f"these are the first {MAX_PROBLEMS} mistakes; there are more"


WORDS = st.sampled_from([
    "version", "1", "rules", "hosts", "defaults", "name", "match", "path", "/a/{x}", "/", "require", "permission",
    "any_role", "public", "true", "mode", "shadow", "claim_equals_param", "x", "~", "2", "claims_to_headers", "methods",
])  # fmt: skip
DOCUMENTS = st.recursive(
    WORDS,
    lambda inner: st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    | st.dictionaries(WORDS, inner, max_size=4).map(
        lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
    ),
    max_leaves=20,
)


@settings(max_examples=150)
@given(st.text() | DOCUMENTS)
def test_any_text_is_a_policy_or_a_list_of_mistakes_and_nothing_else(text: str) -> None:
    told: tuple[str, ...] = ("a policy",)
    try:
        parse_policy(text)
    except ConfigurationError as error:
        told = error.problems
    assert told
    assert all(line.isprintable() for line in told)
