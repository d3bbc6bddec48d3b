"""Whatever bytes arrive as a Check: the service answers them, opens no door, and lets nobody speak for itself."""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authz_service.errors import Reason
from authz_service.token.jws import VerificationKey
from tests.support.check_level import Checks, FixedKeys
from tests.support.check_requests import AUTH, CORE, Answer, check_request, encode, header_map, message
from tests.support.oracle import applied, assert_denied, assert_no_spoof, is_identity
from tests.support.spoofs import LIE, NAMES, spellings
from tests.support.tokens import ABSENT, ISSUER, claims, signing_key, token

POLICY = """
version: 1
rules:
  - {name: public, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: protected, match: {path: /groups, methods: [GET]}, require: {authenticated: true}, cors_preflight: true}
  - {name: shadow, match: {path: /trial}, require: {permission: "trial:read"}, mode: shadow}
"""

GOOD = token()
BARE = signing_key().sign(claims(
    org_id=ABSENT, roles=ABSENT, permissions=ABSENT, username=ABSENT, email=ABSENT
))  # fmt: skip
"""With no claim that need not be there."""
EMPTY = signing_key().sign(claims(org_id="", roles=[], permissions=[], username="", email=""))

Headers = Iterable[tuple[str, str]]


@pytest.fixture(scope="module")
def checks() -> Checks:
    return Checks(POLICY)


class Route(NamedTuple):
    """A request that passes."""

    method: str
    path: str
    token: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def message(self, lies: Headers = (), *, raw: bool = False) -> bytes:
        return check_request(self.method, self.path, headers=[*self.truth, *lies], raw=raw)

    @property
    def truth(self) -> tuple[tuple[str, str], ...]:
        return (*self.headers, ("authorization", f"Bearer {self.token}")) if self.token else self.headers


PREFLIGHT = (("origin", "https://app.example.com"), ("access-control-request-method", "POST"))
ROUTES = {
    "protected": Route("GET", "/groups", GOOD),
    "protected, optional claims absent": Route("GET", "/groups", BARE),
    "protected, optional claims empty": Route("GET", "/groups", EMPTY),
    "public": Route("GET", "/healthz"),
    "public, with a token": Route("GET", "/healthz", GOOD),
    "preflight": Route("OPTIONS", "/groups", None, PREFLIGHT),
    "shadow": Route("GET", "/trial"),
    "shadow, with a token": Route("GET", "/trial", GOOD),
    "shadow, optional claims absent": Route("GET", "/trial", BARE),
}


# Row 4: identity spoofing.


@pytest.mark.parametrize("raw", [False, True], ids=["joined", "raw"])
@pytest.mark.parametrize("route", [
    "protected", "protected, optional claims absent", "public", "preflight", "shadow", "shadow, with a token",
])  # fmt: skip
def test_no_spelling_of_an_identity_header_reaches_the_upstream(checks: Checks, route: str, raw: bool) -> None:
    asked = ROUTES[route]
    injected = checks.check(asked.message(raw=raw)).headers
    for spelling in (spelling for name in NAMES for spelling in spellings(name)):
        for lies in ([(spelling, LIE)], [(spelling, LIE), (spelling, "twice")]):
            answer = checks.check(asked.message(lies, raw=raw))
            assert answer.allowed
            assert answer.headers == injected
            assert_no_spoof(applied([*asked.truth, *lies], answer), injected)


@pytest.mark.parametrize("raw", [False, True], ids=["joined", "raw"])
@pytest.mark.parametrize("name", NAMES)
def test_all_spellings_of_a_name_at_once_do_not_reach_the_upstream(checks: Checks, name: str, raw: bool) -> None:
    lies = [(spelling, LIE) for spelling in spellings(name)] * 2
    for route in ROUTES.values():
        injected = checks.check(route.message(raw=raw)).headers
        assert_no_spoof(applied([*route.truth, *lies], checks.check(route.message(lies, raw=raw))), injected)


@pytest.mark.parametrize("raw", [False, True], ids=["joined", "raw"])
@pytest.mark.parametrize("name", NAMES)
def test_a_denial_tells_nobody_who_somebody_is(checks: Checks, name: str, raw: bool) -> None:
    for spelling in spellings(name):
        message = check_request("GET", "/groups", headers=[(spelling, LIE)] * 2, raw=raw)
        assert assert_denied(checks.check(message), secrets=[LIE]) is Reason.TOKEN_MISSING


def test_what_is_injected_is_what_the_token_says(checks: Checks) -> None:
    """Without this, the tests above would hold for a service that believes nobody at all."""
    assert checks.check(ROUTES["protected"].message()).headers == [
        ("x-auth-sub", "user-1"), ("x-auth-org-id", "org-1"), ("x-auth-roles", "member"),
        ("x-auth-permissions", "groups:read,messages:read"), ("x-auth-username", "ada"),
        ("x-auth-email", "ada@example.com"), ("x-auth-exp", str(claims()["exp"])), ("x-auth-contract", "1"),
    ]  # fmt: skip
    assert checks.check(ROUTES["protected, optional claims absent"].message()).headers == [
        ("x-auth-sub", "user-1"), ("x-auth-exp", str(claims()["exp"])), ("x-auth-contract", "1"),
    ]  # fmt: skip


NOT_TOKENS = {
    "not ASCII": "x-auth-ü", "space": "x-auth- sub", "colon": "x-auth-sub:", "line break": "x-auth-sub\r\nx: y",
    "NUL": "x-auth-\x00", "Kelvin sign": "x-auth-\u212a", "dotted capital I": "X-AUTH-\u0130", "comma": "x-auth-a,b",
}  # fmt: skip


@pytest.mark.parametrize("raw", [False, True], ids=["joined", "raw"])
@pytest.mark.parametrize("name", NOT_TOKENS.values(), ids=NOT_TOKENS)
def test_a_name_that_is_no_header_costs_nobody_a_5xx(checks: Checks, name: str, raw: bool) -> None:
    for route in ROUTES.values():
        answer = checks.check(route.message([(name, LIE)], raw=raw))
        assert answer.allowed
        assert answer.headers == checks.check(route.message(raw=raw)).headers
        assert all(removed.isascii() and removed.isprintable() for removed in answer.removed)


IDENTITY_LIKE = st.builds(
    lambda start, end: start + end,
    st.sampled_from(["x-auth-", "X-AUTH-", "x_auth_", "x-auth_", "X_Auth-", "x-auth"]),
    st.sampled_from(["sub", "roles", "org-id", "org_id", "exp", "contract", "Shadow", "", "-", "_", "new"])
    | st.text("abcxyz0123456789-_!#$%&'*+.^`|~", max_size=6),
)
OTHERS = st.sampled_from(["accept", "origin", "authorization", "cookie", "x-request-id", "x-authors", "xauth-sub"])
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
SENT = st.lists(st.tuples(IDENTITY_LIKE | OTHERS, VALUES), max_size=8)


@given(sent=SENT, route=st.sampled_from(list(ROUTES.values())), raw=st.booleans())
@example(sent=[("x-auth-sub", ""), ("X_AUTH_SUB", ",")], route=ROUTES["shadow"], raw=True)
@example(sent=[("authorization", "Bearer a"), ("x-auth-roles", "admin")], route=ROUTES["shadow"], raw=False)
def test_no_list_of_headers_is_a_spoof(checks: Checks, sent: list[tuple[str, str]], route: Route, raw: bool) -> None:
    """The same request less its identity headers is given the same."""
    honest = [(name, value) for name, value in sent if not is_identity(name)]
    expected, answer = (checks.check(route.message(headers, raw=raw)) for headers in (honest, sent))
    assert answer.allowed == expected.allowed
    if answer.allowed:
        assert answer.headers == expected.headers
        assert_no_spoof(applied([*route.truth, *sent], answer), expected.headers)
    else:
        assert assert_denied(answer) is assert_denied(expected)


# Row 6: the message.


def http(**fields: Any) -> bytes:
    return encode(message(f"{AUTH}.AttributeContextHttpRequest")(**fields))


def bearer(credentials: str, *, raw: bool = False) -> bytes:
    return check_request(path="/groups", headers=[("authorization", credentials)], raw=raw)


FULL = check_request("GET", "/groups", headers=[("authorization", f"Bearer {GOOD}"), ("accept", "*/*")])
FULL_RAW = check_request("GET", "/groups", headers=[("authorization", f"Bearer {GOOD}"), ("accept", "*/*")], raw=True)
MIB = 1024 * 1024

MALFORMED = {
    "empty": b"",
    "no attributes": bytes.fromhex("0a00"),
    "no request": bytes.fromhex("0a022200"),
    "no HTTP request": bytes.fromhex("0a0422021200"),
    "no method": http(path="/healthz", host="h"),
    "attributes that are a number": bytes.fromhex("0801"),
    "length beyond the end": bytes.fromhex("0aff01"),
    "endless length": b"\x0a" + b"\xff" * 11,
    "groups in groups": b"\x0b" * 100_000,
    "4 MiB of zeros": bytes(4 * MIB),
    "4 MiB of ones": b"\xff" * (4 * MIB),
    "text": b"GET /healthz HTTP/1.1\r\n\r\n",
    "JSON": b'{"attributes": {"request": {"http": {"method": "GET", "path": "/healthz"}}}}',
    "method not UTF-8": check_request("MARK", "/healthz").replace(b"MARK", b"G\xff\xfeT"),
    "path not UTF-8": check_request(path="/MARK").replace(b"MARK", b"\xc3\x28ab"),
    "host not UTF-8": check_request(path="/healthz", host="MARK").replace(b"MARK", b"\xc3\x28ab"),
    "header value not UTF-8": bearer("MARK").replace(b"MARK", b"\xff\xfeab"),
    "header value with a surrogate": bearer("MARKS").replace(b"MARKS", b"a\xed\xa0\x80b"),
    "header name not UTF-8": check_request(path="/healthz", headers=[("mark", "a")]).replace(b"mark", b"\xff\xfeab"),
    "a header value in two readings": http(method="GET", path="/healthz", header_map=message(f"{CORE}.HeaderMap")(
        headers=[message(f"{CORE}.HeaderValue")(key="accept", value="a", raw_value=b"b")]
    )),
}  # fmt: skip


@pytest.mark.parametrize("received", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_check_is_refused(checks: Checks, received: bytes) -> None:
    assert assert_denied(checks.check(received)) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("whole", [FULL, FULL_RAW], ids=["headers", "header_map"])
def test_a_check_truncated_anywhere_is_refused(checks: Checks, whole: bytes) -> None:
    assert checks.check(whole).allowed
    for length in range(len(whole)):
        assert assert_denied(checks.check(whole[:length]), secrets=[GOOD]) is Reason.REQUEST_MALFORMED


def test_unknown_fields_change_nothing(checks: Checks) -> None:
    field_2000 = b"\x82\x7d\x03abc"
    assert checks.check(FULL + field_2000) == checks.check(FULL)
    assert checks.check(field_2000 + FULL_RAW) == checks.check(FULL_RAW)


def test_two_messages_in_one_are_one_request(checks: Checks) -> None:
    """Protocol Buffers merges them, and the last path counts: the one that is asked about is the one that decides."""
    public, protected = check_request(path="/healthz"), check_request(path="/groups")
    assert assert_denied(checks.check(public + protected)) is Reason.TOKEN_MISSING


@pytest.mark.parametrize("fields", [
    pytest.param({"path": "/groups" + "/a" * (2 * MIB)}, id="path"),
    pytest.param({"path": "/groups?" + "a" * (4 * MIB)}, id="query"),
    pytest.param({"path": "/groups", "host": "a" * (4 * MIB)}, id="host"),
    pytest.param({"path": "/groups", "method": "A" * (4 * MIB)}, id="method"),
    pytest.param({"path": "/groups", "headers": {"authorization": "Bearer " + "a" * (4 * MIB)}}, id="token"),
    pytest.param({"path": "/groups", "headers": {"authorization": " " * (4 * MIB)}}, id="spaces"),
    pytest.param({"path": "/groups", "headers": {"authorization": "," * (4 * MIB)}}, id="commas"),
    pytest.param({"path": "/groups", "headers": {"x-request-id": "a" * (4 * MIB)}}, id="request id"),
    pytest.param({"path": "/groups", "headers": {f"x-auth-{n}": "a" * 900 for n in range(4096)}}, id="headers"),
    pytest.param({"path": "/groups", "raw_body": bytes(4 * MIB)}, id="body"),
])  # fmt: skip
def test_4_mib_are_refused_like_less(checks: Checks, fields: dict[str, Any]) -> None:
    answer = checks.check(http(**({"method": "GET"} | fields)))
    assert_denied(answer)
    assert len(answer.body) < 1024


VALUES_THAT_ARE_NO_CREDENTIALS = {
    "not UTF-8": b"Bearer \xff\xfe", "UTF-8": "Bearer é".encode(), "overlong": b"Bearer \xc0\xae",
    "surrogate": b"Bearer \xed\xa0\x80", "NUL": b"Bearer \x00", "line break": b"Bearer a\r\nx-auth-sub: admin",
    "good token with a byte more": b"Bearer " + GOOD.encode() + b"\xff",
    "good token after a no-break space": b"Bearer\xa0" + GOOD.encode(),
    "good token after a tab": b"Bearer\t" + GOOD.encode(),
}  # fmt: skip


@pytest.mark.parametrize("value", VALUES_THAT_ARE_NO_CREDENTIALS.values(), ids=VALUES_THAT_ARE_NO_CREDENTIALS)
def test_bytes_that_are_no_credentials_are_refused(checks: Checks, value: bytes) -> None:
    answer = checks.check(http(method="GET", path="/groups", header_map=header_map([("authorization", value)])))
    assert_denied(answer, secrets=[GOOD])


def test_no_credential_hides_behind_the_other_encoding(checks: Checks) -> None:
    good = ("authorization", f"Bearer {GOOD}")
    both = http(method="GET", path="/groups", headers=dict([good]), header_map=header_map([good]))
    assert assert_denied(checks.check(both), secrets=[GOOD]) is Reason.MULTIPLE_TOKENS


HOSTILE_TEXT = {
    "line break": "a\r\nset-cookie: b=c", "quotes": 'a"b\\', "HTML": "<script>", "escape": "\x1b[31m",
    "NUL": "a\x00", "line separator": "a\u2028b", "not ASCII": "é\U0001f600",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE_TEXT.values(), ids=HOSTILE_TEXT)
@pytest.mark.parametrize("raw", [False, True], ids=["joined", "raw"])
def test_nothing_hostile_comes_back(checks: Checks, text: str, raw: bool) -> None:
    for hostile in (
        check_request("GET", f"/{text}", raw=raw),
        check_request(text, "/groups", raw=raw),
        check_request("GET", "/groups", text, raw=raw),
        check_request("GET", "/groups", headers=[("authorization", text)], raw=raw),
        check_request("GET", "/groups", headers=[("authorization", f"Bearer {text}")], raw=raw),
        check_request("GET", "/groups", headers=[(text, text)], raw=raw),
    ):
        assert_denied(checks.check(hostile), secrets=[text])


@pytest.mark.parametrize("text", ["a\r\nset-cookie: b=c", "\x1b[31m", "a\x00", "a\u2028b", "é", "a" * 129])
def test_a_request_id_that_is_not_plain_does_not_come_back(checks: Checks, text: str) -> None:
    assert_denied(checks.check(check_request("GET", "/groups", request_id=text)), secrets=[text])


async def test_an_unknown_key_id_causes_one_refresh_and_then_a_denial() -> None:
    checks = Checks(POLICY)
    answer = await checks.check_patiently(bearer(f"Bearer {token('elsewhere')}"))
    assert assert_denied(answer) is Reason.KEY_NOT_FOUND
    assert checks.keys.refreshes == [(ISSUER, "elsewhere")]


class Broken(FixedKeys):
    """A defect of ours, deep inside."""

    def key(self, issuer: str, kid: str) -> VerificationKey:
        raise RuntimeError(f"{issuer} {kid}")


class BrokenRefresh(FixedKeys):
    """The same while a refresh is awaited."""

    async def refresh_for_unknown_kid(self, issuer: str, kid: str) -> None:
        raise RuntimeError(f"{issuer} {kid}")


@pytest.mark.parametrize("keys", [Broken(), BrokenRefresh()], ids=["at once", "after a refresh"])
async def test_a_defect_denies_and_does_not_come_out(keys: FixedKeys) -> None:
    known = check_request("GET", "/groups", headers=[("authorization", f"Bearer {GOOD}")], request_id="r-1")
    answer = await Checks(POLICY, keys).check_patiently(known)
    assert (answer.allowed, answer.http_status, answer.is_error) == (False, 500, True)
    assert "user-1" not in answer.body
    assert '"request_id": "r-1"' in answer.body, "by which the client's complaint finds its line in the log"


# Anything at all.


def never_helped(answer: Answer) -> None:
    """Denied, or let in where anybody is; nobody here has a token."""
    if not answer.allowed:
        assert_denied(answer)
        return
    assert answer.metadata["rule"] in {"public", "shadow", "protected"}
    assert answer.metadata["reason"] != Reason.ALLOWED
    assert {name for name, _ in answer.headers} <= {"x-auth-contract", "x-auth-shadow"}


@given(received=st.binary(max_size=200))
def test_any_bytes_have_an_answer(checks: Checks, received: bytes) -> None:
    never_helped(checks.check(received))


ANY_TEXT = st.text(max_size=20)
REQUESTS = st.builds(
    check_request,
    method=st.sampled_from(["GET", "OPTIONS", "get", "CONNECT"]) | ANY_TEXT,
    path=st.sampled_from(["/healthz", "/groups", "/trial"]) | ANY_TEXT, host=ANY_TEXT,
    headers=st.lists(st.tuples(OTHERS | ANY_TEXT, ANY_TEXT), max_size=5), raw=st.booleans(),
)  # fmt: skip


@given(received=REQUESTS)
def test_any_request_has_an_answer(checks: Checks, received: bytes) -> None:
    never_helped(checks.check(received))


WHOLE = st.sampled_from([FULL, FULL_RAW])


@given(whole=WHOLE, at=st.integers(0, len(FULL) - 1), patch=st.binary(min_size=1, max_size=4))
def test_a_damaged_check_is_allowed_only_with_an_undamaged_token(
    checks: Checks, whole: bytes, at: int, patch: bytes
) -> None:
    damaged = whole[:at] + patch + whole[at + len(patch) :]
    answer = asyncio.run(checks.check_patiently(damaged))
    if not (answer.allowed and f"Bearer {GOOD}".encode() in damaged):
        never_helped(answer)
