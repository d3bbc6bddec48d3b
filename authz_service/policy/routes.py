"""Which rule decides: the first one in the file whose method and path match.

The rules are compiled into a tree of path segments, so the cost of a look-up follows the length of the path and not
the number of rules. At each node a segment may go two ways, to its literal and to the parameter; both are followed, and
of all rules met the lowest in number wins. How many ways a path can go at once is limited when the tree is built.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from authz_service.errors import ConfigurationError, Reason, RequestRefused
from authz_service.model import Mode
from authz_service.policy.path import decode_segment
from authz_service.policy.requirement import Requirement
from authz_service.policy.template import NO_PARAMETERS, PathPattern

COMMON_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What a rule covers that names no method. HTTP/2 lets any other word through, so nothing covers all of them."""

NEVER_METHODS = frozenset({"CONNECT", "TRACE"})
"""RFC 9110 sections 9.3.6 and 9.3.8: one opens a tunnel, the other echoes credentials. No rule lets them through."""

MAX_BRANCHES = 64


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


class Match(NamedTuple):
    """The rule that decides, and the decoded path parameters under its names."""

    rule: Rule
    params: Mapping[str, str]


class RouteTable:
    """Rules, compiled.

    :param rules: in the order of the file.
    :raises ConfigurationError: when some path could branch more than ``MAX_BRANCHES`` ways.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._root = _Node()
        for index, rule in enumerate(self.rules):
            self._root.plant(index, rule)
        if (branches := self._root.compile()) > MAX_BRANCHES:
            raise ConfigurationError([
                f"rules: a path could go up to {branches} ways through literal segments and parameters side by side, "
                f"and at most {MAX_BRANCHES} are followed; write some of them as a prefix"
            ])

    def match(self, method: str, segments: tuple[str, ...]) -> Match | None:
        """The first rule that covers this method and path, as :func:`.path.split_target` gives it.

        :raises RequestRefused: ``path_ambiguous`` when decoding the path would lead to a rule that its bytes miss.
        """
        match = self._root.find(method, segments)[1]
        return match if match is None or not match.rule.pattern.parameters else _bound(match, segments)

    def match_preflight(self, segments: tuple[str, ...]) -> Match | None:
        """The first rule with ``cors_preflight`` that covers this path, whatever its methods.

        :raises RequestRefused: as :meth:`match`.
        """
        match = self._root.find(_PREFLIGHT, segments)[1]
        return match and _bound(match, segments)


def _bound(match: Match, segments: tuple[str, ...]) -> Match:
    return Match(match.rule, match.rule.pattern.bind(segments))


_Key = str | None
_PREFLIGHT = None
"""Found where methods are found; no request can have it for a method."""

_Entry = tuple[int, Match | None]
"""The number of a rule in the file, and its match as it is without parameters, made once for all requests."""
_NO_RULE: _Entry = (sys.maxsize, None)


class _Node(dict[str, "_Node"]):
    """The literal segments that can come next and where each leads.

    A dictionary itself, with as few objects around it as possible: in a large tree the memory that a look-up touches
    is what it costs.
    """

    __slots__ = ("beside", "decoded_literals", "parameter", "prefixes", "wholes")

    def __init__(self) -> None:
        super().__init__()
        self.parameter: _Node | None = None
        """Where any one segment leads that is not empty."""
        self.beside: _Node | None = None
        """The other way that the segment could have gone that led here."""
        self.wholes: dict[_Key, _Entry] | None = None
        """Rules whose path ends here."""
        self.prefixes: dict[_Key, _Entry] | None = None
        """Rules whose path goes on from here, however."""
        self.decoded_literals: frozenset[str] = frozenset()

    def plant(self, index: int, rule: Rule) -> None:
        """Add a rule below this node. Where two meet, the earlier one stays."""
        node = self
        for segment in rule.pattern.segments:
            node = node.child(segment)
        entries = node.entries(is_prefix=rule.pattern.is_prefix)
        entry = index, Match(rule, NO_PARAMETERS)
        for key in _keys(rule):
            entries.setdefault(key, entry)

    def compile(self) -> int:
        """Finish the tree; :returns: how many ways a path can go at most."""
        self.decoded_literals = frozenset(map(decode_segment, self))
        for segment, child in self.items():
            child.beside = self.parameter if segment else None
        through_literal = max((child.compile() for child in self.values()), default=0)
        through_parameter = self.parameter.compile() if self.parameter is not None else 0
        return max(1, through_literal + through_parameter)

    def find(self, key: _Key, segments: tuple[str, ...]) -> _Entry:
        """The earliest rule below this node, or ``_NO_RULE``.

        Each request comes through here. Most paths can go one way only; the others are left to
        :meth:`_find_all_ways`, which would find the same for all.
        """
        node, found = self, _NO_RULE
        for segment in segments:
            if node.prefixes is not None and (entry := node.prefixes.get(key, _NO_RULE))[0] < found[0]:
                found = entry
            following = node.get(segment)
            if following is None:
                if "%" in segment:
                    return self._find_all_ways(key, segments)
                following = node.parameter if segment else None
                if following is None:
                    return found
            elif following.beside is not None:
                return self._find_all_ways(key, segments)
            node = following
        if node.wholes is not None and (entry := node.wholes.get(key, _NO_RULE))[0] < found[0]:
            found = entry
        return found

    def _find_all_ways(self, key: _Key, segments: tuple[str, ...]) -> _Entry:
        found, end = _NO_RULE, len(segments)
        branches: list[tuple[_Node, int]] = []
        texts: tuple[str, ...] = ()  # decoded once for all branches, and only where it matters
        node, depth = self, 0
        while True:
            if depth == end:
                following, entries = None, node.wholes
            else:
                segment, entries = segments[depth], node.prefixes
                depth += 1
                following = node.get(segment)
                if following is None:
                    if "%" in segment and node.decoded_literals:
                        texts = texts or tuple(map(decode_segment, segments))
                        node.refuse_literal(texts[depth - 1])
                    following = node.parameter if segment else None
                elif following.beside is not None:
                    branches.append((following.beside, depth))
            if entries is not None and (entry := entries.get(key, _NO_RULE))[0] < found[0]:
                found = entry
            if following is not None:
                node = following
            elif branches:
                node, depth = branches.pop()
            else:
                return found

    def child(self, segment: str | None) -> "_Node":
        if segment is not None:
            return self.setdefault(sys.intern(segment), _Node())
        if self.parameter is None:
            self.parameter = _Node()
        return self.parameter

    def entries(self, *, is_prefix: bool) -> "dict[_Key, _Entry]":
        if is_prefix:
            self.prefixes = entries = self.prefixes or {}
        else:
            self.wholes = entries = self.wholes or {}
        return entries

    def refuse_literal(self, text: str) -> None:
        # A server that decodes before it routes would take %61dmin to the literal "admin", past this table.
        if text in self.decoded_literals:
            raise RequestRefused(Reason.PATH_AMBIGUOUS, "The path is percent-encoded where it must not be.")


def _keys(rule: Rule) -> set[_Key]:
    keys: set[_Key] = set(rule.methods)
    if "GET" in keys:
        keys.add("HEAD")  # RFC 9110 section 9.3.2: a GET without the content
    if rule.cors_preflight:
        keys.add(_PREFLIGHT)
    return keys
