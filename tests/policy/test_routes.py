from collections.abc import Iterable
from itertools import product
from sys import getsizeof

import pytest

from authz_service.errors import Reason, RequestRefused
from authz_service.model import Mode, verdict_of
from authz_service.policy.path import split_target
from authz_service.policy.requirement import Requirement
from authz_service.policy.routes import COMMON_METHODS, Match, RouteTable, Rule
from authz_service.policy.template import parse_path, parse_prefix
from tests.support.rules import ANYONE, matched, rule


def decided_by(rules: Iterable[Rule], method: str, target: str) -> str | None:
    return matched(RouteTable(rules).match(method, split_target(target)))


def refusal(rules: Iterable[Rule], target: str) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        RouteTable(rules).match("GET", split_target(target))
    return caught.value


CHAT = (
    rule("/healthz", "GET", name="health"),
    rule("/api/chat/groups", "GET", name="list-groups"),
    rule("/api/chat/groups", "POST", name="create-group"),
    rule("/api/chat/groups/search", "GET", name="search-groups"),
    rule("/api/chat/groups/{group_id}", "GET", name="get-group"),
    rule("/api/chat/groups/{group_id}", "DELETE", name="delete-group"),
    rule("/api/chat/groups/{id}/messages", "GET", name="list-messages"),
    rule("/api/orgs/{org_id}/*", name="org-admin"),
)

REALISTIC = {
    "literal": ("GET", "/healthz", "health"),
    "by method": ("POST", "/api/chat/groups", "create-group"),
    "method that no rule has": ("PUT", "/api/chat/groups", None),
    "parameter": ("GET", "/api/chat/groups/42", "get-group"),
    "parameter, by method": ("DELETE", "/api/chat/groups/42", "delete-group"),
    "literal beside a parameter": ("GET", "/api/chat/groups/search", "search-groups"),
    "parameter beside a literal of another method": ("DELETE", "/api/chat/groups/search", "delete-group"),
    "below a parameter": ("GET", "/api/chat/groups/42/messages", "list-messages"),
    "below a literal that goes no further": ("GET", "/api/chat/groups/search/messages", "list-messages"),
    "query": ("GET", "/api/chat/groups?limit=1", "list-groups"),
    "deeper than any rule": ("GET", "/api/chat/groups/42/messages/7", None),
    "shallower than any rule": ("GET", "/api/chat", None),
    "root": ("GET", "/", None),
    "unknown": ("GET", "/admin", None),
    "below a prefix": ("GET", "/api/orgs/7/users/8", "org-admin"),
    "right at a prefix": ("GET", "/api/orgs/7/", "org-admin"),
    "prefix without its slash": ("GET", "/api/orgs/7", None),
    "prefix without its parameter": ("GET", "/api/orgs/", None),
}


@pytest.mark.parametrize(("method", "target", "name"), REALISTIC.values(), ids=REALISTIC)
def test_a_chat_request_is_decided_by_its_rule(method: str, target: str, name: str | None) -> None:
    assert decided_by(CHAT, method, target) == name


ORDER = {
    "literal first": (["/a/b", "/a/{x}"], "/a/b", "/a/b"),
    "parameter first": (["/a/{x}", "/a/b"], "/a/b", "/a/{x}"),
    "prefix first": (["/a/*", "/a/b"], "/a/b", "/a/*"),
    "prefix last": (["/a/b", "/a/*"], "/a/b", "/a/b"),
    "short prefix first": (["/*", "/a/*"], "/a/b", "/*"),
    "long prefix first": (["/a/*", "/*"], "/a/b", "/a/*"),
    "same path twice": (["/a/{x}", "/a/{y}"], "/a/b", "/a/{x}"),
    "parameter early, then literal": (["/{x}/b", "/a/{y}"], "/a/b", "/{x}/b"),
    "literal early, then parameter": (["/a/{y}", "/{x}/b"], "/a/b", "/a/{y}"),
    "dead end by the literal": (["/a/b/c", "/{x}/b"], "/a/b", "/{x}/b"),
    "dead end by the parameter": (["/{x}/b/c", "/a/b"], "/a/b", "/a/b"),
    "prefix on the literal, whole on the parameter": (["/a/*", "/{x}/b"], "/a/b", "/a/*"),
    "whole on the parameter, prefix on the literal": (["/{x}/b", "/a/*"], "/a/b", "/{x}/b"),
    "prefix on the parameter": (["/{x}/*", "/a/b"], "/a/b", "/{x}/*"),
}


@pytest.mark.parametrize(("templates", "target", "name"), ORDER.values(), ids=ORDER)
def test_the_first_rule_that_matches_decides(templates: list[str], target: str, name: str) -> None:
    assert decided_by(map(rule, templates), "GET", target) == name


SLASHES = {
    "none in the rule, one in the request": ("/a", "/a/", None),
    "one in the rule, none in the request": ("/a/", "/a", None),
    "one in both": ("/a/", "/a/", "/a/"),
    "parameter is never empty": ("/a/{x}", "/a/", None),
    "parameter and slash": ("/a/{x}/", "/a/b/", "/a/{x}/"),
    "root": ("/", "/", "/"),
    "root is no parameter": ("/{x}", "/", None),
    "prefix of everything": ("/*", "/", "/*"),
    "prefix of everything, deep": ("/*", "/a/b/c/", "/*"),
    "prefix and slash": ("/a/*", "/a/", "/a/*"),
    "prefix ends at a segment": ("/api/chat/*", "/api/chatter", None),
    "prefix is not reached": ("/api/chat/*", "/api/chat", None),
    "parameter of a prefix is never empty": ("/a/{x}/*", "/a/", None),
}


@pytest.mark.parametrize(("template", "target", "name"), SLASHES.values(), ids=SLASHES)
def test_a_slash_counts(template: str, target: str, name: str | None) -> None:
    assert decided_by([rule(template)], "GET", target) == name


METHODS_REALISTIC = {
    "lower case": "get", "mixed case": "Get", "TRACE": "TRACE", "CONNECT": "CONNECT", "WebDAV": "PROPFIND",
    "made up": "FOO",
}  # fmt: skip

METHODS_SYNTHETIC = {
    "empty": "", "space before": " GET", "space after": "GET ", "two": "GET,POST", "wildcard": "*", "longer": "GETS",
}  # fmt: skip

METHODS_PATHOLOGICAL = {
    "the name of nothing": "None", "line feed": "GET\n", "NUL": "GET\0", "full width": "\uff27\uff25\uff34",
    "dotted capital I": "\u0130", "lone surrogate": "\udc80", "a megabyte": "GET" * 350_000,
}  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_rule_without_methods_covers_the_common_ones(method: str) -> None:
    assert decided_by([rule("/a")], method, "/a") == "/a"


@pytest.mark.parametrize("method", METHODS_REALISTIC.values(), ids=METHODS_REALISTIC)
def test_a_rule_without_methods_covers_no_method_that_it_does_not_know(method: str) -> None:
    assert decided_by([rule("/a", cors_preflight=True), rule("/a/*"), rule("/*")], method, "/a") is None


@pytest.mark.parametrize("method", METHODS_SYNTHETIC.values(), ids=METHODS_SYNTHETIC)
def test_a_method_is_compared_whole(method: str) -> None:
    assert decided_by([rule("/a", "GET", cors_preflight=True), rule("/*")], method, "/a") is None


@pytest.mark.parametrize("method", METHODS_PATHOLOGICAL.values(), ids=METHODS_PATHOLOGICAL)
def test_what_is_no_method_matches_nothing(method: str) -> None:
    assert decided_by([rule("/a", cors_preflight=True), rule("/*")], method, "/a") is None


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_no_rule_can_be_built_that_lets_a_tunnel_or_an_echo_through(method: str) -> None:
    with pytest.raises(ValueError, match="CONNECT or TRACE"):
        rule("/a", "GET", method)


def test_head_follows_get() -> None:
    assert decided_by([rule("/a", "GET")], "HEAD", "/a") == "/a"
    assert decided_by([rule("/a/*", "GET")], "HEAD", "/a/b") == "/a/*"


def test_head_follows_nothing_else() -> None:
    assert decided_by([rule("/a", "POST")], "HEAD", "/a") is None


def test_get_does_not_follow_head() -> None:
    assert decided_by([rule("/a", "HEAD")], "GET", "/a") is None


def test_an_uncommon_method_matches_where_it_is_named() -> None:
    rules = [rule("/a", "PROPFIND"), rule("/a", name="others")]
    assert decided_by(rules, "PROPFIND", "/a") == "/a"
    assert decided_by(rules, "GET", "/a") == "others"


ENCODED = {
    "encoded letter": (["/admin"], "/%61dmin"),
    "fully encoded": (["/admin"], "/%61%64%6d%69%6e"),
    "beside a parameter": (["/admin", "/{x}"], "/%61dmin"),
    "beside a parameter that comes first": (["/{x}", "/admin"], "/%61dmin"),
    "below a prefix": (["/files/*", "/files/secret"], "/files/%73ecret"),
    "below a parameter": (["/{x}/secret", "/{x}/{y}"], "/a/%73ecret"),
    "in one of two branches": (["/a/{y}", "/{x}/secret"], "/a/%73ecret"),
    "in the first of two branches": (["/a/secret", "/{x}/{y}"], "/a/%73ecret"),
    "on the way": (["/admin/users", "/*"], "/%61dmin/users"),
    "on the only way": (["/a/secret"], "/a/%73ecret"),
    "on the only way, below a prefix": (["/a/*", "/a/b/secret"], "/a/b/%73ecret"),
    "on the only way, then elsewhere": (["/a/*", "/a/b/secret/c"], "/a/b/%73ecret/d"),
    "on the way, then elsewhere": (["/admin/users", "/{x}/{y}"], "/%61dmin/other"),
    "of a rule for another method": (["/{x}"], "/%61dmin"),
    "lower-case digits": (["/caf%C3%A9", "/{x}"], "/caf%c3%a9"),
    "encoded more than needed": (["/caf%C3%A9", "/{x}"], "/%63af%C3%A9"),
}


@pytest.mark.parametrize(("templates", "target"), ENCODED.values(), ids=ENCODED)
def test_what_decodes_to_a_literal_that_its_bytes_miss_is_refused(templates: list[str], target: str) -> None:
    rules = [*map(rule, templates), rule("/admin", "POST", name="post")]
    assert refusal(rules, target).reason is Reason.PATH_AMBIGUOUS


def test_preflight_refuses_the_same() -> None:
    table = RouteTable([rule("/admin"), rule("/{x}", cors_preflight=True)])
    with pytest.raises(RequestRefused, match="percent-encoded"):
        table.match_preflight(split_target("/%61dmin"))


NOT_AMBIGUOUS = {
    "encoded parameter": (["/{x}", "/admin"], "/caf%C3%A9", "/{x}"),
    "exact bytes of an encoded literal": (["/{x}", "/caf%C3%A9"], "/caf%C3%A9", "/{x}"),
    "literal of another place": (["/admin/{x}", "/b"], "/admin/%61dmin", "/admin/{x}"),
    "below a prefix without literals": (["/files/*"], "/files/%66iles", "/files/*"),
    "decodes to a literal in another case": (["/{x}", "/admin"], "/%41dmin", "/{x}"),
}


@pytest.mark.parametrize(("templates", "target", "name"), NOT_AMBIGUOUS.values(), ids=NOT_AMBIGUOUS)
def test_other_encoding_is_matched_as_it_stands(templates: list[str], target: str, name: str) -> None:
    assert decided_by(map(rule, templates), "GET", target) == name


def test_parameters_are_bound_by_the_names_of_the_rule_that_decides() -> None:
    table = RouteTable([rule("/g/{group}/m", "GET"), rule("/g/{id}", "GET"), rule("/{kind}/{name}/*")])
    short, middle, long = ("g", "1"), ("g", "1", "m"), ("g", "1", "x", "y")
    assert params(table.match("GET", middle), middle) == {"group": "1"}
    assert params(table.match("GET", short), short) == {"id": "1"}
    assert params(table.match("POST", long), long) == {"kind": "g", "name": "1"}


def test_parameters_are_decoded() -> None:
    segments = split_target("/g/caf%c3%a9%20x")
    assert params(RouteTable([rule("/g/{name}")]).match("GET", segments), segments) == {"name": "caf\u00e9 x"}


def test_no_parameters_are_no_parameters() -> None:
    assert params(RouteTable([rule("/a")]).match("GET", ("a",)), ("a",)) == {}


def test_preflight_is_decided_by_the_first_rule_that_permits_it_whatever_its_methods() -> None:
    table = RouteTable([
        rule("/a", "GET", name="without"),
        rule("/a", "POST", name="first", cors_preflight=True),
        rule("/*", "DELETE", name="second", cors_preflight=True),
    ])
    assert matched(table.match_preflight(("a",))) == "first"
    assert matched(table.match_preflight(("b",))) == "second"


def test_preflight_is_not_permitted_by_default() -> None:
    assert RouteTable([rule("/a", "GET", "OPTIONS")]).match_preflight(("a",)) is None


def test_preflight_binds_parameters() -> None:
    segments = ("a", "1")
    table = RouteTable([rule("/a/{x}", cors_preflight=True)])
    assert params(table.match_preflight(segments), segments) == {"x": "1"}


def test_a_rule_that_can_decide_nothing_is_not_looked_at() -> None:
    rules = [rule("/a", "GET"), rule("/a", "GET", "HEAD"), rule("/a", "HEAD"), rule("/a", "POST", name="another")]
    first = RouteTable(rules).match("GET", ("a",))
    assert first is not None
    assert matched(first.later) == "another"


def test_rules_that_say_the_same_share_it() -> None:
    """Of many thousand rules each object that a look-up touches is far away."""
    table = RouteTable(rule(f"/api/{name}/items/{{id}}", name=name) for name in ("a", "b"))
    a, b = (table.match("GET", ("api", name, "items", "1")) for name in ("a", "b"))
    assert a is not None
    assert b is not None
    assert a.terms is b.terms


def test_where_many_ways_part_few_share_a_place() -> None:
    ways = RouteTable(rule(f"/{number}", name=f"{number}") for number in range(10_000))._root.ways
    assert len(ways) == 10_000
    assert getsizeof(ways) > 1.5 * getsizeof(dict(list(ways.items())))


def test_rules_that_say_another_thing_share_nothing() -> None:
    admins = Requirement(all_roles=frozenset({"admin"}))
    rules = [
        Rule(f"{first}", pattern, methods, requirement is None, requirement, enforce_percent=percent)
        for first, (methods, requirement, percent, (parse, rest)) in enumerate(product(
            [COMMON_METHODS, frozenset({"PUT"})], [None, ANYONE, admins], [None, 50],
            [(parse_prefix, "/x/"), (parse_path, "/x"), (parse_path, "/{a}"), (parse_path, "/{b}")],
        ))
        for pattern in [parse(f"/{first}{rest}")]
    ]  # fmt: skip
    table = RouteTable(rules)
    for each in rules:
        path = (each.name, "x", "y") if each.pattern.is_prefix else (each.name, "x")
        found = table.match("PUT", path)
        assert found is not None
        terms = found.terms
        assert (found.rule, terms.requirement, terms.public) == (each, each.requirement, each.public)
        assert (terms.parameters, terms.same_for_all) == (each.pattern.parameters, each.enforce_percent is None)
        assert (table.match("GET", path) is not None) == ("GET" in each.methods)
        assert (table.match("PUT", (*path, "z")) is not None) == each.pattern.is_prefix


def test_a_rule_is_counted_on_when_the_policy_is_read_again() -> None:
    before, after = (RouteTable([rule("/a", name="a"), rule("/b", name="b")]) for _ in range(2))
    matches = [[table.match("GET", (path,)) for path in "ab"] for table in (before, after)]
    numbers = [[match.number for match in found if match] for found in matches]
    assert numbers[0] == numbers[1]
    assert numbers[0][0] != numbers[0][1]
    assert numbers[0][0] == verdict_of("allow", Reason.ALLOWED, "a", Mode.ENFORCE).number


def test_without_rules_nothing_matches() -> None:
    table = RouteTable([])
    assert table.match("GET", ("",)) is None
    assert table.match_preflight(("",)) is None


def test_a_table_keeps_its_rules_in_order() -> None:
    assert RouteTable(CHAT).rules == CHAT


def test_a_rule_is_public_or_requires_something_and_not_both() -> None:
    with pytest.raises(ValueError, match="public"):
        Rule("a", parse_path("/a"))
    with pytest.raises(ValueError, match="public"):
        Rule("a", parse_path("/a"), public=True, requirement=ANYONE)


def test_a_rule_enforces_unless_told_otherwise() -> None:
    assert Rule("a", parse_path("/a"), public=True).mode is Mode.ENFORCE


def params(match: Match | None, segments: tuple[str, ...]) -> dict[str, str]:
    assert match is not None
    return dict(match.params(segments))
