"""Rules that never decide, openings that nobody sees, permissions that nobody has; and no noise about good policies."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import demo
from authz_service.finding import Severity
from authz_service.model import Mode
from authz_service.policy.lint import lint_default, lint_rules
from authz_service.policy.loader import parse_policy
from authz_service.policy.routes import RouteTable, Rule

DEMO_POLICY = Path(demo.__file__).parent / "policy.yaml"


def rules(*lines: str) -> Sequence[Rule]:
    """Each line is a rule's flow mapping without its name: ``r0``, ``r1`` and so on."""
    items = "\n".join(f"  - {{name: r{number}, {line}}}" for number, line in enumerate(lines))
    return parse_policy(f"version: 1\nrules:\n{items}\n").routes.rules


def found(*lines: str, known: frozenset[str] | None = None) -> list[tuple[str, str]]:
    return [(finding.code, finding.place) for finding in lint_rules(rules(*lines), known)]


def path(path: str, *methods: str) -> str:
    key = "prefix" if path.endswith("*") else "path"
    only = f", methods: [{', '.join(methods)}]" if methods else ""
    return f'match: {{{key}: "{path.removesuffix("*")}"{only}}}'


ANYONE, PUBLIC, CORS = "require: {authenticated: true}", "public: true", "cors_preflight: true"


def needs(*permissions: str) -> str:
    return f"require: {{all_permissions: [{', '.join(map(repr, permissions))}]}}"


class TestGoodPolicies:
    def test_the_policy_of_the_demo_is_clean(self) -> None:
        assert lint_rules(parse_policy(DEMO_POLICY.read_text(encoding="utf-8")).routes.rules) == []

    @pytest.mark.parametrize("lines", [
        (f"{path('/a/b')}, {ANYONE}", f"{path('/a/*')}, {ANYONE}"),
        (f"{path('/a', 'GET')}, {PUBLIC}", f"{path('/a')}, {ANYONE}"),
        (f"{path('/api/public/*')}, {PUBLIC}", f"{path('/api/*')}, {ANYONE}"),
        (f"{path('/static/admin/*')}, {ANYONE}", f"{path('/static/*')}, {PUBLIC}"),
        (f"{path('/{x}', 'GET')}, {PUBLIC}", f"{path('/a', 'POST')}, {ANYONE}"),
        (f"{path('/a', 'GET')}, {ANYONE}", f"{path('/a', 'POST')}, {ANYONE}, {CORS}"),
        (f"{path('/a')}, {ANYONE}, {CORS}", f"{path('/*')}, {ANYONE}, {CORS}"),
        (f"{path('/a')}, {PUBLIC}", f"{path('/*')}, {ANYONE}, {CORS}"),
    ], ids=["exception", "public method", "public corner", "protected corner", "other methods", "no OPTIONS",
            "both preflight", "public anyway"])  # fmt: skip
    def test_an_exception_before_its_general_rule_is_no_finding(self, lines: tuple[str, ...]) -> None:
        assert found(*lines) == []


class TestOrder:
    def test_a_rule_behind_a_wider_one_is_unreachable(self) -> None:
        assert found(f"{path('/a/*')}, {ANYONE}", f"{path('/a/b', 'GET')}, {ANYONE}") == [
            ("rule_unreachable", "rules[1] (r1)")
        ]

    def test_two_rules_together_can_hide_a_third(self) -> None:
        lines = (f"{path('/a', 'GET')}, {ANYONE}", f"{path('/{x}', 'POST')}, {ANYONE}")
        assert found(*lines, f"{path('/a', 'GET', 'POST')}, {ANYONE}") == [("rule_unreachable", "rules[2] (r2)")]

    def test_get_hides_head(self) -> None:
        assert found(f"{path('/a', 'GET')}, {ANYONE}", f"{path('/a', 'HEAD')}, {ANYONE}") == [
            ("rule_unreachable", "rules[1] (r1)")
        ]

    def test_a_written_method_that_never_gets_there_is_shadowed(self) -> None:
        (finding,) = lint_rules(rules(f"{path('/{x}', 'GET')}, {ANYONE}", f"{path('/a', 'GET', 'POST')}, {ANYONE}"))
        assert (finding.code, finding.severity) == ("rule_shadowed", Severity.WARNING)
        assert "GET" in finding.message
        assert "POST" not in finding.message

    def test_an_unreachable_rule_behind_a_public_one_says_that_it_is_open(self) -> None:
        (finding,) = lint_rules(rules(f"{path('/a/*')}, {PUBLIC}", f"{path('/a/b')}, {ANYONE}"))
        assert finding.severity is Severity.ERROR
        assert "lets everyone through" in finding.message

    @given(st.lists(st.builds(
        lambda at, methods: f"{path(at, *methods)}, {ANYONE}",
        st.sampled_from(["/a", "/{x}", "/a/b", "/a/{x}", "/{x}/b", "/*", "/a/*", "/{x}/*"]),
        st.lists(st.sampled_from(["GET", "HEAD", "POST"]), min_size=1, unique=True),
    ), max_size=6))
    def test_an_unreachable_rule_decides_no_request(self, lines: list[str]) -> None:
        given_rules = rules(*lines) if lines else ()
        dead = {place for code, place in (found(*lines) if lines else []) if code == "rule_unreachable"}
        table = RouteTable(given_rules)
        segments = [("a",), ("c",), ("a", "b"), ("a", "c"), ("c", "b"), ("c", "c"), ("a", "b", ""), ("",), ("a", "")]
        deciding = {match.rule.name for at in segments for method in ("GET", "HEAD", "POST")
                    if (match := table.match(method, at))}  # fmt: skip
        assert not {name for name in deciding if any(f"({name})" in place for place in dead)}


class TestOpenings:
    def test_a_public_parameter_that_takes_in_a_protected_literal(self) -> None:
        lines = (f"{path('/users/{id}/avatar')}, {PUBLIC}", f"{path('/users/me/{what}')}, {ANYONE}")
        (finding,) = lint_rules(rules(*lines))
        assert (finding.code, finding.severity) == ("public_overlaps_protected", Severity.WARNING)

    def test_a_protected_path_whose_get_is_open_whole_is_an_error(self) -> None:
        (finding,) = lint_rules(rules(f"{path('/s/*', 'GET')}, {PUBLIC}", f"{path('/s/{x}')}, {ANYONE}"))
        assert (finding.code, finding.severity) == ("public_overlaps_protected", Severity.ERROR)

    def test_a_preflight_that_passes_where_an_earlier_rule_asks_for_a_token(self) -> None:
        assert found(f"{path('/admin/*')}, {ANYONE}", f"{path('/*')}, {ANYONE}, {CORS}") == [
            ("preflight_past_rule", "rules[1] (r1)")
        ]


class TestPermissions:
    @pytest.mark.parametrize("slip", ["group:read", "groups:raed", "groups:reads", "groups:reed", "Groups:Read"])
    def test_what_is_used_once_and_nearly_is_another_is_a_misspelling(self, slip: str) -> None:
        right = (f"{path('/a')}, {needs('groups:read')}", f"{path('/b')}, {needs('groups:read')}")
        assert found(*right, f"{path('/c')}, {needs(slip)}") == [("permission_misspelled", "rules[2] (r2)")]

    def test_of_two_that_are_used_once_the_later_one_is_suspected(self) -> None:
        assert found(f"{path('/a')}, {needs('groups:read')}", f"{path('/b')}, {needs('group:read')}") == [
            ("permission_misspelled", "rules[1] (r1)")
        ]

    @pytest.mark.parametrize("other", ["groups:write", "v2:groups", "chats:read"])
    def test_words_that_only_resemble_each_other_are_none(self, other: str) -> None:
        lines = (f"{path('/a')}, {needs('groups:read')}", f"{path('/b')}, {needs('v1:groups')}")
        assert found(*lines, f"{path('/c')}, {needs(other)}") == []

    def test_what_is_used_more_than_once_is_meant(self) -> None:
        lines = [f"{path(f'/{name}{at}')}, {needs(name)}" for name in ("group:read", "groups:read") for at in (1, 2)]
        assert found(*lines) == []

    def test_with_a_list_whatever_is_not_on_it_is_an_error(self) -> None:
        known = frozenset({"groups:read"})
        (finding,) = lint_rules(rules(f"{path('/a')}, {needs('groups:read', 'groups:raed')}"), known)
        assert (finding.code, finding.severity) == ("permission_unknown", Severity.ERROR)
        assert "did you mean 'groups:read'?" in finding.advice

    def test_with_a_list_resemblance_does_not_matter(self) -> None:
        lines = (f"{path('/a')}, {needs('groups:read')}", f"{path('/b')}, {needs('group:read')}")
        assert found(*lines, known=frozenset({"groups:read", "group:read"})) == []


class TestShare:
    @pytest.mark.parametrize("percent", [0, 99])
    def test_a_rule_that_says_enforce_and_lets_most_pass_is_found(self, percent: int) -> None:
        line = f"{path('/a')}, {ANYONE}, mode: enforce, enforce_percent: {percent}"
        assert found(line) == [("enforced_for_a_share", "rules[0] (r0)")]

    @pytest.mark.parametrize("rollout", ["mode: enforce, enforce_percent: 100", "mode: shadow, enforce_percent: 10"])
    def test_one_that_is_on_its_way_and_one_that_has_arrived_are_well(self, rollout: str) -> None:
        assert found(f"{path('/a')}, {ANYONE}, {rollout}") == []


class TestDefault:
    LINES = (f"{path('/a')}, {ANYONE}", f"{path('/b')}, {ANYONE}, mode: shadow", f"{path('/c')}, {PUBLIC}")

    def test_a_rule_is_enforced_while_what_no_rule_is_found_for_passes(self) -> None:
        (finding,) = lint_default(rules(*self.LINES), Mode.SHADOW)
        assert (finding.code, finding.place) == ("enforced_beside_open_default", "rules[0] (r0)")

    def test_where_that_is_denied_all_is_well(self) -> None:
        assert lint_default(rules(*self.LINES), Mode.ENFORCE) == []
