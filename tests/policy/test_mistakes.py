"""Each mistake is one line: where it is in the file, and what would be right."""

from collections.abc import Callable

import pytest

from authz_service.errors import ConfigurationError
from authz_service.policy.loader import parse_policy

RULE = "{name: r, match: {path: '/a/{x}'}, public: true}"


def told(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_policy(text)
    return list(caught.value.problems)


def in_rule(rule: str) -> list[str]:
    """What is told of a rule that stands second in the file."""
    return told(f"version: 1\nrules:\n- {RULE}\n- {rule}\n")


def in_match(match: str) -> list[str]:
    return in_rule(f"{{name: second, match: {{{match}}}, public: true}}")


def in_require(require: str) -> list[str]:
    return in_rule(f"{{name: second, match: {{path: '/a/{{x}}'}}, require: {{{require}}}}}")


def in_file(line: str) -> list[str]:
    return told(f"version: 1\nrules: []\n{line}\n")


OF_A_RULE = {
    "no mapping": ("7", "rules[1]: must be a mapping, not 7"),
    "no name": ("{match: {path: /a}, public: true}", "rules[1].name: is missing"),
    "empty name": (
        "{name: '', match: {path: /a}, public: true}",
        "rules[1] ().name: must be a short token of a-z, 0-9, '.', '_' and '-', not ''",
    ),
    "name in capitals": (
        "{name: Second, match: {path: /a}, public: true}",
        "rules[1] (Second).name: must be a short token of a-z, 0-9, '.', '_' and '-', not 'Second'",
    ),
    "name that is a number": ("{name: 7, match: {path: /a}, public: true}", "rules[1].name: must be text, not 7"),
    "name that is a truth value to some": (
        "{name: on, match: {path: /a}, public: true}", "rules[1].name: must be text; write 'on' in quotes",
    ),
    "no match": ("{name: second, public: true}", "rules[1] (second).match: is missing"),
    "neither public nor require": (
        "{name: second, match: {path: /a}}",
        "rules[1] (second): needs either public: true or require, one of the two",
    ),
    "public and require": (
        "{name: second, match: {path: /a}, public: true, require: {role: admin}}",
        "rules[1] (second): needs either public: true or require, one of the two",
    ),
    "public, but false": (
        "{name: second, match: {path: /a}, public: false}", "rules[1] (second).public: must be true, not false",
    ),
    "public, but 1": ("{name: second, match: {path: /a}, public: 1}", "rules[1] (second).public: must be true, not 1"),
    "unknown mode": (
        "{name: second, match: {path: /a}, public: true, mode: audit}",
        "rules[1] (second).mode: must be 'enforce' or 'shadow', not 'audit'",
    ),
    "mode that is a truth value to some": (
        "{name: second, match: {path: /a}, public: true, mode: off}",
        "rules[1] (second).mode: must be 'enforce' or 'shadow', not off",
    ),
    "percentage over 100": (
        "{name: second, match: {path: /a}, public: true, enforce_percent: 101}",
        "rules[1] (second).enforce_percent: must be a whole number from 0 to 100, not 101",
    ),
    "percentage under 0": (
        "{name: second, match: {path: /a}, public: true, enforce_percent: -1}",
        "rules[1] (second).enforce_percent: must be a whole number from 0 to 100, not -1",
    ),
    "percentage with a fraction": (
        "{name: second, match: {path: /a}, public: true, enforce_percent: 0.5}",
        "rules[1] (second).enforce_percent: must be a whole number from 0 to 100, not 0.5",
    ),
    "percentage that is a truth value": (
        "{name: second, match: {path: /a}, public: true, enforce_percent: true}",
        "rules[1] (second).enforce_percent: must be a whole number from 0 to 100, not true",
    ),
    "preflight, but yes": (
        "{name: second, match: {path: /a}, public: true, cors_preflight: yes}",
        "rules[1] (second).cors_preflight: must be true or false, not yes",
    ),
    "key without a value": (
        "{name: second, match: {path: /a}, public: true, mode: }",
        "rules[1] (second).mode: has no value; give it one, or leave the key out",
    ),
}  # fmt: skip

OF_MATCH = {
    "nothing": ("", "rules[1] (second).match: needs either path or prefix, one of the two"),
    "both": ("path: /a, prefix: /b/", "rules[1] (second).match: needs either path or prefix, one of the two"),
    "path without a slash": ("path: a", 'rules[1] (second).match.path: must begin with "/"'),
    "path that is a number": ("path: 7", "rules[1] (second).match.path: must be text, not 7"),
    "prefix without its slash": (
        "prefix: /a",
        'rules[1] (second).match.prefix: must end with "/", so that /api/chat does not match /api/chatter',
    ),
    "no methods": (
        "path: /a, methods: []",
        "rules[1] (second).match.methods: must not be empty; name at least one, or leave the key out",
    ),
    "method without a list": ("path: /a, methods: GET", "rules[1] (second).match.methods: must be a list, not 'GET'"),
    "lower-case method": (
        "path: /a, methods: [GET, put]", "rules[1] (second).match.methods[1]: methods are case-sensitive; write PUT",
    ),
    "CONNECT": (
        "path: /a, methods: [CONNECT]",
        "rules[1] (second).match.methods[0]: CONNECT is never let through; leave it out",
    ),
    "TRACE": (
        "path: /a, methods: [TRACE]", "rules[1] (second).match.methods[0]: TRACE is never let through; leave it out",
    ),
    "no method": (
        "path: /a, methods: ['*']", "rules[1] (second).match.methods[0]: must be a method such as GET or POST",
    ),
}  # fmt: skip

OF_REQUIRE = {
    "nothing": (
        "", "rules[1] (second).require: asks for nothing; use authenticated: true for anyone with a valid token",
    ),
    "not authenticated": ("authenticated: false", "rules[1] (second).require.authenticated: must be true, not false"),
    "list for one": ("permission: [p]", "rules[1] (second).require.permission: must be text, not a list"),
    "one for a list": ("any_permission: p", "rules[1] (second).require.any_permission: must be a list, not 'p'"),
    "number in a list": ("any_role: [a, 7]", "rules[1] (second).require.any_role[1]: must be text, not 7"),
    "all of nothing": (
        "all_permissions: []",
        "rules[1] (second).require.all_permissions: must not be empty; name at least one, or leave the key out",
    ),
    "empty permission": (
        "permission: ''",
        "rules[1] (second).require.permission: must be text of 1 to 256 characters, "
        "without control characters or spaces around it",
    ),
    "spaces around": (
        "permission: ' p'",
        "rules[1] (second).require.permission: must be text of 1 to 256 characters, "
        "without control characters or spaces around it",
    ),
    "too long": (
        f"role: {'r' * 257}",
        "rules[1] (second).require.role: must be text of 1 to 256 characters, "
        "without control characters or spaces around it",
    ),
    "no such parameter": (
        "claim_equals_param: {org: org}",
        "rules[1] (second).require.claim_equals_param: the path has no parameter org; it has x",
    ),
    "parameter that cannot be one": (
        "claim_equals_param: {org: '{x}'}",
        "rules[1] (second).require.claim_equals_param.org: must be the name of a parameter of the path, not '{x}'",
    ),
    "claim without a name": (
        "claim_equals_param: {'': x}",
        "rules[1] (second).require.claim_equals_param.'': the name must be text of 1 to 256 characters, "
        "without control characters or spaces around it",
    ),
    "no claims": (
        "claim_equals_param: {}",
        "rules[1] (second).require.claim_equals_param: must not be empty; name at least one, or leave the key out",
    ),
}  # fmt: skip

OF_THE_FILE = {
    "defaults as a list": ("defaults: []", "defaults: must be a mapping, not a list"),
    "unknown default mode": ("defaults: {mode: off}", "defaults.mode: must be 'enforce' or 'shadow', not off"),
    "no hosts": ("hosts: []", "hosts: must not be empty; name at least one, or leave the key out"),
    "host with a port": (
        "hosts: [a, 'b:80']",
        'hosts[1]: must be a host name such as "chat.example.com" or "*.chat.internal", without scheme, port or path '
        "(international names in their xn-- form)",
    ),
    "header that is not ours": (
        "claims_to_headers: {sub: authorization}",
        "claims_to_headers.sub: must be a lower-case header name that begins with x-auth-, not 'authorization'",
    ),
    "header in capitals": (
        "claims_to_headers: {sub: X-Auth-Sub}",
        "claims_to_headers.sub: must be a lower-case header name that begins with x-auth-, not 'X-Auth-Sub'",
    ),
    "header with a line feed": (
        'claims_to_headers: {sub: "x-auth-a\\n"}',
        "claims_to_headers.sub: must be a lower-case header name that begins with x-auth-, not 'x-auth-a\\n'",
    ),
    "contract header": (
        "claims_to_headers: {sub: x-auth-contract}",
        "claims_to_headers.sub: x-auth-contract is what this service itself says; choose another name",
    ),
    "shadow header": (
        "claims_to_headers: {sub: x-auth-shadow}",
        "claims_to_headers.sub: x-auth-shadow is what this service itself says; choose another name",
    ),
}

OF_AN_ISSUER = {
    "no mapping": ("http://a", "issuers[1]: must be a mapping, not 'http://a'"),
    "no issuer": ("{discovery: true}", "issuers[1].issuer: is missing"),
    "no URL": (
        "{issuer: auth-api}",
        "issuers[1].issuer: must be an http:// or https:// URL with a host and without a fragment",
    ),
    "query": (
        '{issuer: "http://b?tenant=1"}',
        "issuers[1].issuer: must not have a query (OpenID Connect Discovery 1.0 section 3)",
    ),
    "credentials": (
        '{issuer: "http://u:p@b"}', "issuers[1].issuer: must not carry credentials; they would end up in logs",
    ),
    "very long": (
        f"{{issuer: http://{'b' * 2048}}}", "issuers[1].issuer: must be at most 2048 characters long",
    ),
    "another's": (
        "{issuer: http://first}",
        "issuers[1].issuer: 'http://first' is the issuer of issuers[0] already; give it its own",
    ),
    "keys that are a file": (
        "{issuer: http://b, jwks_url: file:///keys}",
        "issuers[1].jwks_url: must be an http:// or https:// URL with a host and without a fragment",
    ),
    "two places": (
        "{issuer: http://b, jwks_url: http://c, discovery: true}",
        "issuers[1]: has both jwks_url and discovery; name one of the two, or neither",
    ),
    "discovery, but false": ("{issuer: http://b, discovery: false}", "issuers[1].discovery: must be true, not false"),
    "nobody's tokens": (
        "{issuer: http://b, audiences: []}",
        "issuers[1].audiences: must not be empty; name at least one, or leave the key out",
    ),
    "audiences without a list": (
        "{issuer: http://b, audiences: chat-api}", "issuers[1].audiences: must be a list, not 'chat-api'",
    ),
    "header of another": (
        "{issuer: http://b, claims_to_headers: {sub: x-other}}",
        "issuers[1].claims_to_headers.sub: must be a lower-case header name that begins with x-auth-, not 'x-other'",
    ),
    "header for two": (
        "{issuer: http://b, claims_to_headers: {sub: x-auth-a, user: x-auth-a}}",
        "issuers[1].claims_to_headers.user: 'x-auth-a' carries sub already; give it its own",
    ),
    "unknown key": ("{issuer: http://b, jwks: x}", "issuers[1].jwks: there is no such key; did you mean jwks_url?"),
    "key of a match": (
        "{issuer: http://b, methods: [GET]}", "issuers[1].methods: there is no such key here; it belongs in match",
    ),
}  # fmt: skip

UNKNOWN_KEYS = {
    "typing mistake in the file": (in_file, "hots: []", "hots: there is no such key; did you mean hosts?"),
    "typing mistake in defaults": (
        in_file, "defaults: {cors_preflights: true}",
        "defaults.cors_preflights: there is no such key; did you mean cors_preflight?",
    ),
    "typing mistake in a rule": (
        in_rule, "{name: second, match: {path: /a}, public: true, moed: shadow}",
        "rules[1] (second).moed: there is no such key; did you mean mode?",
    ),
    "typing mistake in match": (
        in_match, "path: /a, method: [GET]",
        "rules[1] (second).match.method: there is no such key; did you mean methods?",
    ),
    "typing mistake in require": (
        in_require, "permision: p, role: r",
        "rules[1] (second).require.permision: there is no such key; did you mean permission?",
    ),
    "other case": (
        in_require, "Role: r, permission: p",
        "rules[1] (second).require.Role: there is no such key; did you mean role?",
    ),
    "one floor too high": (
        in_rule, "{name: second, match: {path: /a}, public: true, methods: [GET]}",
        "rules[1] (second).methods: there is no such key here; it belongs in match",
    ),
    "one floor too low": (
        in_match, "path: /a, mode: shadow",
        "rules[1] (second).match.mode: there is no such key here; it belongs in defaults or rules",
    ),
    "of the file": (
        in_match, "path: /a, hosts: [b]",
        "rules[1] (second).match.hosts: there is no such key here; it belongs in the file itself",
    ),
    "nothing like it": (
        in_match, "path: /a, zzz: 1",
        "rules[1] (second).match.zzz: there is no such key; there are path, prefix, methods",
    ),
    "no word": (
        in_match, 'path: /a, "meth\\nods": 1',
        "rules[1] (second).match.'meth\\nods': there is no such key; did you mean methods?",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line"), OF_A_RULE.values(), ids=OF_A_RULE)
def test_a_mistake_in_a_rule_is_told_with_its_number_and_name(text: str, line: str) -> None:
    assert in_rule(text) == [line]


@pytest.mark.parametrize(("text", "line"), OF_MATCH.values(), ids=OF_MATCH)
def test_a_mistake_in_match_is_told_at_its_place(text: str, line: str) -> None:
    assert in_match(text) == [line]


@pytest.mark.parametrize(("text", "line"), OF_REQUIRE.values(), ids=OF_REQUIRE)
def test_a_mistake_in_require_is_told_at_its_place(text: str, line: str) -> None:
    assert in_require(text) == [line]


@pytest.mark.parametrize(("text", "line"), OF_THE_FILE.values(), ids=OF_THE_FILE)
def test_a_mistake_outside_the_rules_is_told_at_its_place(text: str, line: str) -> None:
    assert in_file(text) == [line]


@pytest.mark.parametrize(("text", "line"), OF_AN_ISSUER.values(), ids=OF_AN_ISSUER)
def test_a_mistake_in_an_issuer_is_told_with_its_number(text: str, line: str) -> None:
    assert in_file(f"issuers:\n- issuer: http://first\n- {text}") == [line]


def test_no_issuers_are_no_way_to_trust_nobody() -> None:
    assert in_file("issuers: []") == ["issuers: must not be empty; name at least one, or leave the key out"]


def test_more_issuers_than_can_be_looked_after_are_counted_only() -> None:
    assert in_file(f"issuers: [{'7, ' * 21}]") == ["issuers: must be at most 20 issuers, not 21"]


@pytest.mark.parametrize(("within", "text", "line"), UNKNOWN_KEYS.values(), ids=UNKNOWN_KEYS)
def test_an_unknown_key_is_told_what_was_meant(within: Callable[[str], list[str]], text: str, line: str) -> None:
    assert within(text) == [line]


def test_a_long_value_is_cut_short() -> None:
    line = "version: must be 1, not '" + "x" * 56 + "..."
    assert told(f"version: {'x' * 1000}\nrules: []") == [line]


def test_a_long_key_is_cut_short() -> None:
    there_are = "there are version, hosts, defaults, issuers, claims_to_headers, rules"
    assert in_file(f"{'x' * 1000}: 1") == [f"'{'x' * 56}...: there is no such key; {there_are}"]


def test_a_name_with_control_characters_is_told_on_one_line() -> None:
    lines = in_rule('{name: "a\\n\\eb", match: {path: /a}, public: true}')
    assert lines[0].startswith("rules[1] (a\\n\\x1bb).name: must be a short token")


def test_what_the_yaml_reader_has_told_is_not_told_again() -> None:
    assert in_file("hosts: *x") == ["line 3, column 8: anchors and aliases are not allowed; write the value out"]


def test_a_bad_item_does_not_make_its_list_empty() -> None:
    assert in_match("path: /a, methods: ['']") == [
        "rules[1] (second).match.methods[0]: must be a method such as GET or POST"
    ]
