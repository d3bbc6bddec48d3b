"""Which path patterns share paths, and which contain each other: for checks of a policy, not for requests."""

from collections.abc import Iterable, Iterator
from itertools import chain

from authz_service.policy.template import PathPattern


def covers(outer: PathPattern, inner: PathPattern) -> bool:
    """Whether each path of ``inner`` is one of ``outer``."""
    least, longer = int(not inner.is_prefix), len(inner.segments) - len(outer.segments)
    fits = longer >= least if outer.is_prefix else longer == 0 and not inner.is_prefix
    pairs = zip(outer.segments, inner.segments, strict=False)
    return fits and all(theirs != "" if ours is None else theirs == ours for ours, theirs in pairs)


class PatternIndex:
    """Patterns by number, to find those that share a path with another one; a tree, so that thousands cost little."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, number: int, pattern: PathPattern) -> None:
        """Remember a pattern."""
        node = self._root
        for segment in pattern.segments:
            node = node.below.setdefault(segment, _Node())
        (node.prefixes if pattern.is_prefix else node.wholes).append(number)

    def overlapping(self, pattern: PathPattern) -> list[int]:
        """The numbers of the patterns that some path of this one also matches, in order."""
        return sorted(_overlapping(self._root, pattern))


class _Node:
    __slots__ = ("below", "prefixes", "wholes")

    def __init__(self) -> None:
        self.below: dict[str | None, _Node] = {}
        self.wholes: list[int] = []
        """Of patterns that end here."""
        self.prefixes: list[int] = []
        """Of patterns that go on from here with at least one more segment."""

    def everything(self) -> Iterator[int]:
        """All that stands here and below."""
        nodes = [self]
        while nodes:
            node = nodes.pop()
            yield from chain(node.wholes, node.prefixes)
            nodes += node.below.values()


def _overlapping(root: _Node, pattern: PathPattern) -> Iterator[int]:
    nodes = [root]
    for segment in pattern.segments:
        for node in nodes:
            yield from node.prefixes
        nodes = list(chain.from_iterable(_next(node, segment) for node in nodes))
    for node in nodes:
        if not pattern.is_prefix:
            yield from node.wholes
        else:
            yield from node.prefixes
            yield from chain.from_iterable(child.everything() for child in node.below.values())


def _next(node: _Node, segment: str | None) -> Iterable[_Node]:
    """Where one segment can lead; a parameter is any segment but the empty one."""
    if segment is None:
        return [child for key, child in node.below.items() if key != ""]
    ways = (segment,) if segment == "" else (segment, None)
    return [node.below[way] for way in ways if way in node.below]
