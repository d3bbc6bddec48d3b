"""How much work a look-up is: counted, not timed."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import product
from types import FrameType
from typing import Any

import pytest

from authz_service.errors import ConfigurationError
from authz_service.policy import routes, template
from authz_service.policy.path import MAX_SEGMENTS, decode_segment, split_target
from authz_service.policy.routes import MAX_BRANCHES, RouteTable, Rule
from tests.support.rules import matched, rule


def steps(work: Callable[[], object]) -> int:
    """How many Python and C functions ``work`` calls."""
    count = 0

    def on_event(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    gc.disable()  # a collection in between would be counted, with whoever watches it
    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


@contextmanager
def counted_decoding() -> Iterator[list[str]]:
    """The segments that are decoded meanwhile."""
    decoded: list[str] = []

    def decode(segment: str) -> str:
        decoded.append(segment)
        return decode_segment(segment)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes, "decode_segment", decode)
        patch.setattr(template, "decode_segment", decode)
        yield decoded


@cache
def services(count: int) -> RouteTable:
    templates = ("/api/s{}/groups", "/api/s{}/groups/{{g}}", "/api/s{}/groups/{{g}}/messages", "/api/s{}/orgs/{{o}}/*")
    return RouteTable(rule(template.format(index)) for index in range(count) for template in templates)


@pytest.mark.parametrize(
    "target",
    ["/api/s0/groups", "/api/s1/groups/42/messages", "/api/s1/orgs/7/a/b/c", "/api/none", "/api/s1/groups/%41"],
)
def test_a_look_up_takes_the_same_steps_among_ten_rules_and_ten_thousand(target: str) -> None:
    few, many = services(3), services(2_500)
    segments = split_target(target)
    assert steps(lambda: few.match("GET", segments)) == steps(lambda: many.match("GET", segments))


def every_mixture(depth: int) -> list[Rule]:
    """All templates of this depth whose segments are each ``a`` or a parameter: the worst that a path can meet."""
    kinds = product(*(("a", f"{{p{position}}}") for position in range(depth)))
    return [rule("/" + "/".join(segments)) for segments in kinds]


def test_the_most_branches_that_are_allowed_cost_a_bounded_number_of_steps() -> None:
    depth = MAX_BRANCHES.bit_length() - 1
    mixture = RouteTable([*every_mixture(depth), rule("/" + "a/" * (MAX_SEGMENTS - 1) + "b")])
    assert steps(lambda: mixture.match("GET", ("a",) * MAX_SEGMENTS)) < 10 * MAX_BRANCHES * depth
    assert matched(mixture.match("GET", ("a",) * depth)) == "/a/a/a/a/a/a"


def test_a_segment_is_decoded_as_often_among_many_branches_as_among_few() -> None:
    encoded = "%62" * 2_000
    few, many = RouteTable([rule("/a/c"), rule("/{x}/c")]), RouteTable(every_mixture(MAX_BRANCHES.bit_length() - 1))
    at_depth_one, at_depth_five = ("a", encoded), ("a",) * 5 + (encoded,)
    with counted_decoding() as of_few:
        few.match("GET", at_depth_one)
    with counted_decoding() as of_many:
        many.match("GET", at_depth_five)
    assert of_few.count(encoded) == 1
    assert of_many.count(encoded) <= 2  # once to compare, once as a parameter


def test_a_policy_that_branches_further_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="128 ways"):
        RouteTable(every_mixture(MAX_BRANCHES.bit_length()))


def test_many_literals_beside_one_parameter_are_two_branches() -> None:
    RouteTable([*(rule(f"/a/l{index}") for index in range(10 * MAX_BRANCHES)), rule("/a/{x}")])
