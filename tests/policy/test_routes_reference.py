"""The tree against a list of rules that is read from top to bottom."""

from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.errors import RequestRefused
from authz_service.policy.path import decode_segment, split_target
from authz_service.policy.routes import COMMON_METHODS, RouteTable
from tests.support.rules import rule


def naive_match(rules: list[tuple[str, frozenset[str]]], method: str, segments: tuple[str, ...]) -> int | str | None:
    """The number of the first rule that matches, ``"ambiguous"``, or ``None``."""
    shapes = [shape_of(template) for template, _ in rules]
    if any(is_ambiguous(shape, shapes, segments) for shape in shapes):
        return "ambiguous"
    for number, ((template, methods), shape) in enumerate(zip(rules, shapes, strict=True)):
        covered = methods or COMMON_METHODS
        fits = len(segments) > len(shape) if template.endswith("*") else len(segments) == len(shape)
        if fits and fits_so_far(shape, segments) and (method in covered or (method == "HEAD" and "GET" in covered)):
            return number
    return None


def shape_of(template: str) -> list[str]:
    segments = template[1:].split("/")
    return segments[:-1] if template.endswith("*") else segments


def fits_so_far(shape: list[str], segments: tuple[str, ...]) -> bool:
    return all(
        (segment != "") if wanted.startswith("{") else wanted == segment
        for wanted, segment in zip(shape, segments, strict=False)
    )


def is_ambiguous(shape: list[str], shapes: list[list[str]], segments: tuple[str, ...]) -> bool:
    """Whether some segment is an unwritten spelling of this rule's literal, at a place that the path gets to."""
    for depth, (wanted, segment) in enumerate(zip(shape, segments, strict=False)):
        siblings = {other[depth] for other in shapes if len(other) > depth and same_place(other, shape, depth)}
        gets_there = not wanted.startswith("{") and fits_so_far(shape[:depth], segments)
        if gets_there and segment not in siblings and decode_segment(segment) == decode_segment(wanted):
            return True
    return False


def same_place(one: list[str], other: list[str], depth: int) -> bool:
    return ["{" if part.startswith("{") else part for part in one[:depth]] == [
        "{" if part.startswith("{") else part for part in other[:depth]
    ]


def templates() -> st.SearchStrategy[str]:
    parts = st.lists(st.sampled_from(["a", "b", "{}", "{}", "%C3%A9"]), max_size=4)
    return st.tuples(parts, st.sampled_from(["", "/", "/*"])).map(assemble)


def assemble(parts: tuple[list[str], str]) -> str:
    segments, end = parts
    named = [f"{{p{position}}}" if part == "{}" else part for position, part in enumerate(segments)]
    return ("/" + "/".join(named) + end).replace("//", "/")


METHOD_SETS = st.frozensets(st.sampled_from(["GET", "POST", "HEAD", "PURGE"]), max_size=2)
SEGMENTS = st.lists(st.sampled_from(["a", "b", "c", "%61", "%C3%A9", "%c3%a9", "%20"]), max_size=5).flatmap(
    lambda parts: st.sampled_from([tuple(parts) or ("",), (*parts, "")])
)


@settings(max_examples=500)
@given(
    rules=st.lists(st.tuples(templates(), METHOD_SETS), max_size=8),
    method=st.sampled_from(["GET", "HEAD", "POST", "PURGE", "get"]),
    segments=SEGMENTS,
)
def test_the_tree_decides_as_a_list_of_rules_would(
    rules: list[tuple[str, frozenset[str]]], method: str, segments: tuple[str, ...]
) -> None:
    table = RouteTable(rule(template, *methods, name=str(number)) for number, (template, methods) in enumerate(rules))
    try:
        match = table.match(method, segments)
        outcome = int(match.rule.name) if match else None
    except RequestRefused:
        assert naive_match(rules, method, segments) == "ambiguous"
        return
    assert outcome == naive_match(rules, method, segments)


@settings(max_examples=200)
@given(templates=st.lists(templates(), max_size=8), target=st.text(alphabet="/ab%6179C3"), method=st.text(max_size=5))
def test_no_request_makes_it_raise_anything_but_a_refusal(templates: list[str], target: str, method: str) -> None:
    table = RouteTable(map(rule, templates))
    try:
        match = table.match(method, split_target(target))
    except RequestRefused:
        return
    assert match is None or method in COMMON_METHODS
