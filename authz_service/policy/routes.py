"""Which rule decides: the first one in the file whose method and path match.

The rules are compiled into a tree of path segments, so the cost of a look-up follows the length of the path and not
the number of rules. At each node a segment may go two ways, to its literal and to the parameter; both are followed, and
of all rules met the lowest in number wins. How many ways a path can go at once is limited when the tree is built.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from authz_service.errors import ConfigurationError, Reason, RequestRefused
from authz_service.kept import Outcome, outcome_of
from authz_service.model import Mode, Verdict
from authz_service.policy.path import decode_segment
from authz_service.policy.requirement import Requirement
from authz_service.policy.template import NO_PARAMETERS, PathPattern, bind

COMMON_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What a rule covers that names no method. HTTP/2 lets any other word through, so nothing covers all of them."""

NEVER_METHODS: Final = frozenset({"CONNECT", "TRACE"})
"""RFC 9110 sections 9.3.6 and 9.3.8: one opens a tunnel, the other echoes credentials. No rule lets them through."""

MAX_BRANCHES: Final = 64

_Key = str | None
_Rest = tuple[str | None, ...]
_PREFLIGHT: Final = None
"""Found where methods are found; no request can have it for a method."""


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

    def __post_init__(self) -> None:
        if self.public == (self.requirement is not None):
            raise ValueError("a rule is public, or it requires something")
        if not self.methods.isdisjoint(NEVER_METHODS):
            raise ValueError("no rule lets CONNECT or TRACE through")

    @property
    def allows(self) -> Outcome:
        """What it comes to for those whom it lets through, unless that differs from caller to caller."""
        return outcome_of("allow", Reason.PUBLIC if self.public else Reason.ALLOWED, self.mode)


class Terms:
    """What a decision asks of a rule, but for its name: one object for all rules that say the same."""

    __slots__ = ("is_prefix", "methods", "parameters", "public", "requirement", "rest", "same_for_all")

    def __init__(self, rule: Rule, methods: frozenset[_Key], rest: _Rest) -> None:
        self.methods: Final = methods
        """Those for which it is the first rule with its path."""
        self.public: Final = rule.public
        self.requirement: Final = rule.requirement
        self.parameters: Final = rule.pattern.parameters
        self.same_for_all: Final = rule.enforce_percent is None
        """Whether its verdict is, of all whom it lets through."""
        self.rest: Final = rest
        """What a path must go on with where :attr:`_Node.ways` leads here; see :attr:`.PathPattern.segments`."""
        self.is_prefix: Final = rule.pattern.is_prefix
        """Whether at least one more segment must follow, whatever it is."""

    def end(self, segments: tuple[str, ...], at: int) -> bool:
        """Whether a path goes on like :attr:`rest`, from there to its end."""
        rest = self.rest
        left = len(segments) - at - len(rest)
        if not (left > 0 if self.is_prefix else left == 0):
            return False
        for expected in rest:
            segment = segments[at]
            if segment != expected and (expected is not None or not segment):
                return False
            at += 1
        return True


class Match(Verdict):
    """The rule that decides, and what it comes to for those whom it lets through.

    All in one object: of many thousand rules, each object that a look-up touches is not in the processor's caches.
    """

    __slots__ = ("later", "place", "rule", "terms")

    def __init__(self, rule: Rule, place: int, terms: Terms) -> None:
        super().__init__(rule.allows, rule.name)
        self.terms = terms
        self.later: Match | None = None
        """The next rule with the same path, for other methods."""
        self.place: Final = place
        """Of the rule in the file, from 0."""
        self.rule: Final = rule

    def params(self, segments: tuple[str, ...]) -> Mapping[str, str]:
        """The decoded path parameters under the rule's names, in a path that it matches."""
        parameters = self.terms.parameters
        return bind(parameters, segments) if parameters else NO_PARAMETERS


class RouteTable:
    """Rules, compiled.

    :param rules: in the order of the file.
    :raises ConfigurationError: when some path could branch more than ``MAX_BRANCHES`` ways.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._root = _Node()
        shared = _SharedTerms()
        for pattern, first in _by_path(self.rules, shared):
            self._root.plant(pattern, first)
        if (branches := self._root.compile()) > MAX_BRANCHES:
            raise ConfigurationError([
                f"rules: a path could go up to {branches} ways through literal segments and parameters side by side, "
                f"and at most {MAX_BRANCHES} are followed; write some of them as a prefix"
            ])
        self._root.shorten(0, shared)

    def match(self, method: str, segments: tuple[str, ...]) -> Match | None:
        """The first rule that covers this method and path, as :func:`.path.split_target` gives it.

        :raises RequestRefused: ``path_ambiguous`` when decoding the path would lead to a rule that its bytes miss.
        """
        return self._root.find(method, segments)

    def match_preflight(self, segments: tuple[str, ...]) -> Match | None:
        """The first rule with ``cors_preflight`` that covers this path, whatever its methods.

        :raises RequestRefused: as :meth:`match`.
        """
        return self._root.find(_PREFLIGHT, segments)


_NO_LITERALS: frozenset[str] = frozenset()


class _Node:
    """Where a path can go on.

    With as few objects around it as possible: in a large tree the memory that a look-up touches is what it costs.
    """

    __slots__ = (
        "beside", "children", "decoded_literals", "literal_alone", "only", "parameter", "prefix", "way_alone", "ways",
        "whole",
    )  # fmt: skip

    def __init__(self) -> None:
        self.beside: _Node | None = None
        """The other way that the segment could have gone that led here."""
        self.whole: Match | None = None
        """The first of the rules whose path ends here."""
        self.prefix: Match | None = None
        """The first of those whose path goes on from here, however."""
        self.literal_alone: str | None = None
        """Where one literal segment alone can come next, as at most nodes, that one: here it is found sooner."""
        self.way_alone: _Node | Match | None = None
        """Where it leads."""
        self.ways = _NO_WAYS
        """Where each of several leads: straight to a rule, where there is but one."""
        self.children = _NO_CHILDREN
        """The literal segments that can come next and where each leads, step by step."""
        self.only: Match | None = None
        """The rule to which all paths lead that go on here, if they do."""
        self.parameter: _Node | None = None
        """Where any one segment leads that is not empty."""
        self.decoded_literals = _NO_LITERALS
        """Of those that are written with a percent sign."""

    def plant(self, pattern: PathPattern, first: Match) -> None:
        """Add the rules of a path below this node."""
        node = self
        for segment in pattern.segments:
            node = node.child(segment)
        if pattern.is_prefix:
            node.prefix = first
        else:
            node.whole = first

    def compile(self) -> int:
        """Finish the tree; :returns: how many ways a path can go at most."""
        if encoded := [segment for segment in self.children if "%" in segment]:
            self.decoded_literals = frozenset(map(decode_segment, encoded))
        for segment, child in self.children.items():
            child.beside = self.parameter if segment else None
        through_literal = max((child.compile() for child in self.children.values()), default=0)
        through_parameter = self.parameter.compile() if self.parameter is not None else 0
        ends = [match for match in (self.whole, self.prefix) if match is not None]
        following = [*self.children.values(), *([] if self.parameter is None else [self.parameter])]
        if len(ends) + len(following) == 1:
            self.only = ends[0] if ends else following[0].only
        return max(1, through_literal + through_parameter)

    def shorten(self, depth: int, shared: "_SharedTerms") -> None:
        """Find the ways on from here, at so many segments, and from all nodes to which they lead."""
        ways: dict[str, _Node | Match] = {}
        for segment, child in self.children.items():
            only = child.only if self.parameter is None else None
            if only is None:
                ways[segment] = child
                child.shorten(depth + 1, shared)
            else:
                ways[segment] = only
                only.terms = shared.of(only.rule, only.terms.methods, only.rule.pattern.segments[depth + 1:])
        if len(ways) == 1:
            ((self.literal_alone, self.way_alone),) = ways.items()
        else:
            self.ways = _roomy(ways) or _NO_WAYS
        if self.parameter is not None:
            self.parameter.shorten(depth + 1, shared)

    def find(self, key: _Key, segments: tuple[str, ...]) -> Match | None:
        """The earliest rule below this node.

        Each request comes through here. Most paths can go one way only; the others are left to
        :meth:`_find_all_ways`, which would find the same for all.
        """
        node, found, at = self, None, 0
        for segment in segments:
            at += 1  # noqa: SIM113 - compiled, enumerate() costs as much as all the rest
            if node.prefix is not None:
                found = _earlier(found, node.prefix, key)
            way = node.way_alone if segment == node.literal_alone else node.ways.get(segment)
            if isinstance(way, Match):
                if way.terms.end(segments, at):
                    return _earlier(found, way, key)
                return self._find_all_ways(key, segments)
            if way is None:
                if "%" in segment:
                    return self._find_all_ways(key, segments)
                if node.parameter is None or not segment:
                    return found
                node = node.parameter
            elif way.beside is not None:
                return self._find_all_ways(key, segments)
            else:
                node = way
        return _earlier(found, node.whole, key)

    def _find_all_ways(self, key: _Key, segments: tuple[str, ...]) -> Match | None:
        found, end = None, len(segments)
        branches: list[tuple[_Node, int]] = []
        texts: tuple[str, ...] = ()  # decoded once for all branches, and only where it matters
        node, depth = self, 0
        while True:
            if depth == end:
                following, found = None, _earlier(found, node.whole, key)
            else:
                segment, found = segments[depth], _earlier(found, node.prefix, key)
                depth += 1
                following = node.children.get(segment)
                if following is None:
                    if "%" in segment and node.children:
                        texts = texts or tuple(map(decode_segment, segments))
                        node.refuse_literal(texts[depth - 1])
                    following = node.parameter if segment else None
                elif following.beside is not None:
                    branches.append((following.beside, depth))
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
_NO_WAYS: Final[dict[str, _Node | Match]] = {}
"""Most nodes of a large tree are leaves."""


def _roomy(ways: dict[str, _Node | Match]) -> dict[str, _Node | Match]:
    """The same, where fewer come upon the place of another: CPython makes room for what it adds as if all were new.

    Of many thousand ways, each such place is one more that is not in the processor's caches.
    """
    roomy = dict(islice(ways.items(), len(ways) // 2))
    roomy.update(ways)
    return roomy


def _earlier(found: Match | None, match: Match | None, key: _Key) -> Match | None:
    """What was found so far, or the rule for this method among those of another path: the earlier in the file."""
    while match is not None:
        if key in match.terms.methods:
            return match if found is None or match.place < found.place else found
        match = match.later
    return found


class _SharedTerms:
    """What is equal is there once, for the same reason as in :class:`Match`."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Terms] = {}

    def of(self, rule: Rule, methods: frozenset[_Key], rest: _Rest = ()) -> Terms:
        pattern, same_for_all = rule.pattern, rule.enforce_percent is None
        words = methods, rule.requirement, pattern.parameters, pattern.is_prefix, same_for_all, rest
        terms = self._known.get(words)
        if terms is None:
            terms = self._known[words] = Terms(rule, methods, rest)
        return terms


def _by_path(rules: Iterable[Rule], shared: _SharedTerms) -> Iterator[tuple[PathPattern, Match]]:
    """For each path of the policy the first of the rules that it can lead to, which knows the next."""
    paths: dict[tuple[tuple[str | None, ...], bool], tuple[set[_Key], list[Match]]] = {}
    for number, rule in enumerate(rules):
        pattern = rule.pattern
        taken, matches = paths.setdefault((pattern.segments, pattern.is_prefix), (set(), []))
        if keys := frozenset(_keys(rule) - taken):
            taken |= keys
            match = Match(rule, number, shared.of(rule, keys))
            if matches:
                matches[-1].later = match
            matches.append(match)
    for _, matches in paths.values():
        yield matches[0].rule.pattern, matches[0]


def _keys(rule: Rule) -> set[_Key]:
    keys: set[_Key] = set(rule.methods)
    if "GET" in keys:
        keys.add("HEAD")  # RFC 9110 section 9.3.2: a GET without the content
    if rule.cors_preflight:
        keys.add(_PREFLIGHT)
    return keys
