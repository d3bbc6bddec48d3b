"""Which rule decides: the first one in the file whose method and path match.

The rules are compiled into a tree of path segments, so the cost of a look-up follows the length of the path and not
the number of rules. At each node a segment may go two ways, to its literal and to the parameter; both are followed, and
of all rules met the lowest in number wins. How many ways a path can go at once is limited when the tree is built.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from authz_service.errors import ConfigurationError, Reason, RequestRefused
from authz_service.model import Mode, Verdict, verdict_of
from authz_service.policy.path import decode_segment
from authz_service.policy.requirement import Requirement
from authz_service.policy.template import NO_PARAMETERS, Parameters, PathPattern, bind

COMMON_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What a rule covers that names no method. HTTP/2 lets any other word through, so nothing covers all of them."""

NEVER_METHODS: Final = frozenset({"CONNECT", "TRACE"})
"""RFC 9110 sections 9.3.6 and 9.3.8: one opens a tunnel, the other echoes credentials. No rule lets them through."""

MAX_BRANCHES: Final = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """Whom to let through to which paths.

    :raises ValueError: unless it is either public or has a requirement, or when it names one of ``NEVER_METHODS``.
    """

    name: str
    pattern: PathPattern
    methods: frozenset[str] = COMMON_METHODS
    public: bool = False
    requirement: Requirement | None = None
    mode: Mode = Mode.ENFORCE
    enforce_percent: int | None = None
    """Share of callers, by ``sub``, for whom the verdict is carried out; ``None``: ``mode`` says it for all."""
    cors_preflight: bool = False
    allows: Verdict | None = field(init=False, compare=False, repr=False)
    """What it comes to for those whom it lets through; ``None``: that differs from caller to caller."""

    def __post_init__(self) -> None:
        if self.public == (self.requirement is not None):
            raise ValueError("a rule is public, or it requires something")
        if not self.methods.isdisjoint(NEVER_METHODS):
            raise ValueError("no rule lets CONNECT or TRACE through")
        reason = Reason.PUBLIC if self.public else Reason.ALLOWED
        same_for_all = self.enforce_percent is None
        object.__setattr__(self, "allows", verdict_of("allow", reason, self.name, self.mode) if same_for_all else None)


class Match:
    """The rule that decides, and the decoded path parameters under its names.

    What a decision asks of the rule is at hand here: of many thousand rules, each object that a look-up touches is one
    that is not in the processor's caches.
    """

    __slots__ = ("allows", "number", "parameters", "params", "public", "requirement", "rule")

    def __init__(
        self, rule: Rule, params: Mapping[str, str], number: int, parameters: Parameters, *, public: bool,
        requirement: Requirement | None, allows: Verdict | None,
    ) -> None:  # fmt: skip
        self.parameters: Final = parameters
        """The rule's own."""
        self.public: Final = public
        self.requirement: Final = requirement
        self.allows: Final = allows
        self.params: Final = params
        self.number: Final = number
        """Of the rule in the file, from 0."""
        self.rule: Final = rule

    def bound(self, segments: tuple[str, ...]) -> "Match":
        """With the parameters of this path."""
        return Match(
            self.rule, bind(self.parameters, segments), self.number, self.parameters, public=self.public,
            requirement=self.requirement, allows=self.allows,
        )  # fmt: skip


class RouteTable:
    """Rules, compiled.

    :param rules: in the order of the file.
    :raises ConfigurationError: when some path could branch more than ``MAX_BRANCHES`` ways.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._root = _Node()
        for path in _by_path(self.rules):
            self._root.plant(*path)
        if (branches := self._root.compile()) > MAX_BRANCHES:
            raise ConfigurationError([
                f"rules: a path could go up to {branches} ways through literal segments and parameters side by side, "
                f"and at most {MAX_BRANCHES} are followed; write some of them as a prefix"
            ])

    def match(self, method: str, segments: tuple[str, ...]) -> Match | None:
        """The first rule that covers this method and path, as :func:`.path.split_target` gives it.

        :raises RequestRefused: ``path_ambiguous`` when decoding the path would lead to a rule that its bytes miss.
        """
        match = self._root.find(method, segments)
        return match.bound(segments) if match is not None and match.parameters else match

    def match_preflight(self, segments: tuple[str, ...]) -> Match | None:
        """The first rule with ``cors_preflight`` that covers this path, whatever its methods.

        :raises RequestRefused: as :meth:`match`.
        """
        match = self._root.find(_PREFLIGHT, segments)
        return match.bound(segments) if match is not None else None


_Key = str | None
_PREFLIGHT: Final = None
"""Found where methods are found; no request can have it for a method."""

_Places = Mapping[_Key, int]
"""Where in a tuple of matches that of a method is."""
_NOWHERE: _Places = {}
_NO_LITERALS: frozenset[str] = frozenset()


class _Node:
    """Where a path can go on.

    With as few objects around it as possible: in a large tree the memory that a look-up touches is what it costs.
    """

    __slots__ = (
        "beside", "child_alone", "children", "decoded_literals", "literal_alone", "parameter", "prefix_places",
        "prefixes", "whole_places", "wholes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.beside: _Node | None = None
        """The other way that the segment could have gone that led here."""
        self.wholes: tuple[Match, ...] = ()
        """Rules whose path ends here, as they match without parameters."""
        self.whole_places = _NOWHERE
        self.prefixes: tuple[Match, ...] = ()
        """Rules whose path goes on from here, however."""
        self.prefix_places = _NOWHERE
        self.children = _NO_CHILDREN
        """The literal segments that can come next and where each leads."""
        self.parameter: _Node | None = None
        """Where any one segment leads that is not empty."""
        self.literal_alone: str | None = None
        """Where one literal segment alone can come next, as at most nodes, that one: here it is found sooner."""
        self.child_alone: _Node | None = None
        self.decoded_literals = _NO_LITERALS
        """Of those that are written with a percent sign."""

    def plant(self, pattern: PathPattern, matches: tuple[Match, ...], places: _Places) -> None:
        """Add the rules of a path below this node."""
        node = self
        for segment in pattern.segments:
            node = node.child(segment)
        if pattern.is_prefix:
            node.prefixes, node.prefix_places = matches, places
        else:
            node.wholes, node.whole_places = matches, places

    def compile(self) -> int:
        """Finish the tree; :returns: how many ways a path can go at most."""
        if encoded := [segment for segment in self.children if "%" in segment]:
            self.decoded_literals = frozenset(map(decode_segment, encoded))
        for segment, child in self.children.items():
            child.beside = self.parameter if segment else None
        if len(self.children) == 1:
            ((self.literal_alone, self.child_alone),) = self.children.items()
        through_literal = max((child.compile() for child in self.children.values()), default=0)
        through_parameter = self.parameter.compile() if self.parameter is not None else 0
        return max(1, through_literal + through_parameter)

    def find(self, key: _Key, segments: tuple[str, ...]) -> Match | None:
        """The earliest rule below this node.

        Each request comes through here. Most paths can go one way only; the others are left to
        :meth:`_find_all_ways`, which would find the same for all.
        """
        node, found = self, None
        for segment in segments:
            if node.prefixes and (place := node.prefix_places.get(key)) is not None:
                match = node.prefixes[place]
                if found is None or match.number < found.number:
                    found = match
            following = node.child_alone if segment == node.literal_alone else node.children.get(segment)
            if following is None:
                if "%" in segment:
                    return self._find_all_ways(key, segments)
                following = node.parameter if segment else None
                if following is None:
                    return found
            elif following.beside is not None:
                return self._find_all_ways(key, segments)
            node = following
        if node.wholes and (place := node.whole_places.get(key)) is not None:
            match = node.wholes[place]
            if found is None or match.number < found.number:
                found = match
        return found

    def _find_all_ways(self, key: _Key, segments: tuple[str, ...]) -> Match | None:
        found, end = None, len(segments)
        branches: list[tuple[_Node, int]] = []
        texts: tuple[str, ...] = ()  # decoded once for all branches, and only where it matters
        node, depth = self, 0
        while True:
            if depth == end:
                following, matches, place = None, node.wholes, node.whole_places.get(key)
            else:
                segment, matches, place = segments[depth], node.prefixes, node.prefix_places.get(key)
                depth += 1
                following = node.children.get(segment)
                if following is None:
                    if "%" in segment and node.children:
                        texts = texts or tuple(map(decode_segment, segments))
                        node.refuse_literal(texts[depth - 1])
                    following = node.parameter if segment else None
                elif following.beside is not None:
                    branches.append((following.beside, depth))
            if place is not None and (found is None or matches[place].number < found.number):
                found = matches[place]
            if following is not None:
                node = following
            elif branches:
                node, depth = branches.pop()
            else:
                return found

    def child(self, segment: str | None) -> "_Node":
        if segment is not None:
            if not self.children:
                self.children = {}  # of its own
            return self.children.setdefault(sys.intern(segment), _Node())
        if self.parameter is None:
            self.parameter = _Node()
        return self.parameter

    def refuse_literal(self, text: str) -> None:
        # A server that decodes before it routes would take %61dmin to the literal "admin", past this table.
        if text in self.children or text in self.decoded_literals:
            raise RequestRefused(Reason.PATH_AMBIGUOUS, "The path is percent-encoded where it must not be.")


_NO_CHILDREN: Final[dict[str, _Node]] = {}
"""Most nodes of a large tree are leaves."""


def _by_path(rules: Iterable[Rule]) -> Iterator[tuple[PathPattern, tuple[Match, ...], _Places]]:
    """For each path of the policy the rules that it can lead to: of those for one method the first.

    What is equal is there once, for the same reason as in :class:`_Node`.
    """
    paths: dict[tuple[tuple[str | None, ...], bool], tuple[PathPattern, list[Match], dict[_Key, int]]] = {}
    alike: dict[Parameters, Parameters] = {}
    for number, rule in enumerate(rules):
        pattern = rule.pattern
        parameters = alike.setdefault(pattern.parameters, pattern.parameters)
        _, matches, places = paths.setdefault((pattern.segments, pattern.is_prefix), (pattern, [], {}))
        if keys := _keys(rule).difference(places):
            places.update(dict.fromkeys(keys, len(matches)))
            matches.append(Match(
                rule, NO_PARAMETERS, number, parameters, public=rule.public, requirement=rule.requirement,
                allows=rule.allows,
            ))  # fmt: skip
    known: dict[frozenset[tuple[_Key, int]], _Places] = {}
    for pattern, matches, places in paths.values():
        yield pattern, tuple(matches), known.setdefault(frozenset(places.items()), places)


def _keys(rule: Rule) -> set[_Key]:
    keys: set[_Key] = set(rule.methods)
    if "GET" in keys:
        keys.add("HEAD")  # RFC 9110 section 9.3.2: a GET without the content
    if rule.cors_preflight:
        keys.add(_PREFLIGHT)
    return keys
