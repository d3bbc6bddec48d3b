"""Patterns that share paths or contain each other, against every path of a small world."""

from itertools import product

import pytest

from authz_service.policy.overlap import PatternIndex, covers
from authz_service.policy.routes import RouteTable
from authz_service.policy.template import PathPattern, parse_path, parse_prefix
from tests.support.rules import rule

# "b" is a segment that no pattern names.
PATHS = [(*inner, last) for size in range(4) for inner in product("ab", repeat=size) for last in ("a", "b", "")]
TEMPLATES = [
    *("/" + "/".join(segments) for size in (1, 2) for segments in product(("a", "{x}"), repeat=size)),
    "/", "/a/", "/{x}/", "/a/{x}/", "/*", "/a/*", "/{x}/*", "/a/a/*", "/a/{x}/*", "/{x}/a/*", "/{x}/{y}/*",
]  # fmt: skip


def written(template: str) -> str:
    return template.replace("{x}/{x}", "{x}/{y}")


def pattern(template: str) -> PathPattern:
    return parse_prefix(template[:-1]) if template.endswith("*") else parse_path(template)


def paths(template: str) -> frozenset[tuple[str, ...]]:
    table = RouteTable([rule(template)])
    return frozenset(path for path in PATHS if table.match("GET", path))


PAIRS = [(written(one), written(other)) for one, other in product(TEMPLATES, repeat=2)]


def test_one_pattern_covers_another_exactly_if_it_matches_all_of_its_paths() -> None:
    for outer, inner in PAIRS:
        assert covers(pattern(outer), pattern(inner)) == (paths(inner) <= paths(outer)), (outer, inner)


def test_the_index_finds_exactly_the_patterns_that_share_a_path() -> None:
    templates = sorted(set(map(written, TEMPLATES)))
    index = PatternIndex()
    for number, template in enumerate(templates):
        index.add(number, pattern(template))
    for template in templates:
        shared = [number for number, other in enumerate(templates) if paths(other) & paths(template)]
        assert index.overlapping(pattern(template)) == shared, template


@pytest.mark.parametrize("template", ["/a", "/*", "/{x}/a/*"])
def test_an_empty_index_finds_nothing(template: str) -> None:
    assert PatternIndex().overlapping(pattern(template)) == []
