import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.errors import Reason, RequestRefused
from authz_service.policy.path import MAX_PATH_BYTES, MAX_SEGMENTS, decode_segment, split_target

REALISTIC = {
    "root": ("/", ("",)),
    "collection": ("/api/chat/groups", ("api", "chat", "groups")),
    "item": ("/api/chat/groups/42/messages", ("api", "chat", "groups", "42", "messages")),
    "trailing slash": ("/api/chat/groups/", ("api", "chat", "groups", "")),
    "query": ("/api/chat/groups?limit=10&next=%2F..%2F", ("api", "chat", "groups")),
    "query with slashes": ("/a?b=/c//../d;e", ("a",)),
    "query with question mark": ("/a?b?c", ("a",)),
    "empty query": ("/a?", ("a",)),
    "query on root": ("/?a", ("",)),
    "uuid": ("/g/3f2504e0-4f89-11d3-9a0c-0305e82c3301", ("g", "3f2504e0-4f89-11d3-9a0c-0305e82c3301")),
    "well-known": ("/.well-known/jwks.json", (".well-known", "jwks.json")),
    "e-mail address": ("/users/a@example.com", ("users", "a@example.com")),
    "space, encoded": ("/files/my%20file", ("files", "my%20file")),
    "UTF-8, encoded": ("/caf%C3%A9/%e2%82%ac", ("caf%C3%A9", "%e2%82%ac")),
}

SYNTHETIC = {
    "each character that needs no encoding": ("/-._~!$&'()*+,=:@", ("-._~!$&'()*+,=:@",)),
    "three dots": ("/...", ("...",)),
    "dots inside": ("/a..b/.c/d.", ("a..b", ".c", "d.")),
    "letters, encoded": ("/%61%5A", ("%61%5A",)),
    "longest": ("/" + "a" * (MAX_PATH_BYTES - 1), ("a" * (MAX_PATH_BYTES - 1),)),
    "long query": ("/a?" + "b" * 30_000, ("a",)),
    "deepest": ("/a" * MAX_SEGMENTS, ("a",) * MAX_SEGMENTS),
    "highest code point": ("/%F4%8F%BF%BF", ("%F4%8F%BF%BF",)),
    "right after the C1 controls": ("/%C2%A0", ("%C2%A0",)),
}

REFUSED_REALISTIC = {
    "empty": "",
    "no slash": "api/chat",
    "asterisk-form": "*",
    "absolute-form": "http://chat.example.com/api",
    "authority-form": "chat.example.com:443",
    "only a query": "?a=b",
    "double slash": "/api//chat",
    "leading double slash": "//api/chat",
    "trailing double slash": "/api/chat//",
    "dot": "/api/./chat",
    "dot at the end": "/api/.",
    "dot dot": "/api/../admin",
    "dot dot at the end": "/api/..",
    "only dot dot": "/..",
    "encoded slash": "/api%2Fchat",
    "encoded slash, lower case": "/api%2fchat",
    "encoded dot": "/api/%2e/chat",
    "encoded dot dot": "/api/%2E%2E/admin",
    "half-encoded dot dot": "/api/.%2e/admin",
    "encoded dot inside": "/a%2Ejson",
    "backslash": "/api\\chat",
    "encoded backslash": "/api%5Cchat",
    "double encoding": "/api%252Fchat",
    "path parameter": "/admin;x=1/b",
    "encoded semicolon": "/admin%3Bx",
    "fragment": "/a#b",
    "fragment in the query": "/a?b#c",
    "encoded fragment": "/a%23b",
    "encoded question mark": "/a%3fb",
    "encoded NUL": "/a%00",
    "encoded line feed": "/a%0Ab",
    "encoded delete": "/a%7F",
}

REFUSED_SYNTHETIC = {
    "percent at the end": "/a%",
    "one digit": "/a%4",
    "no digits": "/a%zz",
    "percent percent": "/a%%41",
    "digit across a slash": "/a%4/1",
    "sign in the digits": "/a%+1",
    "space in the digits": "/a% 1",
    "full-width digits": "/a%\uff11\uff11",
    "unicode escape": "/a%u0041",
    "space": "/a b",
    "tab": "/a\tb",
    "line feed": "/a\nb",
    "CR LF": "/a\r\nb",
    "NUL": "/a\0",
    "delete": "/a\x7f",
    "quote": '/a"b',
    "angle brackets": "/<a>",
    "braces": "/{a}",
    "square brackets": "/[a]",
    "pipe": "/a|b",
    "caret": "/a^b",
    "backtick": "/a`b",
    "raw UTF-8": "/caf\u00e9",
    "full-width slash": "/a\uff0fb",
    "raw Latin-1": "/\xff",
}

REFUSED_PATHOLOGICAL = {
    "overlong slash": "/%C0%AF",
    "overlong dot, three bytes": "/%E0%80%AE",
    "overlong NUL": "/%C0%80",
    "bare continuation byte": "/%80",
    "cut short": "/%E2%82",
    "character across a slash": "/%C3/%A9",
    "surrogate": "/%ED%A0%80",
    "beyond Unicode": "/%F4%90%80%80",
    "never UTF-8": "/%FF",
    "Latin-1, encoded": "/caf%E9",
    "first C1 control": "/%C2%80",
    "last C1 control": "/%C2%9F",
    "lone surrogate": "/\udc80",
    "too long": "/" + "a" * MAX_PATH_BYTES,
    "too long with a query": "/" + "a" * MAX_PATH_BYTES + "?b",
    "too deep": "/a" * (MAX_SEGMENTS + 1),
    "too deep by a slash": "/a" * MAX_SEGMENTS + "/",
    "only slashes": "/" * MAX_PATH_BYTES,
    "only percent signs": "/" + "%" * (MAX_PATH_BYTES - 1),
    "megabyte": "/" + "%2e" * 350_000,
}


@pytest.mark.parametrize(("target", "segments"), REALISTIC.values(), ids=REALISTIC)
def test_a_plain_target_is_split_as_it_stands(target: str, segments: tuple[str, ...]) -> None:
    assert split_target(target) == segments


@pytest.mark.parametrize(("target", "segments"), SYNTHETIC.values(), ids=SYNTHETIC)
def test_an_odd_but_plain_target_is_split_as_it_stands(target: str, segments: tuple[str, ...]) -> None:
    assert split_target(target) == segments


@pytest.mark.parametrize("target", REFUSED_REALISTIC.values(), ids=REFUSED_REALISTIC)
def test_a_known_trick_is_refused(target: str) -> None:
    assert refusal(target).reason is Reason.PATH_AMBIGUOUS


@pytest.mark.parametrize("target", REFUSED_SYNTHETIC.values(), ids=REFUSED_SYNTHETIC)
def test_what_is_not_the_grammar_of_a_path_is_refused(target: str) -> None:
    assert refusal(target).reason is Reason.PATH_AMBIGUOUS


@pytest.mark.parametrize("target", REFUSED_PATHOLOGICAL.values(), ids=REFUSED_PATHOLOGICAL)
def test_what_decodes_to_no_safe_text_or_is_too_large_is_refused(target: str) -> None:
    assert refusal(target).reason is Reason.PATH_AMBIGUOUS


@pytest.mark.parametrize("octet", [*range(0x20), *b"/\\?#;%.", 0x7F], ids=lambda octet: f"{octet:02X}")
def test_no_octet_that_changes_the_meaning_may_be_encoded(octet: int) -> None:
    assert refusal(f"/a%{octet:02X}b").reason is Reason.PATH_AMBIGUOUS
    assert refusal(f"/a%{octet:02x}b").reason is Reason.PATH_AMBIGUOUS


def test_a_refusal_repeats_nothing_of_the_path() -> None:
    assert refusal("/secret//x").message == "The path can be read in more than one way."


@pytest.mark.parametrize(
    ("segment", "text"),
    [("plain", "plain"), ("", ""), ("my%20file", "my file"), ("caf%C3%A9", "caf\u00e9"), ("caf%c3%a9", "caf\u00e9"),
     ("%61b%63", "abc"), ("a+b", "a+b"), ("%F0%9F%92%AC", "\U0001f4ac")],
)  # fmt: skip
def test_a_segment_decodes_to_the_text_it_stands_for(segment: str, text: str) -> None:
    assert decode_segment(segment) == text


@pytest.mark.parametrize("segment", ["\u00e9%41", "\u00c3\u00a9%41", "%41\u00c3\u00a9", "%41\u20ac"])
def test_raw_octets_beside_encoded_ones_are_no_text(segment: str) -> None:
    with pytest.raises(RequestRefused):
        decode_segment(segment)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.text(alphabet="/%.;?#a2eFfCc38\\\u00e9").map("/".__add__)))
def test_any_text_is_split_or_refused_and_nothing_else(target: str) -> None:
    try:
        segments = split_target(target)
    except RequestRefused:
        return
    assert "/" + "/".join(segments) == target.partition("?")[0]
    assert "" not in segments[:-1]
    assert not {".", ".."} & {decode_segment(segment) for segment in segments}


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_text_survives_being_encoded_unless_it_holds_an_unsafe_octet(text: str) -> None:
    encoded = "".join(f"%{octet:02X}" for octet in text.encode())
    if set(text) & set("/\\?#;%."):
        assert refusal(f"/{encoded}").reason is Reason.PATH_AMBIGUOUS
    else:
        assert decode_segment(split_target(f"/{encoded}")[0]) == text


def refusal(target: str) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        split_target(target)
    return caught.value
