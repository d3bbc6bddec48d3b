"""Operations without a rule, rules without an operation, and rules drafted for the former."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import ConfigurationError
from authz_service.finding import Severity
from authz_service.lint.draft import draft
from authz_service.lint.openapi import Operation, lint_operations, missing, read_operations
from authz_service.policy.loader import parse_policy
from authz_service.policy.routes import Rule

BEARER: list[dict[str, list[str]]] = [{"bearer": []}]


def described(paths: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": paths, **more}


def operations(paths: Mapping[str, Any], **more: Any) -> list[Operation]:
    found, unread = read_operations(described(paths, **more))
    assert unread == []
    return found


def rules(*lines: str) -> Sequence[Rule]:
    items = "".join(f"  - {{name: r{number}, match: {line}, public: true}}\n" for number, line in enumerate(lines))
    return parse_policy(f"version: 1\nrules:\n{items}" if lines else "version: 1\nrules: []").routes.rules


def found(paths: Mapping[str, Any], *lines: str) -> list[tuple[str, str]]:
    return [(finding.code, finding.place) for finding in lint_operations(rules(*lines), operations(paths))]


class TestFindings:
    @pytest.mark.parametrize("line", [
        "{path: '/groups/{id}', methods: [GET]}", "{prefix: /}", "{prefix: /groups/, methods: [GET]}",
        "{path: '/{what}/{id}'}",
    ])  # fmt: skip
    def test_an_operation_whose_every_path_has_a_rule_is_no_finding(self, line: str) -> None:
        assert found({"/groups/{group-id}": {"get": {}}}, line) == []

    @pytest.mark.parametrize("line", [
        "{path: /groups/me}", "{path: '/groups/{id}', methods: [POST]}", "{path: '/groups/{id}/'}",
    ])  # fmt: skip
    def test_an_operation_that_has_a_rule_for_some_requests_only_is_an_error(self, line: str) -> None:
        first, *_ = lint_operations(rules(line), operations({"/groups/{id}": {"get": {}}}))
        assert (first.code, first.place, first.severity) == (
            "operation_without_rule", "GET /groups/{id}", Severity.ERROR
        )  # fmt: skip
        assert ("covers some of its paths only" in first.message) == (line == "{path: /groups/me}")

    def test_head_has_the_rule_of_get(self) -> None:
        assert found({"/a": {"head": {}}}, "{path: /a, methods: [GET]}") == []

    @pytest.mark.parametrize("line", ["{path: /b}", "{path: /a, methods: [POST]}", "{prefix: /a/}"])
    def test_a_rule_that_no_operation_could_be_about_is_a_warning(self, line: str) -> None:
        finding = lint_operations(rules("{path: /a, methods: [GET]}", line), operations({"/a": {"get": {}}}))[-1]
        assert (finding.code, finding.place, finding.severity) == (
            "rule_without_operation", "rules[1] (r1)", Severity.WARNING
        )  # fmt: skip


class TestReading:
    @pytest.mark.parametrize(("server", "path"), [
        ({"url": "https://chat.example.com/api/chat/"}, "/api/chat/groups"), ({"url": "/api"}, "/api/groups"),
        ({"url": "https://chat.example.com"}, "/groups"), ({"url": 7}, "/groups"), ("odd", "/groups"),
        ({"url": "https://x/{base}/v1", "variables": {"base": {"default": "api"}}}, "/api/v1/groups"),
    ])  # fmt: skip
    def test_the_path_of_the_server_comes_first(self, server: Any, path: str) -> None:
        (operation,) = operations({"/groups": {"get": {}}}, servers=[server])
        assert str(operation.pattern) == path

    def test_the_server_that_is_nearest_counts(self) -> None:
        paths = {"/a": {"servers": [{"url": "/item"}], "get": {"servers": [{"url": "/operation"}]}, "post": {}}}
        assert {str(operation) for operation in operations(paths, servers=[{"url": "/root"}])} == {
            "GET /operation/a", "POST /item/a"
        }  # fmt: skip

    @pytest.mark.parametrize(("path", "pattern"), [
        ("/a/{group-id}", "/a/{group_id}"), ("/a/{x}.json", "/a/{x}"), ("/a/{x}:{y}", "/a/{x}"),
        ("/{x}/{x}", "/{x}/{x_}"), ("/{1}", "/{_1}"), ("/{}", "/{parameter}"), ("/a b", "/a%20b"), ("/caf%c3%a9/",
        "/caf%C3%A9/"),
    ])  # fmt: skip
    def test_a_path_is_spelled_as_the_policy_would(self, path: str, pattern: str) -> None:
        (operation,) = operations({path: {"get": {}}})
        assert str(operation.pattern) == pattern

    def test_references_within_the_document_are_followed(self) -> None:
        items: dict[str, Any] = {"pathItems": {"a/b": {"get": {}}}}
        assert operations({"/a": {"$ref": "#/components/pathItems/a~1b"}}, components=items)[0].method == "GET"

    @pytest.mark.parametrize("item", [
        {"$ref": "other.yaml"}, {"$ref": "#/nowhere"}, {"$ref": 7}, {"$ref": "#/paths/~1a"}, None, [],
    ])  # fmt: skip
    def test_what_cannot_be_read_is_said(self, item: Any) -> None:
        _, (finding,) = read_operations(described({"/a": item}))
        assert (finding.code, finding.place) == ("operation_unreadable", "/a")

    @pytest.mark.parametrize("path", ["a", "/a//b", "/a;b", "/a/../b", "/a%2Fb"])
    def test_a_path_that_no_rule_may_have_is_said(self, path: str) -> None:
        _, (finding,) = read_operations(described({path: {"get": {}}}))
        assert (finding.code, finding.place) == ("operation_unreadable", f"GET {path}")

    @pytest.mark.parametrize("description", [
        {}, {"swagger": "2.0", "paths": {}}, {"openapi": 3.1}, {"openapi": "2.0"}, {"openapi": "3.0.0", "paths": []},
    ])  # fmt: skip
    def test_what_is_no_openapi_3_is_refused(self, description: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            read_operations(description)


def require_of(security: Any) -> str:
    text = draft(operations({"/a": {"get": {"security": security}}}), ())
    return text.rpartition("    require: ")[2].rstrip().partition("  # ")[0]


class TestDraft:
    @pytest.mark.parametrize(("security", "require"), [
        (BEARER, "{authenticated: true}"),
        ([{"oauth": ["a:read", "a:list"]}], '{all_permissions: ["a:read", "a:list"]}'),
        ([{"oauth": ["a"]}, {"oauth": ["b"]}], '{any_permission: ["a", "b"]}'),
        ([{"oauth": ["a"], "other": ["b"]}], '{all_permissions: ["a", "b"]}'),
        (None, "{any_permission: []}"), ([], "{any_permission: []}"), ([{}], "{any_permission: []}"),
        ([{"oauth": ["a"]}, {}], "{any_permission: []}"), ([{"oauth": ["a", "b"]}, {"oauth": ["c"]}],
        "{any_permission: []}"), ([{"oauth": ["a\nb"]}], "{any_permission: []}"), ([7], "{any_permission: []}"),
        ([{"oauth": [7]}], "{any_permission: []}"), ([{"oauth": ["a"]}, {"bearer": []}], "{authenticated: true}"),
    ])  # fmt: skip
    def test_who_may_is_what_the_description_says_and_otherwise_nobody(self, security: Any, require: str) -> None:
        assert require_of(security) == require

    def test_security_of_the_whole_description_counts_where_an_operation_says_nothing(self) -> None:
        found = operations({"/a": {"get": {}, "post": {"security": []}}}, security=BEARER)
        assert [operation.security for operation in found] == [BEARER, []]

    def test_names_are_those_of_the_operations_and_each_its_own(self) -> None:
        paths = {"/a/{x}": {"get": {"operationId": "listGroups"}, "post": {"operationId": "List Groups"}, "put": {}}}
        drafted = parse_policy(draft(operations(paths), ["list-groups"])).routes.rules
        assert [rule.name for rule in drafted] == ["list-groups-2", "list-groups-3", "put-a"]

    def test_literal_paths_come_before_parameters_that_would_hide_them(self) -> None:
        paths: dict[str, Any] = {"/a/{x}": {"get": {}}, "/a/me": {"get": {}}, "/{y}/me": {"get": {}}}
        drafted = parse_policy(draft(operations(paths), ())).routes.rules
        assert [str(rule.pattern) for rule in drafted] == ["/a/me", "/a/{x}", "/{y}/me"]

    def test_nothing_to_draft_is_a_policy_without_rules(self) -> None:
        assert parse_policy(draft([], ())).routes.rules == ()

    @given(st.dictionaries(
        st.lists(st.one_of(st.sampled_from(["a", "{x}", "{y}", "b.{ext}", "é"]), st.text(max_size=3)), max_size=3).map(
            lambda segments: "/" + "/".join(segments)
        ),
        st.dictionaries(st.sampled_from(["get", "post", "query", "trace"]), st.fixed_dictionaries({}, optional={
            "operationId": st.text(max_size=80), "security": st.lists(
                st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=5), max_size=2), max_size=2), max_size=2
            ),
        })), max_size=5,
    ))  # fmt: skip
    def test_with_the_draft_no_readable_operation_is_without_a_rule(self, paths: dict[str, Any]) -> None:
        found, _ = read_operations(described(paths))
        drafted = parse_policy(draft(missing((), found), ())).routes.rules
        assert missing(drafted, found) == []
        assert not any(rule.public for rule in drafted)
