"""Lines are read back as they were written; whatever else is found in a log is a damaged line and no more than that."""

import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import Reason, TokenRefused
from authz_service.migration.logged import Answer, Asked, Damaged, Logged, LoggedCaller, read_line
from authz_service.model import Allow, Claims, HttpRequest, Mode
from authz_service.observability.decision_line import decided, pseudonym, write_line
from authz_service.response.challenge import deny

COMPARED = MappingProxyType({"org_id": "7", "x": 1})
CLAIMS = Claims("http://issuer", "user-1", 1, frozenset({"a", "b"}), frozenset({"member"}), COMPARED)
ALLOWED = Allow(Reason.ALLOWED, "groups", Mode.SHADOW, claims=CLAIMS, kid="key-1")
DENIED = deny(TokenRefused(Reason.TOKEN_EXPIRED, "A sentence."), rule="groups")
REQUEST = HttpRequest("GET", "/groups/7?x=1", "chat.example.com", (), "r-1")


@pytest.mark.parametrize("plain", [False, True])
def test_what_was_written_is_read(plain: bool) -> None:
    name = ("user-1", "") if plain else ("", pseudonym("user-1"))
    assert read_line(write_line(decided(REQUEST, ALLOWED, 0), plain_subject=plain)) == Logged(
        Asked("GET", "/groups/7", "chat.example.com", preflight=False, credentials=True, caller=LoggedCaller(
            "http://issuer", *name, ("a", "b"), ("member",), (("org_id", "7"), ("x", None)),
        )),
        Answer(Reason.ALLOWED, "groups", Mode.SHADOW, passed=True), "r-1", None,
    )  # fmt: skip


def test_of_whom_nothing_is_known_nothing_is_read() -> None:
    logged = read_line(write_line(decided(REQUEST, DENIED, 0, Reason.ALLOWED), plain_subject=False))
    assert (logged.asked.caller, logged.asked.credentials) == (None, False)
    assert logged.answer == Answer(Reason.TOKEN_EXPIRED, "groups", Mode.ENFORCE, passed=False)
    assert logged.other_reason is Reason.ALLOWED


GOOD: dict[str, Any] = json.loads(write_line(decided(REQUEST, ALLOWED, 0), plain_subject=False))


def changed(**fields: object) -> bytes:
    return json.dumps(GOOD | fields).encode()


def with_caller(**fields: object) -> bytes:
    return changed(caller=GOOD["caller"] | fields)


REALISTIC = {
    "cut short": changed()[:-20],
    "the end of a line": changed()[20:],
    "two in one": changed() + changed(),
    "empty": b"\n",
    "a line of the service's own log": b'{"time": "2025-06-15T15:06:40Z", "level": "info", "message": "drained"}',
    "another version": changed(v=2),
    "a reason of another version": changed(reason="quota_exceeded"),
    "no path": json.dumps({name: value for name, value in GOOD.items() if name != "path"}).encode(),
}
SYNTHETIC = {
    "no object": b"[]",
    "a method that is none": changed(method=None),
    "a path of a wrong type": changed(path=["/groups"]),
    "a host of a wrong type": changed(host={}),
    "a rule of a wrong type": changed(rule=7),
    "a request id of a wrong type": changed(request_id=7),
    "a mode that is none": changed(mode="off"),
    "a decision that is none": changed(decision="maybe"),
    "a decision of a wrong type": changed(decision=["allow"]),
    "a reason that its decision cannot have": changed(decision="deny"),
    "a reason of the other way that is none": changed(other_reason="because"),
    "a caller of a wrong type": changed(caller="user-1"),
    "nobody's claims": with_caller(issuer=""),
    "a subject of a wrong type": with_caller(sub=7),
    "a hash that is none": with_caller(sub_hash="user-1"),
    "a hash of another length": with_caller(sub_hash="00"),
    "one permission": with_caller(permissions="a"),
    "permissions of a wrong type": with_caller(permissions=[["a"]]),
    "roles of a wrong type": with_caller(roles={"member": 1}),
    "claims of a wrong type": with_caller(claims=[]),
    "a claim of a wrong type": with_caller(claims={"org_id": 7}),
}
PATHOLOGICAL = {
    "nested": b"[" * 100_000,
    "a number without end": changed(v=1)[:-1] + b', "x": ' + b"9" * 5_000 + b"}",
    "not UTF-8": b'{"v": 1, "path": "\xff"}',
    "null characters": b"\x00" * 100,
}


@pytest.mark.parametrize("line", [*REALISTIC.values(), *SYNTHETIC.values(), *PATHOLOGICAL.values()],
                         ids=[*REALISTIC, *SYNTHETIC, *PATHOLOGICAL])  # fmt: skip
def test_everything_else_is_damaged(line: bytes) -> None:
    with pytest.raises(Damaged):
        read_line(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5,
)  # fmt: skip


@given(st.sampled_from(sorted({*GOOD, "preflight", "credentials"})), JSON)
def test_no_value_in_any_field_breaks_the_reader(field: str, value: object) -> None:
    try:
        logged = read_line(changed(**{field: value}))
    except Damaged:
        return
    hash(logged)


@given(st.binary())
def test_no_octets_break_the_reader(line: bytes) -> None:
    with pytest.raises(Damaged):
        read_line(line)
