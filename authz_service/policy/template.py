"""Paths as the policy writes them: ``/api/chat/groups/{group_id}``, or a prefix ``/api/orgs/{org_id}/``."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

from authz_service.errors import RequestRefused
from authz_service.policy.path import MAX_PATH_BYTES, MAX_SEGMENTS, PCHAR, decode_segment

# The same grammar for editors (ECMA 262); the finer points of percent-encoding are left to parse_path().
_LITERAL = r"(?!(\.\.?|\*\*?)(/|$))([-A-Za-z0-9._~!$&'()*+,=:@]|%[0-9A-F]{2})+"
_SEGMENT = rf"(\{{[A-Za-z_][A-Za-z0-9_]*\}}|{_LITERAL})"
PATH_PATTERN = rf"^/({_SEGMENT}(/{_SEGMENT})*/?)?$"
PREFIX_PATTERN = rf"^/({_SEGMENT}/)*$"

NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})

Parameters = tuple[tuple[str, int], ...]
"""Name and position of each."""


@dataclass(frozen=True, slots=True)
class PathPattern:
    """What the path of a request must look like, segment by segment."""

    segments: tuple[str | None, ...]
    """A literal, percent-encoded as requests must spell it, or ``None``: any one segment that is not empty."""
    parameters: Parameters = ()
    is_prefix: bool = False
    """Whether at least one more segment follows, possibly an empty one."""

    def __str__(self) -> str:
        """As the policy writes it."""
        names = {position: f"{{{name}}}" for name, position in self.parameters}
        written = [names.get(position, segment or "") for position, segment in enumerate(self.segments)]
        return "/" + "/".join([*written, ""] if self.is_prefix and written else written)


def bind(parameters: Parameters, segments: tuple[str, ...]) -> Mapping[str, str]:
    """What they are in a path that matches, decoded."""
    bound = {}
    for name, position in parameters:
        segment = segments[position]
        bound[name] = decode_segment(segment) if "%" in segment else segment
    return bound


def parse_path(text: str) -> PathPattern:
    """Read a whole path; :raises ValueError: with all that is wrong with it."""
    return _parse(text, is_prefix=False)


def parse_prefix(text: str) -> PathPattern:
    """Read a prefix, which ends with a slash; :raises ValueError: with all that is wrong with it."""
    return _parse(text, is_prefix=True)


def _parse(text: str, *, is_prefix: bool) -> PathPattern:
    segments = text[1:].split("/")
    if len(text) > MAX_PATH_BYTES or len(segments) > MAX_SEGMENTS:
        raise ValueError(f"must have at most {MAX_SEGMENTS} segments and {MAX_PATH_BYTES} bytes, as requests must")
    if problems := [*_shape_problems(text, segments, is_prefix=is_prefix), *_segment_problems(segments)]:
        raise ValueError("; ".join(dict.fromkeys(problems)))
    if is_prefix:
        segments.pop()
    names = [(segment[1:-1], position) for position, segment in enumerate(segments) if segment.startswith("{")]
    return PathPattern(
        segments=tuple(None if segment.startswith("{") else segment for segment in segments),
        parameters=tuple(names), is_prefix=is_prefix,
    )  # fmt: skip


def _shape_problems(text: str, segments: list[str], *, is_prefix: bool) -> Iterator[str]:
    if not text.startswith("/"):
        yield 'must begin with "/"'
    if is_prefix and not text.endswith("/"):
        yield 'must end with "/", so that /api/chat does not match /api/chatter'
    if "" in segments[:-1]:
        yield 'must not contain "//"; requests with empty segments are refused'
    parameters = [segment for segment in segments if _is_parameter(segment)]
    for parameter in sorted({name for name in parameters if parameters.count(name) > 1}):
        yield f"names {parameter} twice; give each parameter a name of its own"


def _segment_problems(segments: Iterable[str]) -> Iterator[str]:
    for segment in segments:
        problem = None if _is_parameter(segment) or not segment else _literal_problem(segment)
        if problem:
            yield f"the segment {segment!r} {problem}"


def _is_parameter(segment: str) -> bool:
    name = segment[1:-1]
    return segment == f"{{{name}}}" and name.isascii() and name.isidentifier()


def _literal_problem(segment: str) -> str | None:
    if "{" in segment or "}" in segment:
        return "is no parameter: a parameter is a whole segment with a name of letters, digits and _, like {group_id}"
    if segment in {"*", "**"}:
        return "is no wildcard: write {name} for one segment, or a prefix for all below"
    if segment in {".", ".."}:
        return "is refused in requests"
    if strange := "".join(sorted(set(segment) - set(PCHAR + "%"))):
        return f"contains {strange!r}; percent-encode it, unless it is ; / ? or #, which no request path may carry"
    return None if segment == _canonical(segment) else _encoding_problem(segment)


def _canonical(segment: str) -> str | None:
    try:
        return quote(decode_segment(segment), safe=PCHAR)
    except RequestRefused:
        return None


def _encoding_problem(segment: str) -> str:
    canonical = _canonical(segment)
    if canonical is None:
        return "is percent-encoded in a way that is refused in requests"
    return f"must be spelled {canonical!r}"
