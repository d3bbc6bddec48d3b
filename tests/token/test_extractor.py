import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import Reason, Refused, RequestRefused, TokenRefused
from authz_service.token.extractor import bearer_token, single_token, usual_spelling
from tests.support import tokens

MAX = 64
B64TOKEN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/"

MESSAGES = {
    "", "An access token is required.", "The request carries more than one credential.",
    "The access token contains characters that no token has.", f"The access token is larger than {MAX} bytes.",
}  # fmt: skip

ACCEPTED = {
    "plain": ("authorization", "Bearer a.b.c"),
    "header name in any case": ("AuThOrIzAtIoN", "Bearer a.b.c"),
    "scheme in lower case": ("authorization", "bearer a.b.c"),
    "scheme in upper case": ("authorization", "BEARER a.b.c"),
    "scheme in mixed case": ("authorization", "bEaReR a.b.c"),
    "more than one space": ("authorization", "Bearer    a.b.c"),
}

MISSING = {
    "no headers": [],
    "other headers": [("cookie", "authorization=Bearer a.b.c"), ("x-authorization", "Bearer a.b.c")],
    "token in a query": [(":path", "/?access_token=a.b.c"), ("referer", "http://x/?access_token=a.b.c")],
    "underscore for hyphen": [("proxy_authorization", "Bearer a.b.c"), ("authorization_", "Bearer a.b.c")],
    "another header's name": [("proxy-authorization", "Bearer a.b.c")],
    "another header's name, as long": [("if-none-match", "Bearer a.b.c")],
    "empty": [("authorization", "")],
    "scheme alone": [("authorization", "Bearer")],
    "scheme and spaces": [("authorization", "Bearer   ")],
    "no scheme": [("authorization", "a.b.c")],
    "Basic": [("authorization", "Basic dXNlcjpwYXNz")],
    "DPoP": [("authorization", "DPoP a.b.c")],
    "Basic, with a word of ours": [("authorization", "Basic bearer")],
    "Basic, then a scheme that ends like ours": [("authorization", "Basic dXNlcjpwYXNz, XBearer a.b.c")],
    "Basic, then a no-break space": [("authorization", "Basic dXNlcjpwYXNz,\u00a0Bearer a.b.c")],
    "Digest, with commas of its own": [("authorization", 'Digest username="bearer", realm="x", uri="/"')],
    "scheme with a suffix": [("authorization", "Bearers a.b.c")],
    "scheme glued to the token": [("authorization", "Bearera.b.c")],
    "tab for space": [("authorization", "Bearer\ta.b.c")],
    "no-break space": [("authorization", "Bearer\u00a0a.b.c")],
    "leading space": [("authorization", " Bearer a.b.c")],
    "colon after the scheme": [("authorization", "Bearer: a.b.c")],
    "scheme of look-alike letters": [("authorization", "B\u0435arer a.b.c")],
}

MULTIPLE = {
    "two headers": [("authorization", "Bearer a.b.c"), ("authorization", "Bearer d.e.f")],
    "twice the same header": [("authorization", "Bearer a.b.c"), ("Authorization", "Bearer a.b.c")],
    "an empty header beside it": [("authorization", "Bearer a.b.c"), ("authorization", "")],
    "Basic and Bearer": [("authorization", "Basic dXNlcjpwYXNz"), ("authorization", "Bearer a.b.c")],
    "joined": [("authorization", "Bearer a.b.c,Bearer d.e.f")],
    "joined with space": [("authorization", "Bearer a.b.c, Bearer d.e.f")],
    "joined with an empty one": [("authorization", "Bearer a.b.c,")],
    "joined behind an empty one": [("authorization", ", Bearer a.b.c")],
    "joined behind Basic": [("authorization", "Basic dXNlcjpwYXNz, bearer a.b.c")],
    "joined behind Basic without a space": [("authorization", "Basic dXNlcjpwYXNz,Bearer a.b.c")],
    "joined behind Basic, with more spaces": [("authorization", "Basic dXNlcjpwYXNz,  Bearer   a.b.c")],
    "joined before Basic": [("authorization", "Bearer a.b.c, Basic dXNlcjpwYXNz")],
    "joined with tab": [("authorization", "Basic dXNlcjpwYXNz,\tBEARER a.b.c")],
    "two tokens in one": [("authorization", "Bearer a.b.c,d.e.f")],
}

MALFORMED = {
    "space inside": "a.b .c", "trailing space": "a.b.c ", "tab": "a.b\t.c", "leading tab": "\ta.b.c",
    "line feed": "a.b.c\n", "CR LF": "a.b.c\r\nx: y",
    "NUL": "a.b\0.c", "DEL": "a.b.c\x7f", "quotes": '"a.b.c"', "auth-param": 'token="a.b.c"', "semicolon": "a.b.c;d",
    "non-ASCII": "a.b.\u00e9", "fullwidth full stop": "a\uff0eb.c", "zero-width space": "a.b.c\u200b",
    "lone surrogate": "a.b.\ud800",
    "JSON serialisation": '{"payload":"e30"}', "percent": "a.b%2Ec", "angle brackets": "<a.b.c>",
    "what Envoy puts for non-UTF-8": "a.b.c!",
}  # fmt: skip


@pytest.mark.parametrize("header", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_the_scheme_may_be_spelled_in_any_case_and_the_token_comes_out_as_it_is(header: tuple[str, str]) -> None:
    assert bearer_token(((":method", "GET"), header, ("accept", "*/*")), MAX) == "a.b.c"


def test_every_character_of_a_b64token_is_accepted() -> None:
    assert bearer_token((("authorization", f"Bearer {B64TOKEN}=="),), 100) == f"{B64TOKEN}=="


@pytest.mark.parametrize("character", B64TOKEN)
def test_every_character_may_be_the_first(character: str) -> None:
    assert bearer_token((("authorization", f"Bearer {character}"),), MAX) == character


@pytest.mark.parametrize("headers", MISSING.values(), ids=MISSING.keys())
def test_without_a_bearer_token_in_the_header_there_is_none(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(TokenRefused) as caught:
        bearer_token(tuple(headers), MAX)
    assert caught.value.reason is Reason.TOKEN_MISSING


@pytest.mark.parametrize("headers", MULTIPLE.values(), ids=MULTIPLE.keys())
def test_more_than_one_credential_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(RequestRefused) as caught:
        bearer_token(tuple(headers), MAX)
    assert caught.value.reason is Reason.MULTIPLE_TOKENS


@pytest.mark.parametrize("token", MALFORMED.values(), ids=MALFORMED.keys())
def test_characters_that_no_token_has_are_refused(token: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        bearer_token((("authorization", f"Bearer {token}"),), MAX)
    assert caught.value.reason is Reason.TOKEN_MALFORMED


def test_the_longest_token_is_accepted() -> None:
    assert bearer_token((("authorization", "Bearer " + "a" * MAX),), MAX) == "a" * MAX


@pytest.mark.parametrize("token", ["a" * (MAX + 1), "a," * MAX, "\0" * (MAX + 1), "\u00e9" * (MAX + 1)])
def test_a_longer_token_is_too_large_whatever_else_is_wrong_with_it(token: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        bearer_token((("authorization", f"Bearer {token}"),), MAX)
    assert caught.value.reason is Reason.TOKEN_TOO_LARGE


@pytest.mark.parametrize(("credentials", "message"), [
    ("", "An access token is required."),
    ("Bearer a.b.c,d.e.f", "The request carries more than one credential."),
    ("Bearer " + "a" * (MAX + 1), f"The access token is larger than {MAX} bytes."),
    ("Bearer a.b.c!", "The access token contains characters that no token has."),
])  # fmt: skip
def test_the_client_reads_what_is_wrong(credentials: str, message: str) -> None:
    with pytest.raises(Refused) as caught:
        bearer_token((("authorization", credentials),), MAX)
    assert caught.value.message == message


@given(st.lists(st.tuples(st.sampled_from(["authorization", "Authorization", "cookie", ""]) | st.text(), st.text())))
def test_no_headers_raise_anything_but_a_refusal_that_repeats_nothing(headers: list[tuple[str, str]]) -> None:
    try:
        token = bearer_token(tuple(headers), MAX)
    except Refused as refused:
        message = refused.message
    else:
        message = ""
        assert set(token) <= set(B64TOKEN + "=")
    assert message in MESSAGES


@given(st.text(alphabet=" ,\tabBearer.=\u00e9", max_size=30))
def test_what_is_accepted_is_one_token_of_the_grammar(rest: str) -> None:
    try:
        token = bearer_token((("authorization", f"Bearer {rest}"),), MAX)
    except Refused:
        return
    assert rest.lstrip(" ") == token
    assert not {" ", ",", "\t", "\u00e9"} & set(token)


def test_a_real_token_passes_unchanged() -> None:
    token = tokens.token()
    assert bearer_token((("authorization", f"Bearer {token}"),), 8192) == token


def outcome(credentials: str) -> str | Reason:
    try:
        return single_token([credentials], 100)
    except Refused as refused:
        return refused.reason


@given(st.lists(st.sampled_from(["Bearer", "bEARER", "Basic", " ", "  ", "a.b.c", ",", "\t", "="]), max_size=5).map(
    "".join
))  # fmt: skip
def test_the_usual_spelling_means_the_same(credentials: str) -> None:
    assert outcome(usual_spelling(credentials)) == outcome(credentials)


@pytest.mark.parametrize("credentials", ["Bearer a.b.c", "bearer a.b.c", "BEARER    a.b.c", "Bearer  a.b.c"])
def test_a_token_has_one_usual_spelling(credentials: str) -> None:
    assert usual_spelling(credentials) == "Bearer a.b.c"
