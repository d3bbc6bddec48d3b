"""Whatever is decided, Envoy reads that and nothing else; envoy-data-plane reads for it."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import (
    AccessRefused,
    InternalError,
    Reason,
    Refused,
    RequestRefused,
    TokenRefused,
    Unavailable,
)
from authz_service.model import Allow, Decision, Deny, Identity, Mode
from authz_service.response.challenge import deny
from authz_service.transport.check import _known_changes, encode_identity, write_check_response
from tests.support.check_requests import CORE, Answer, decode, http_response, message, read_answer
from tests.support.tokens import claims_of

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
"""Control characters and lone surrogates included."""
TOKENS = st.text("abcXYZ019-_!#$%&'*+.^`|~", min_size=1, max_size=12)
VALUES = st.text("".join(map(chr, range(0x21, 0x7F))), max_size=20)

REFUSALS = [
    (TokenRefused(Reason.TOKEN_EXPIRED, "A sentence."), 401, 16),
    (AccessRefused(Reason.ROLE_DENIED, "A sentence."), 403, 7),
    (RequestRefused(Reason.MULTIPLE_TOKENS, "A sentence."), 400, 3),
    (Unavailable(Reason.KEYS_UNAVAILABLE, "A sentence.", retry_after=7), 503, 14),
    (InternalError(Reason.INTERNAL_ERROR, "A sentence."), 500, 13),
]


def allow(**fields: Any) -> Allow:
    return Allow(**({"reason": Reason.ALLOWED, "rule": "list-groups", "mode": Mode.ENFORCE} | fields))


def denial(**fields: Any) -> Deny:
    decided = {"reason": Reason.ROLE_DENIED, "rule": "admin", "mode": Mode.ENFORCE, "status": 403}
    sent: dict[str, Any] = {"headers": (), "body": "{}"}
    return Deny(**(sent | decided | fields))


def answer(decision: Decision) -> Answer:
    return read_answer(write_check_response(decision))


def test_names_that_clients_choose_are_not_kept() -> None:
    kept = _known_changes.cache_info().currsize
    for number in range(3):
        spoofed = allow(remove_headers=(f"x-auth-{number}", "x-auth-shadow"), spoofed_headers=1)
        assert f"x-auth-{number}" in answer(spoofed).removed
    assert _known_changes.cache_info().currsize == kept


def is_defect(read: Answer) -> bool:
    return (read.code, read.http_status, read.metadata["reason"]) == (13, 500, "internal_error")


def test_allow_is_an_explicit_zero_on_the_wire() -> None:
    status_with_code_0 = b"\x0a\x02\x08\x00"  # proto3 would leave the 0 out
    assert status_with_code_0 in write_check_response(allow())
    assert answer(allow()).allowed


@pytest.mark.parametrize(("refused", "status", "code"), REFUSALS, ids=[str(status) for _, status, _ in REFUSALS])
def test_a_denial_reaches_the_client_as_it_is(refused: Refused, status: int, code: int) -> None:
    decision = deny(refused)
    read = answer(decision)
    assert (read.allowed, read.code, read.http_status, read.body) == (False, code, status, decision.body)
    assert read.headers == list(decision.headers)


@pytest.mark.parametrize(("refused", "status", "code"), REFUSALS, ids=[str(status) for _, status, _ in REFUSALS])
def test_envoy_counts_an_error_only_when_the_fault_is_on_this_side(refused: Refused, status: int, code: int) -> None:
    assert answer(deny(refused)).is_error == (status >= 500)


@pytest.mark.parametrize("status", range(400, 600))
def test_no_status_of_a_denial_means_allow(status: int) -> None:
    read = answer(denial(status=status))
    assert (read.allowed, read.http_status) == (False, status)


@given(headers=st.lists(st.tuples(TOKENS, VALUES), max_size=6), removed=st.lists(TOKENS, max_size=6))
def test_an_allow_sets_and_removes_what_was_decided(headers: list[tuple[str, str]], removed: list[str]) -> None:
    read = answer(allow(set_headers=tuple(headers), remove_headers=tuple(removed)))
    assert (read.allowed, read.headers, read.http_status, read.body) == (True, headers, 0, "")
    names = {name.lower() for name, _ in headers}
    assert read.removed == [name for name in removed if name.lower() not in names]


def test_a_header_that_is_set_is_not_removed_in_any_spelling() -> None:
    read = answer(allow(set_headers=(("x-auth-sub", "u"),), remove_headers=("X-Auth-Sub", "x-auth-sub", "x_auth_sub")))
    assert read.removed == ["x_auth_sub"]


@pytest.mark.parametrize("decision", [
    allow(set_headers=(("x-auth-sub", "u"), ("x-auth-roles", ""))),
    denial(headers=(("x-a", "u"), ("x-b", ""))),
    denial(status=503, headers=(("x-a", "u"), ("x-b", ""))),
], ids=["ok_response", "denied_response", "error_response"])  # fmt: skip
def test_each_header_replaces_the_one_that_is_there_even_with_nothing(decision: Decision) -> None:
    options = http_response(decode(write_check_response(decision))).headers
    overwrite = message(f"{CORE}.HeaderValueOptionHeaderAppendAction").OVERWRITE_IF_EXISTS_OR_ADD
    assert [option.append_action for option in options] == [overwrite, overwrite]
    assert [option.keep_empty_value for option in options] == [False, True]


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("decide", [allow, denial])
def test_the_metadata_says_why(decide: Any, mode: Mode) -> None:
    decision = decide(reason=Reason.ROLE_DENIED, rule="admin", mode=mode, claims=claims_of("Zoë"), kid="k-1")
    assert answer(decision).metadata == {
        "reason": "role_denied", "rule": "admin", "sub": "Zoë", "kid": "k-1", "mode": mode.value,
    }  # fmt: skip


def test_the_metadata_names_its_five_fields_even_when_nothing_is_known() -> None:
    assert answer(allow(rule="")).metadata == {
        "reason": "allowed", "rule": "", "sub": "", "kid": "", "mode": "enforce",
    }  # fmt: skip


def test_each_rule_keeps_its_name_when_others_come() -> None:
    early: list[Decision] = [allow(rule=f"one of many {number}") for number in range(5)]
    written = [write_check_response(decision) for decision in reversed(early)]
    late: list[Decision] = [allow(rule="many late"), denial(rule="many later"), denial(rule="one of many 2")]
    decisions = [*reversed(early), *reversed(late), *early, *late]
    written += map(write_check_response, decisions[len(written):])
    assert [read_answer(each).metadata["rule"] for each in written] == [each.rule for each in decisions]
    assert {each.count(b"many") for each in written} == {1}


@pytest.mark.parametrize("field", ["claims", "rule", "kid"])
@pytest.mark.parametrize(("text", "shown"), [
    ("a\r\nb", r"a\r\nb"),
    ("a\ud800b", r"a\ud800b"),
    ("a\u2028b", r"a\u2028b"),
    ("a\u202eb", r"a\u202eb"),
    ("a\x00b", r"a\x00b"),
])  # fmt: skip
def test_no_metadata_can_forge_log_lines(field: str, text: str, shown: str) -> None:
    value = claims_of(text) if field == "claims" else text
    assert answer(allow(**{field: value})).metadata["sub" if field == "claims" else field] == shown


UNWRITABLE_VALUES = {
    "CR LF": "a\r\nset-cookie: b=c", "LF": "a\nb", "NUL": "\x00", "tab": "a\tb", "DEL": "a\x7f", "not ASCII": "é",
    "NEL": "a\x85b", "surrogate": "\ud800", "space before": " a", "space after": "a ", "only a space": " ",
}  # fmt: skip
UNWRITABLE_NAMES = {
    "empty": "", "CR LF": "a\r\nb", "trailing LF": "a\n", "space": "a b", "colon": "a:", "pseudo-header": ":path",
    "not ASCII": "x-é", "surrogate": "\ud800", "Kelvin sign": "x-\u212a", "separator": "a,b",
}  # fmt: skip


@pytest.mark.parametrize("value", UNWRITABLE_VALUES.values(), ids=UNWRITABLE_VALUES)
@pytest.mark.parametrize("decision", [allow, denial])
def test_a_value_that_no_header_can_carry_denies(decision: Any, value: str) -> None:
    headers = (("x-a", value),)
    assert is_defect(answer(allow(set_headers=headers) if decision is allow else denial(headers=headers)))


@pytest.mark.parametrize("name", UNWRITABLE_NAMES.values(), ids=UNWRITABLE_NAMES)
@pytest.mark.parametrize("decision", [
    lambda name: allow(set_headers=((name, "a"),)),
    lambda name: denial(headers=((name, "a"),)),
], ids=["set", "denial"])  # fmt: skip
def test_a_name_that_no_header_can_have_denies(decision: Any, name: str) -> None:
    assert is_defect(answer(decision(name)))


@pytest.mark.parametrize("name", UNWRITABLE_NAMES.values(), ids=UNWRITABLE_NAMES)
def test_a_name_that_no_header_can_have_needs_no_removal(name: str) -> None:
    """Names to remove come from the client: what is odd about them costs nobody a 500."""
    read = answer(allow(remove_headers=("x-auth-a", name, "x-auth-b")))
    assert (read.allowed, read.removed) == (True, ["x-auth-a", "x-auth-b"])


def test_a_defect_still_says_whose_request_it_was() -> None:
    read = answer(allow(set_headers=(("x-a", "\n"),), mode=Mode.SHADOW, claims=claims_of("u-1"), kid="k-1"))
    assert read.metadata == {
        "reason": "internal_error", "rule": "list-groups", "sub": "u-1", "kid": "k-1", "mode": "shadow",
    }  # fmt: skip


def test_what_could_not_be_written_is_logged_without_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        write_check_response(allow(set_headers=(("x-auth-sub", "secret\n"),)))
    (line,) = caplog.messages
    assert "list-groups" in line
    assert "x-auth-sub" in line
    assert "secret" not in line


def test_a_body_with_a_lone_surrogate_is_sent_escaped() -> None:
    assert answer(denial(body="Zoë \ud800")).body == r"Zoë \ud800"


PAIRS = st.lists(st.tuples(TOKENS | ANY_TEXT, VALUES | ANY_TEXT), max_size=3).map(tuple)
NAMES = st.lists(TOKENS | ANY_TEXT, max_size=3).map(tuple)
WHY: dict[str, Any] = {"reason": st.sampled_from(Reason), "mode": st.sampled_from(Mode)}
WHY |= {"rule": ANY_TEXT, "kid": ANY_TEXT, "claims": st.none() | ANY_TEXT.filter(bool).map(claims_of)}
ALLOWS = st.builds(allow, **WHY, set_headers=PAIRS, remove_headers=NAMES, identity=st.just(Identity()))
DECISIONS = ALLOWS | st.builds(
    denial, **WHY, status=st.integers(400, 599), headers=PAIRS, body=ANY_TEXT.filter(bool)
)


@given(decision=DECISIONS)
def test_every_decision_has_an_answer_that_opens_no_door(decision: Decision) -> None:
    read = answer(decision)
    assert not read.allowed or isinstance(decision, Allow)
    decided = decision.set_headers if isinstance(decision, Allow) else decision.headers
    assert is_defect(read) or read.headers == list(decided)
    for text in (*(part for header in read.headers for part in header), *read.removed):
        assert text.isascii()
        assert text.isprintable() or not text


def test_an_encoded_identity_is_part_of_the_answer() -> None:
    headers, metadata = encode_identity((("x-auth-sub", "u-1"), ("x-auth-roles", "")), "u-1", "k-1")
    read = answer(allow(set_headers=(("x-auth-contract", "1"),), identity=Identity(headers=headers, metadata=metadata)))
    assert read.headers == [("x-auth-sub", "u-1"), ("x-auth-roles", ""), ("x-auth-contract", "1")]
    assert (read.metadata["sub"], read.metadata["kid"]) == ("u-1", "k-1")


@pytest.mark.parametrize("header", [("x-a", "a\nb"), ("x a", "b"), ("x-a", " b"), ("", "b")])
def test_an_identity_that_cannot_be_written_is_refused_as_a_defect(header: tuple[str, str]) -> None:
    with pytest.raises(InternalError):
        encode_identity((header,), "u-1", "k-1")
