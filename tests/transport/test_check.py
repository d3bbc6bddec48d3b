"""A Check message is read as Envoy wrote it, or refused; envoy-data-plane is the second opinion on the wire."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authz_service.errors import Reason, RequestRefused
from authz_service.model import HttpRequest
from authz_service.transport.check import read_check_request
from authz_service.transport.check_message import MAX_HEADERS
from tests.support.check_requests import AUTH, CORE, check_request, encode, header_map, message

MIB = 1024 * 1024

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_:", min_size=1, max_size=20)
TEXTS = st.text(max_size=40)
METHODS = st.text(min_size=1, max_size=10)
PAIRS = st.lists(st.tuples(NAMES, TEXTS), max_size=6)


def http_request(**fields: Any) -> bytes:
    return encode(message(f"{AUTH}.AttributeContextHttpRequest")(**fields))


def refusal(received: bytes) -> Reason:
    with pytest.raises(RequestRefused) as refused:
        read_check_request(received)
    return refused.value.reason


@given(method=METHODS, path=TEXTS, host=TEXTS, headers=st.dictionaries(NAMES, TEXTS, max_size=6), number=TEXTS)
def test_each_field_that_envoy_encodes_is_read(
    method: str, path: str, host: str, headers: dict[str, str], number: str
) -> None:
    read = read_check_request(http_request(id=number, method=method, path=path, host=host, headers=headers))
    assert read._replace(headers=()) == HttpRequest(
        method, path, host, headers=(), request_id=headers.get("x-request-id") or number
    )
    assert sorted(read.headers) == sorted(headers.items())


@given(method=METHODS, pairs=PAIRS)
def test_raw_headers_keep_their_order_and_repetition(method: str, pairs: list[tuple[str, str]]) -> None:
    read = read_check_request(http_request(method=method, header_map=header_map(pairs)))
    assert read.headers == tuple((name, value.encode().decode("latin-1")) for name, value in pairs)


@given(pairs=st.lists(st.tuples(NAMES, st.text("abc ,=", max_size=10)), max_size=6, unique_by=lambda pair: pair[0]))
def test_both_encodings_of_ascii_headers_say_the_same(pairs: list[tuple[str, str]]) -> None:
    joined, raw = (read_check_request(check_request(headers=pairs, raw=raw)) for raw in (False, True))
    assert joined._replace(headers=()) == raw._replace(headers=())
    assert sorted(joined.headers) == sorted(raw.headers)


def test_a_raw_header_map_may_carry_text_values() -> None:
    values = message(f"{CORE}.HeaderMap")(headers=[message(f"{CORE}.HeaderValue")(key="accept", value="*/*")])
    assert read_check_request(http_request(method="GET", header_map=values)).headers == (("accept", "*/*"),)


def test_a_value_in_two_readings_is_refused() -> None:
    value = message(f"{CORE}.HeaderValue")(key="authorization", value="Bearer a", raw_value=b"Bearer b")
    values = message(f"{CORE}.HeaderMap")(headers=[value])
    assert refusal(http_request(method="GET", header_map=values)) == Reason.REQUEST_MALFORMED


def test_no_header_hides_behind_the_other_encoding() -> None:
    both = {"headers": {"authorization": "Bearer a"}, "header_map": header_map([("authorization", "Bearer b")])}
    read = read_check_request(http_request(method="GET", **both))
    assert read.headers == (("authorization", "Bearer a"), ("authorization", "Bearer b"))


@given(one=st.binary(min_size=1, max_size=6), other=st.binary(min_size=1, max_size=6))
@example(one=b"\xc3\xa9", other=b"\xe9")  # the same letter in UTF-8 and in ISO 8859-1
def test_different_raw_values_stay_different(one: bytes, other: bytes) -> None:
    received = http_request(method="GET", header_map=header_map([("a", one), ("b", other)]))
    (_, first), (_, second) = read_check_request(received).headers
    assert (first == second) == (one == other)


@pytest.mark.parametrize("byte", range(0x80, 0x100))
def test_no_raw_byte_beyond_ascii_becomes_ascii(byte: int) -> None:
    received = http_request(method="GET", header_map=header_map([("authorization", bytes([byte]))]))
    ((_, value),) = read_check_request(received).headers
    assert not any(character.isascii() for character in value + value.lower())


@pytest.mark.parametrize("raw", [False, True])
def test_the_request_id_is_the_header_that_logs_show(raw: bool) -> None:
    read = read_check_request(check_request(headers=[("accept", "*/*")], request_id="4f89-11d3", raw=raw))
    assert read.request_id == "4f89-11d3"


@pytest.mark.parametrize("raw", [False, True])
def test_headers_are_bounded(*, raw: bool) -> None:
    """Before any is looked at, and in either encoding."""
    most, too_many = (
        {"header_map": header_map(headers)} if raw else {"headers": dict(headers)}
        for headers in ([(f"x-{at}", "") for at in range(number)] for number in (MAX_HEADERS, MAX_HEADERS + 1))
    )
    assert len(read_check_request(http_request(method="GET", **most)).headers) == MAX_HEADERS
    assert refusal(http_request(method="GET", **too_many)) == Reason.REQUEST_MALFORMED



def test_of_two_such_headers_the_first_counts() -> None:
    ids = header_map([("x-request-id", "first"), ("x-request-id", "second")])
    assert read_check_request(http_request(method="GET", header_map=ids)).request_id == "first"


@pytest.mark.parametrize("raw", [False, True])
def test_without_that_header_the_request_id_is_envoys_number(raw: bool) -> None:
    assert read_check_request(check_request(headers=[("accept", "*/*")], raw=raw)).request_id == "17"


def test_fields_that_are_not_used_are_skipped() -> None:
    peer = message(f"{AUTH}.AttributeContextPeer")(service="s", principal="p", certificate="c")
    http = message(f"{AUTH}.AttributeContextHttpRequest")(
        method="GET", path="/a", host="h", scheme="https", query="q", fragment="f", size=3, protocol="HTTP/2",
        body="abc", raw_body=b"\xff", headers={"accept": "*/*"},
    )  # fmt: skip
    context = message(f"{AUTH}.AttributeContext")(
        source=peer, destination=peer, request=message(f"{AUTH}.AttributeContextRequest")(http=http),
        context_extensions={"a": "b"}, tls_session=message(f"{AUTH}.AttributeContextTlsSession")(sni="s"),
    )  # fmt: skip
    received = bytes(message(f"{AUTH}.CheckRequest")(attributes=context))
    field_2000 = b"\x82\x7d\x03abc"  # of a later Envoy
    assert read_check_request(received + field_2000) == HttpRequest("GET", "/a", "h", (("accept", "*/*"),))


@pytest.mark.parametrize("fields", [
    pytest.param({"path": "/a" * (2 * MIB)}, id="path"),
    pytest.param({"headers": {"accept": "a" * (4 * MIB)}}, id="one header"),
    pytest.param({"headers": {f"x-{number}": "a" * 900 for number in range(4096)}}, id="many headers"),
    pytest.param({"raw_body": bytes(4 * MIB)}, id="body"),
])  # fmt: skip
def test_the_largest_message_is_read(fields: dict[str, Any]) -> None:
    read = read_check_request(http_request(method="GET", **fields))
    assert read.path == fields.get("path", "")
    assert dict(read.headers) == fields.get("headers", {})


def test_connect_arrives_with_an_empty_path_and_is_for_others_to_judge() -> None:
    assert read_check_request(check_request("CONNECT", "")).path == ""


FULL = check_request("GET", "/a", headers=[("accept", "*/*"), ("cookie", "a=b")], request_id="r")
FULL_RAW = check_request("GET", "/a", headers=[("accept", "*/*"), ("accept", "a/b")], raw=True)

REFUSED = {
    "empty": b"",
    "no attributes": bytes.fromhex("0a00"),
    "no request": bytes.fromhex("0a022200"),
    "no HTTP request": bytes.fromhex("0a0422021200"),
    "no method": check_request(""),
    "path not UTF-8": check_request(path="/MARK").replace(b"MARK", b"\xc3\x28ab"),
    "header not UTF-8": check_request(headers=[("accept", "MARK")]).replace(b"MARK", b"\xff\xfeab"),
    "header with a surrogate": check_request(headers=[("accept", "MARKS")]).replace(b"MARKS", b"a\xed\xa0\x80b"),
    "header name not UTF-8": check_request(headers=[("mark", "a")]).replace(b"mark", b"\xff\xfeab"),
    "raw header name not UTF-8": check_request(headers=[("mark", "a")], raw=True).replace(b"mark", b"\xff\xfeab"),
    "attributes that are a number": bytes.fromhex("0801"),
    "length beyond the end": bytes.fromhex("0aff01"),
    "endless length": b"\x0a" + b"\xff" * 11,
    "field number 0": bytes.fromhex("0000"),
    "groups in groups": b"\x0b" * 100_000,
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "JSON": b'{"attributes": {"request": {"http": {"method": "GET"}}}}',
}


@pytest.mark.parametrize("received", REFUSED.values(), ids=REFUSED)
def test_what_is_no_check_request_is_refused(received: bytes) -> None:
    assert refusal(received) == Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("whole", [FULL, FULL_RAW], ids=["headers", "header_map"])
def test_a_truncated_message_is_refused(whole: bytes) -> None:
    assert {refusal(whole[:length]) for length in range(len(whole))} == {Reason.REQUEST_MALFORMED}


def read_or_refuse(received: bytes) -> HttpRequest | None:
    """Any other exception fails the test."""
    try:
        return read_check_request(received)
    except RequestRefused as refused:
        if refused.reason is not Reason.REQUEST_MALFORMED:
            raise
        return None


@given(received=st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(received: bytes) -> None:
    read_or_refuse(received)


@given(whole=st.sampled_from([FULL, FULL_RAW]), at=st.integers(0, len(FULL) - 1), patch=st.binary(max_size=4))
def test_damaged_messages_are_read_or_refused(whole: bytes, at: int, patch: bytes) -> None:
    read = read_or_refuse(whole[:at] + patch + whole[at + len(patch) :])
    assert read is None or read.method
