"""Claims become headers that can say nothing but what the token says."""

from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import AccessRefused, Reason, TokenRefused
from authz_service.model import Claims
from authz_service.response.identity_headers import CONTRACT_HEADER, IdentityHeaders, identity_headers_in

HEADERS = (
    ("sub", "x-auth-sub"), ("org_id", "x-auth-org-id"), ("roles", "x-auth-roles"),
    ("permissions", "x-auth-permissions"), ("username", "x-auth-username"), ("email", "x-auth-email"),
    ("exp", "x-auth-exp"),
)  # fmt: skip


def claims(**payload: Any) -> Claims:
    return Claims("http://issuer", "user-1", 1_700_000_000, frozenset(), frozenset(), MappingProxyType(payload))


def rendered(*, max_bytes: int = 8192, **payload: Any) -> dict[str, str]:
    headers = IdentityHeaders(HEADERS, max_bytes).render(claims(**payload))
    assert len(dict(headers)) == len(headers)
    return dict(headers)


def test_every_claim_of_the_map_has_its_header() -> None:
    assert rendered(
        sub="user-1", org_id="org-1", roles=["member"], permissions=["groups:read", "messages:read"],
        username="ada", email="ada@example.com", exp=1_700_000_000.5,
    ) == {
        "x-auth-sub": "user-1", "x-auth-org-id": "org-1", "x-auth-roles": "member",
        "x-auth-permissions": "groups:read,messages:read", "x-auth-username": "ada",
        "x-auth-email": "ada@example.com", "x-auth-exp": "1700000000",
    }  # fmt: skip


def test_an_absent_claim_is_an_absent_header_and_an_empty_list_an_empty_one() -> None:
    assert rendered(roles=[], org_id=None) == {"x-auth-roles": "", "x-auth-exp": "1700000000"}


@pytest.mark.parametrize(
    ("value", "header"),
    [
        pytest.param("Ada Lovelace", "Ada%20Lovelace", id="a space"),
        pytest.param("Åsa", "%C3%85sa", id="beyond ASCII"),
        pytest.param("a,b", "a%2Cb", id="a comma"),
        pytest.param("100%", "100%25", id="a percent sign"),
        pytest.param("Ås:a/\"b\"", '%C3%85s:a/"b"', id="visible ASCII beside it"),
        pytest.param(" x ", "%20x%20", id="spaces at the ends"),
        pytest.param("  ", "%20%20", id="only spaces"),
        pytest.param([" a", "b "], "%20a,b%20", id="spaces at the ends of items"),
        pytest.param("\u00a0x\u3000", "%C2%A0x%E3%80%80", id="other spaces at the ends"),
        pytest.param("\U0001f600", "%F0%9F%98%80", id="a pair of surrogates, joined"),
        pytest.param('"quoted"', '"quoted"', id="quotes are visible ASCII"),
        pytest.param("!~", "!~", id="the ends of visible ASCII"),
        pytest.param("\u2028", "%E2%80%A8", id="a line separator of Unicode"),
        pytest.param(["a,b"], "a%2Cb", id="a list item with a comma"),
        pytest.param(["a", "b"], "a,b", id="a list"),
        pytest.param(["%2C"], "%252C", id="a list item that looks encoded"),
        pytest.param(True, "true", id="true"),
        pytest.param(False, "false", id="false"),
        pytest.param(7, "7", id="a number"),
        pytest.param("", "", id="an empty text"),
    ],
)
def test_a_value_is_visible_ascii_and_says_the_same(value: object, header: str) -> None:
    assert rendered(username=value)["x-auth-username"] == header


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("a\r\nx-auth-roles: admin", id="CR LF"), pytest.param("a\x00", id="NUL"),
        pytest.param("\x7f", id="DEL"), pytest.param("\x85", id="a C1 control"),
        pytest.param("\t", id="a tab"), pytest.param("x\t", id="a tab at the end"),
        pytest.param("\ud800", id="a lone surrogate"), pytest.param("\udfff", id="a lone low surrogate"),
        pytest.param("a\ud83db", id="a lone surrogate inside"), pytest.param(["a", "\udc00"], id="one in a list"),
        pytest.param("\ude00\ud83d", id="surrogates the wrong way round"),
        pytest.param("\ud83d\ude00", id="a pair of surrogates that nobody joined"),
        pytest.param(["a\n"], id="a control in a list"),
        pytest.param([""], id="an empty item"),
        pytest.param(["a", 1], id="a mixed list"), pytest.param([["a"]], id="a nested list"),
        pytest.param({"a": 1}, id="an object"), pytest.param(1.5, id="a fraction"),
    ],
)  # fmt: skip
def test_what_no_header_can_carry_is_refused(value: object) -> None:
    with pytest.raises(TokenRefused) as refused:
        rendered(username=value)
    assert refused.value.reason is Reason.CLAIMS_INVALID
    assert refused.value.message == "A claim of the token cannot be forwarded as a header."


def test_what_is_too_large_is_refused_whole_and_not_cut_short() -> None:
    payload = [f"p{number}" for number in range(50)]
    size = sum(len(name) + len(value) for name, value in rendered(permissions=payload).items())
    assert rendered(max_bytes=size, permissions=payload)
    with pytest.raises(AccessRefused) as refused:
        rendered(max_bytes=size - 1, permissions=payload)
    assert refused.value.reason is Reason.CLAIMS_TOO_LARGE
    assert refused.value.message == "The token's claims are too large to be forwarded."


def test_ten_thousand_permissions_are_all_rendered_where_there_is_room() -> None:
    permissions = [f"permission:{number}" for number in range(10_000)]
    assert rendered(max_bytes=1_000_000, permissions=permissions)["x-auth-permissions"].split(",") == permissions


@given(st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)))
def test_a_list_reads_back_exactly(items: list[str]) -> None:
    header = rendered(permissions=items)["x-auth-permissions"]
    assert all(0x21 <= ord(character) <= 0x7E for character in header)
    assert [unquote(item) for item in header.split(",") if header] == items


@pytest.mark.parametrize(
    "name", ["x-auth-roles", "X-Auth-Roles", "x_auth_roles", "X-AUTH_roles", "x-auth-", "x-auth-contract", "x-auth_új"]
)
def test_every_spelling_of_an_identity_header_is_known(name: str) -> None:
    assert identity_headers_in(((name, ""),)) == [name.lower()]


@pytest.mark.parametrize(
    "name", ["", "x", "authorization", "x-authority", "xx-auth-roles", "x-request-id", "x.auth.sub"]
)
def test_other_headers_are_left_alone(name: str) -> None:
    assert identity_headers_in(((name, ""),)) == []


def test_the_contract_is_the_first() -> None:
    assert CONTRACT_HEADER == ("x-auth-contract", "1")


def test_every_header_of_the_map_and_the_shadow_header_are_reserved() -> None:
    assert set(IdentityHeaders(HEADERS, 8192).reserved) == {header for _, header in HEADERS} | {"x-auth-shadow"}
