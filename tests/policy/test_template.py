import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.policy.path import MAX_PATH_BYTES, MAX_SEGMENTS, split_target
from authz_service.policy.template import PATH_PATTERN, PREFIX_PATTERN, bind, parse_path, parse_prefix

PATHS = {
    "root": ("/", ("",)),
    "literal": ("/api/chat/groups", ("api", "chat", "groups")),
    "trailing slash": ("/api/chat/", ("api", "chat", "")),
    "parameter": ("/api/chat/groups/{group_id}", ("api", "chat", "groups", None)),
    "only a parameter": ("/{x}", (None,)),
    "parameter and slash": ("/{x}/", (None, "")),
    "two parameters": ("/{a}/{b}", (None, None)),
    "custom method": ("/v1/groups:batch", ("v1", "groups:batch")),
    "encoded space": ("/my%20files", ("my%20files",)),
    "encoded UTF-8": ("/caf%C3%A9", ("caf%C3%A9",)),
    "encoded brace": ("/%7Bx%7D", ("%7Bx%7D",)),
    "three dots": ("/...", ("...",)),
    "deepest": ("/a" * MAX_SEGMENTS, ("a",) * MAX_SEGMENTS),
}

MISTAKES = {
    "empty": ("", 'must begin with "/"'),
    "no slash": ("api", 'must begin with "/"'),
    "double slash": ("/a//b", 'must not contain "//"'),
    "only slashes": ("//", 'must not contain "//"'),
    "dot": ("/a/.", "segment '.' is refused in requests"),
    "dot dot": ("/../a", "segment '..' is refused in requests"),
    "parameter without name": ("/{}", "segment '{}' is no parameter"),
    "parameter with a bad name": ("/{a-b}", "segment '{a-b}' is no parameter"),
    "parameter that begins with a digit": ("/{1}", "segment '{1}' is no parameter"),
    "parameter with a type": ("/{id:int}", "segment '{id:int}' is no parameter"),
    "parameter beyond ASCII": ("/{\u00e9}", "is no parameter"),
    "parameter before text": ("/{a}b", "segment '{a}b' is no parameter"),
    "parameter after text": ("/a{b}", "segment 'a{b}' is no parameter"),
    "two parameters in a segment": ("/{a}{b}", "segment '{a}{b}' is no parameter"),
    "open brace": ("/{a", "segment '{a' is no parameter"),
    "closing brace": ("/a}", "segment 'a}' is no parameter"),
    "nested braces": ("/{{a}}", "is no parameter"),
    "brace across a slash": ("/{a/b}", "segment '{a' is no parameter"),
    "same name twice": ("/{a}/x/{a}", "names {a} twice"),
    "asterisk": ("/api/*", "segment '*' is no wildcard"),
    "two asterisks": ("/api/**", "segment '**' is no wildcard"),
    "query": ("/a?b=c", "contains '?'"),
    "fragment": ("/a#b", "contains '#'"),
    "semicolon": ("/a;b", "contains ';'"),
    "backslash": ("/a\\b", "contains '\\\\'"),
    "space": ("/a b", "contains ' '"),
    "line feed": ("/a\n", "contains '\\n'"),
    "raw UTF-8": ("/caf\u00e9", "contains '\u00e9'"),
    "needless encoding": ("/%61dmin", "must be spelled 'admin'"),
    "lower-case digits": ("/caf%c3%a9", "must be spelled 'caf%C3%A9'"),
    "encoded slash": ("/a%2Fb", "refused in requests"),
    "encoded dot": ("/%2E%2E", "refused in requests"),
    "bad encoding": ("/a%zz", "refused in requests"),
    "overlong": ("/%C0%AF", "refused in requests"),
    "too deep": ("/a" * (MAX_SEGMENTS + 1), "at most 64 segments"),
    "too long": ("/" + "a" * MAX_PATH_BYTES, "8192 bytes"),
    "hundreds of thousands of parameters": ("/{a}" * 200_000, "at most 64 segments"),
}


@pytest.mark.parametrize(("text", "segments"), PATHS.values(), ids=PATHS)
def test_a_good_path_is_read(text: str, segments: tuple[str | None, ...]) -> None:
    assert parse_path(text).segments == segments


@pytest.mark.parametrize(("text", "problem"), MISTAKES.values(), ids=MISTAKES)
def test_a_bad_path_is_refused_and_explained(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_path(text)


@pytest.mark.parametrize("text", ["api/", "//", "/a//", "/../", "/{}/", "/{a}b/", "/*/", "/%61/", "/{a}/{a}/", "/a?/"])
def test_a_prefix_is_held_to_the_same_grammar(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|segment|names"):
        parse_prefix(text)


@pytest.mark.parametrize("text", ["/api", "/api/{x}", ""])
def test_a_prefix_ends_with_a_slash(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape('must end with "/", so that /api/chat does not match /api/chatter')):
        parse_prefix(text)


def test_a_prefix_has_no_segment_for_its_last_slash() -> None:
    assert parse_prefix("/api/{x}/").segments == ("api", None)
    assert parse_prefix("/").segments == ()


def test_all_mistakes_of_a_path_are_told() -> None:
    with pytest.raises(ValueError, match=re.escape("'..'")) as caught:
        parse_path("/{}/../{a}/{a}/%61")
    assert all(part in str(caught.value) for part in ("'{}'", "names {a} twice", "must be spelled 'a'"))


def test_parameters_are_bound_to_the_decoded_segments_at_their_places() -> None:
    pattern = parse_path("/orgs/{org_id}/users/{user}")
    assert bind(pattern.parameters, ("orgs", "7", "users", "caf%C3%A9")) == {"org_id": "7", "user": "caf\u00e9"}


def test_a_prefix_binds_its_parameters_too() -> None:
    assert bind(parse_prefix("/orgs/{org_id}/").parameters, ("orgs", "7", "a", "b")) == {"org_id": "7"}


@pytest.mark.parametrize("text", [text for text, _ in PATHS.values()])
def test_the_published_pattern_accepts_each_good_path(text: str) -> None:
    assert re.search(PATH_PATTERN, text)


@settings(max_examples=300)
@given(st.text(alphabet="/{}ab.*%C3A9_-1\n ").map("/".__add__))
def test_the_published_patterns_accept_whatever_is_read_as_good(text: str) -> None:
    for parse, pattern in ((parse_path, PATH_PATTERN), (parse_prefix, PREFIX_PATTERN)):
        try:
            parse(text)
        except ValueError:
            continue
        assert re.fullmatch(pattern, text)


@pytest.mark.parametrize("text", [text for text, _ in PATHS.values()])
def test_a_good_path_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_path(text)) == text


@pytest.mark.parametrize("text", ["/", "/a/", "/{x}/", "/api/orgs/{org_id}/users/{user}/"])
def test_a_good_prefix_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_prefix(text)) == text


@settings(max_examples=300)
@given(st.text(alphabet="/ab.*%C3A9_-1;\\ ").map("/".__add__))
def test_a_path_without_parameters_is_one_that_a_request_can_have(text: str) -> None:
    try:
        pattern = parse_path(text)
    except ValueError:
        return
    assert pattern.segments == split_target(text)
