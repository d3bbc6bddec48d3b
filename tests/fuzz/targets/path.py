"""A method, a space and a request target, matched against a table of rules in which many paths overlap."""

from urllib.parse import quote, unquote

from authz_service.errors import RequestRefused
from authz_service.policy.path import PCHAR, decode_segment, split_target
from authz_service.policy.routes import Match, RouteTable, Rule
from tests.fuzz.issuer import assert_plain
from tests.support.rules import matched, rule

MAX_LENGTH = 1024

RULES = (
    rule("/", "GET"),
    rule("/healthz", "GET"),
    rule("/api/chat/groups", "GET", cors_preflight=True),
    rule("/api/chat/groups/{group}", "GET", "DELETE"),
    rule("/api/chat/groups/mine", "GET"),
    rule("/api/chat/{kind}/mine/", "POST"),
    rule("/api/{area}/groups/{group}/*"),
    rule("/api/caf%C3%A9/{name}"),
    rule("/api/a+b@c:d/{name}"),
    rule("/api/orgs/{org}/*", cors_preflight=True),
    rule("/static/*", "GET"),
    rule("/{anything}", "GET"),
)
TABLE = RouteTable(RULES)


def fuzz(data: bytes) -> bool:
    """Accepted is a path that a rule matches, and every reader takes to that rule."""
    method, _, target = data.decode("utf-8", "replace").partition(" ")
    try:
        segments = split_target(target)
        assert_plain_path(target, segments)
        match, preflight = TABLE.match(method, segments), TABLE.match_preflight(segments)
    except RequestRefused as refused:
        assert_plain(refused)
        return False
    assert matched(match) == first_match(method, segments)
    assert matched(preflight) == first_match(None, segments)
    for found in filter(None, (match, preflight)):
        assert_bound(found, segments)
    return match is not None


def assert_plain_path(target: str, segments: tuple[str, ...]) -> None:
    """The segments are the path, to the letter, and nothing in it moves when it is decoded or normalised."""
    path = target.partition("?")[0]
    assert "/" + "/".join(segments) == path
    assert "" not in segments[:-1]
    assert path.isascii()
    assert path.isprintable()
    assert not set(path) & set("\\;# ")
    for segment in segments:
        text = decode_segment(segment)
        assert text == unquote(segment, errors="strict")
        assert text not in {".", ".."}
        assert not set(text) & set("/\\?#;%")
        assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in text)
        assert unquote(quote(text, safe=PCHAR)) == text


def first_match(method: str | None, segments: tuple[str, ...]) -> str | None:
    """The first rule for this method (``None``: a preflight), for a server that decodes and then routes."""
    decoded = tuple(map(unquote, segments))
    return next((rule.name for rule in RULES if covers(rule, method) and fits(rule, decoded)), None)


def covers(rule: Rule, method: str | None) -> bool:
    """By method."""
    if method is None:
        return rule.cors_preflight
    return method in rule.methods or (method == "HEAD" and "GET" in rule.methods)


def fits(rule: Rule, decoded: tuple[str, ...]) -> bool:
    """By path, decoded on both sides."""
    pattern = rule.pattern.segments
    if rule.pattern.is_prefix:
        head, rest = decoded[: len(pattern)], decoded[len(pattern) :]
        return len(rest) > 0 and all(map(goes, pattern, head))
    return len(decoded) == len(pattern) and all(map(goes, pattern, decoded))


def goes(literal: str | None, segment: str) -> bool:
    """Whether a segment is the literal, or anything that is not empty where a parameter stands."""
    return segment != "" if literal is None else segment == unquote(literal)


def assert_bound(match: Match, segments: tuple[str, ...]) -> None:
    """Each parameter is its own segment, decoded, and not empty."""
    expected = {name: unquote(segments[position]) for name, position in match.rule.pattern.parameters}
    assert dict(match.params(segments)) == expected
    assert "" not in expected.values()
