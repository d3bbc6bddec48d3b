"""The published JSON Schema and the loader say the same about a policy."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.errors import ConfigurationError
from authz_service.policy.document import MAX_ISSUERS, MAX_RULES
from authz_service.policy.loader import parse_policy, policy_json_schema
from authz_service.policy.yaml_reader import read_yaml
from tests.support.json_schema import accepts

SCHEMA = policy_json_schema()
DEMO = Path(__file__).parents[2] / "demo" / "policy.yaml"

RULE: dict[str, Any] = {"name": "r", "match": {"path": "/a/{x}"}, "require": {"role": "admin"}}

GOOD: dict[str, dict[str, Any]] = {
    "no rules": {"rules": []},
    "hosts": {"hosts": ["chat.example.com", "*.Chat.internal", "127.0.0.1", "[::1]"], "rules": []},
    "defaults": {"defaults": {"mode": "shadow", "enforce_percent": 0, "cors_preflight": True}, "rules": [RULE]},
    "claims": {"claims_to_headers": {"org id": "x-auth-org-id"}, "rules": [RULE]},
    "issuers": {"issuers": [
        {"issuer": "https://a.example/tenant/", "discovery": True, "audiences": ["chat-api", "b"]},
        {"issuer": "http://[::1]:8000", "jwks_url": "http://a/keys?x=@1", "claims_to_headers": {"sub": "x-auth-user"}},
        {"issuer": "http://b"},
    ], "rules": []},
    "prefix and methods": {"rules": [RULE | {"match": {"prefix": "/a/{x}/", "methods": ["GET", "M-SEARCH"]}}]},
    "public": {"rules": [{"name": "r", "match": {"path": "/"}, "public": True}]},
    "all of it": {"rules": [RULE | {
        "mode": "enforce", "enforce_percent": 100, "cors_preflight": False,
        "require": {"permission": "p", "any_permission": [], "all_permissions": ["p", "\u00e9 x"], "role": "r",
                    "any_role": ["r"], "authenticated": True, "claim_equals_param": {"org": "x"}},
    }]},
}  # fmt: skip

BAD: dict[str, dict[str, Any]] = {
    "no rules": {},
    "another version": {"version": 2, "rules": []},
    "version that equals 1": {"version": True, "rules": []},
    "unknown key": {"hots": [], "rules": []},
    "no hosts": {"hosts": [], "rules": []},
    "host with a port": {"hosts": ["a:80"], "rules": []},
    "unknown default": {"defaults": {"public": True}, "rules": []},
    "header of another": {"claims_to_headers": {"a": "authorization"}, "rules": []},
    "reserved header": {"claims_to_headers": {"a": "x-auth-contract"}, "rules": []},
    "claim without a name": {"claims_to_headers": {"": "x-auth-a"}, "rules": []},
    "claim with a long name": {"claims_to_headers": {"a" * 257: "x-auth-a"}, "rules": []},
    "no issuers": {"issuers": [], "rules": []},
    "too many issuers": {"issuers": [{"issuer": f"http://{number}"} for number in range(MAX_ISSUERS + 1)], "rules": []},
    "issuer without an issuer": {"issuers": [{"discovery": True}], "rules": []},
    "issuer that is no URL": {"issuers": [{"issuer": "auth-api"}], "rules": []},
    "issuer in capitals": {"issuers": [{"issuer": "HTTP://auth-api"}], "rules": []},
    "issuer with a query": {"issuers": [{"issuer": "http://a?b"}], "rules": []},
    "issuer with a fragment": {"issuers": [{"issuer": "http://a/#b"}], "rules": []},
    "issuer with credentials": {"issuers": [{"issuer": "http://a:b@c"}], "rules": []},
    "very long issuer": {"issuers": [{"issuer": "http://" + "a" * 2048}], "rules": []},
    "two places of keys": {"issuers": [{"issuer": "http://a", "jwks_url": "http://b", "discovery": True}], "rules": []},
    "discovery, but not": {"issuers": [{"issuer": "http://a", "discovery": False}], "rules": []},
    "keys that are a file": {"issuers": [{"issuer": "http://a", "jwks_url": "file:///a"}], "rules": []},
    "no audiences": {"issuers": [{"issuer": "http://a", "audiences": []}], "rules": []},
    "unknown key of an issuer": {"issuers": [{"issuer": "http://a", "algorithms": ["RS256"]}], "rules": []},
    "rule without a name": {"rules": [{"match": {"path": "/"}, "public": True}]},
    "rule without a match": {"rules": [{"name": "r", "public": True}]},
    "name in capitals": {"rules": [RULE | {"name": "R"}]},
    "public and require": {"rules": [RULE | {"public": True}]},
    "neither public nor require": {"rules": [{"name": "r", "match": {"path": "/"}}]},
    "public, but not": {"rules": [{"name": "r", "match": {"path": "/"}, "public": False}]},
    "path and prefix": {"rules": [RULE | {"match": {"path": "/a/{x}", "prefix": "/a/"}}]},
    "neither path nor prefix": {"rules": [RULE | {"match": {"methods": ["GET"]}}]},
    "path without a slash": {"rules": [RULE | {"match": {"path": "a"}}]},
    "prefix without its slash": {"rules": [RULE | {"match": {"prefix": "/a"}}]},
    "wildcard": {"rules": [RULE | {"match": {"path": "/a/*"}}]},
    "no methods": {"rules": [RULE | {"match": {"path": "/", "methods": []}}]},
    "lower-case method": {"rules": [RULE | {"match": {"path": "/", "methods": ["get"]}}]},
    "CONNECT": {"rules": [RULE | {"match": {"path": "/", "methods": ["CONNECT"]}}]},
    "unknown mode": {"rules": [RULE | {"mode": "audit"}]},
    "over a hundred": {"rules": [RULE | {"enforce_percent": 101}]},
    "under nothing": {"rules": [RULE | {"enforce_percent": -1}]},
    "null": {"rules": [RULE | {"mode": None}]},
    "requires nothing": {"rules": [RULE | {"require": {}}]},
    "all of nothing": {"rules": [RULE | {"require": {"all_permissions": []}}]},
    "not authenticated": {"rules": [RULE | {"require": {"authenticated": False}}]},
    "permission that is a number": {"rules": [RULE | {"require": {"permission": 7}}]},
    "claim for a parameter that cannot be": {"rules": [RULE | {"require": {"claim_equals_param": {"a": "{x}"}}}]},
    "no claims": {"rules": [RULE | {"require": {"claim_equals_param": {}}}]},
    "too many rules": {"rules": [{}] * (MAX_RULES + 1)},
}


def is_loaded(document: dict[str, Any]) -> bool:
    try:
        parse_policy(json.dumps(document))
    except ConfigurationError:
        return False
    return True


def fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each key of the policy, and what the schema says about it."""
    for model in (schema, *schema["$defs"].values()):
        yield from model.get("properties", {}).items()


def patterns(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (value for key, value in schema.items() if key == "pattern" and isinstance(value, str))
        yield from (key for inner in [schema.get("patternProperties", {})] for key in inner)
    if isinstance(schema, (dict, list)):
        for inner in schema.values() if isinstance(schema, dict) else schema:
            yield from patterns(inner)


@pytest.mark.parametrize("document", GOOD.values(), ids=GOOD)
def test_what_the_loader_takes_the_schema_accepts(document: dict[str, Any]) -> None:
    assert is_loaded({"version": 1} | document)
    assert accepts(SCHEMA, {"version": 1} | document)


@pytest.mark.parametrize("document", BAD.values(), ids=BAD)
def test_a_mistake_in_one_key_is_one_for_the_loader_and_for_the_schema(document: dict[str, Any]) -> None:
    assert not is_loaded({"version": 1} | document)
    assert not accepts(SCHEMA, {"version": 1} | document)


def test_the_schema_accepts_the_policy_of_the_demo() -> None:
    value, problems = read_yaml(DEMO.read_text(encoding="utf-8"))
    assert problems == []
    assert accepts(SCHEMA, value)


def test_the_schema_is_plain_json_of_the_2020_12_draft() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_the_schema_explains_each_key() -> None:
    unexplained = {name for name, field in fields(SCHEMA) if not (field.get("description") or "$ref" in field)}
    assert unexplained == set()


def test_the_schema_knows_no_null() -> None:
    assert "null" not in json.dumps(SCHEMA)


def test_each_pattern_is_anchored_and_written_in_what_ecmascript_and_python_share() -> None:
    for pattern in patterns(SCHEMA):
        assert pattern.startswith("^")
        assert pattern.endswith("$")
        assert not re.search(r"\(\?[P<]|\\[AZz]|\(\?[a-z]", pattern)
        re.compile(pattern)


PIECES = st.sampled_from(["a", "{x}", "*", "..", "%41", "%C3%A9", "b c", "", "{", "caf\u00e9", "a;b"])
PATHS = st.lists(PIECES, max_size=3).map(lambda pieces: "/" + "/".join(pieces))
TEXTS = st.sampled_from([
    "a", "groups:read", " a", "", "a\n", "\u00e9", "x" * 257, "A", "GET", "get", "TRACE", "x-auth-a",
])  # fmt: skip
PAIRS = st.dictionaries(TEXTS, TEXTS, max_size=2)
LISTS = st.lists(TEXTS, max_size=2)
URLS = st.text(alphabet="htps:/@?#[]a1.%\u00e9 \x7f", max_size=12).map("http://".__add__) | TEXTS
ISSUERS = st.lists(st.fixed_dictionaries({"issuer": URLS}, optional={"jwks_url": URLS, "audiences": LISTS}), max_size=2)


@settings(max_examples=300)
@given(
    match=st.fixed_dictionaries({}, optional={"path": PATHS, "prefix": PATHS, "methods": LISTS}),
    require=st.fixed_dictionaries({}, optional={"permission": TEXTS, "any_role": LISTS, "claim_equals_param": PAIRS}),
    more=st.fixed_dictionaries({}, optional={"hosts": LISTS, "claims_to_headers": PAIRS, "issuers": ISSUERS}),
)
def test_the_schema_accepts_whatever_the_loader_takes(match: object, require: object, more: dict[str, object]) -> None:
    document = {"version": 1, "rules": [{"name": "r", "match": match, "require": require}], **more}
    assert accepts(SCHEMA, document) or not is_loaded(document)
