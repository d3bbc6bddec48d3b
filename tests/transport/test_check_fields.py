"""What is read in one pass is what protobuf's library reads; what is not, is left to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service._pb.external_auth_pb2 import CheckRequest
from authz_service.transport.check import read_check_request
from authz_service.transport.check_fields import Fields, Unusual, read_fields
from tests.fuzz.targets.fields import fuzz
from tests.support.check_requests import check_request

MINUS_ONE = b"\xff" * 9 + b"\x01"
LARGEST = (1 << 14) - 1
"""Octets of which a length of two octets can tell."""


def varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*octets, number])


def field(number: int, content: bytes = b"", wire_type: int = 2) -> bytes:
    return varint(number << 3 | wire_type) + varint(len(content)) + content


def number(number: int, octets: bytes) -> bytes:
    return varint(number << 3) + octets


def header(name: bytes = b"accept", value: bytes = b"*/*") -> bytes:
    return field(3, field(1, name) + field(2, value))


def around(http: bytes) -> bytes:
    return field(1, field(4, field(2, http)))


def filler(size: int) -> bytes:
    """Fields that nobody needs, of so many octets together."""
    large, rest = divmod(size - 1_000, 10_000)
    return field(6, bytes(9_997)) * large + field(6, bytes(997)) + field(6, bytes(rest - 3))


METHOD = field(2, b"GET")
HTTP = field(1, b"17") + METHOD + header() + field(4, b"/a") + field(5, b"host")
READ = ("17", "GET", "/a", "host", [("accept", "*/*")])


def by_the_library(message: bytes) -> Fields:
    http = CheckRequest.FromString(message).attributes.request.http
    assert not http.HasField("header_map"), "read as if it were not there"
    return http.id, http.method, http.path, http.host, list(http.headers.items())


def is_unusual(message: bytes) -> bool:
    try:
        read_fields(message)
    except Unusual:
        return True
    return False


# What is read here.


USUAL = {
    "all fields": around(HTTP),
    "other fields in between": field(1, field(1, b"source") + field(4, field(1, b"time") + field(2, HTTP) + field(3))),
    "other fields of the request": around(field(6, b"http") + HTTP + field(10, b"HTTP/1.1") + field(15)),
    "a number of one octet": around(number(9, b"\x00") + HTTP),
    "the longest number": around(HTTP + number(9, MINUS_ONE)),
    "a number at the end": around(HTTP) + number(2, b"\x01"),
    "a number where the method could be": around(HTTP + number(2, b"\x01")),
    "the last method counts": around(field(2, b"POST") + HTTP),
    "a length in more octets than it needs": around(HTTP.replace(b"\x22\x02/a", b"\x22\x82\x00/a")),
}


@pytest.mark.parametrize("message", USUAL.values(), ids=USUAL)
def test_what_envoy_writes_is_read(message: bytes) -> None:
    assert read_fields(message) == READ == by_the_library(message)


@pytest.mark.parametrize("size", [0x7F, 0x80, 10_000, LARGEST - 200])
def test_lengths_of_one_octet_and_of_two(size: int) -> None:
    message = around(METHOD + header(value=b"a" * size))
    assert read_fields(message)[4] == [("accept", "a" * size)]


def test_what_is_not_there_is_empty() -> None:
    assert read_fields(around(b"")) == ("", "", "", "", []) == by_the_library(around(b""))


def test_names_may_differ_in_case_alone() -> None:
    message = around(METHOD + header(b"accept") + header(b"Accept"))
    assert read_fields(message)[4] == [("accept", "*/*"), ("Accept", "*/*")]


def test_the_messages_of_other_tests_are_read_here() -> None:
    """They stand for Envoy's own; what they prove is to be proved of this reading."""
    message = check_request("GET", "/a", headers=[("authorization", "Bearer a.b.c"), ("accept", "*/*")], request_id="r")
    assert not is_unusual(message)


# What is left to the library.


UNUSUAL = {
    "nothing": b"",
    "no attributes": field(2, b"other"),
    "no request": field(1, field(1, b"source")),
    "no HTTP request": field(1, field(4, field(1, b"time"))),
    "attributes twice": around(HTTP) * 2,
    "a request twice": field(1, field(4, field(2, HTTP)) * 2),
    "an HTTP request twice": field(1, field(4, field(2, HTTP) * 2)),
    "raw headers": around(HTTP + field(13)),
    "a name twice": around(HTTP + header(value=b"text/html")),
    "a header without a value": around(METHOD + field(3, field(1, b"accept"))),
    "a header without a name": around(METHOD + field(3, field(2, b"*/*"))),
    "a header that is empty": around(METHOD + field(3)),
    "value before name": around(METHOD + field(3, field(2, b"*/*") + field(1, b"accept"))),
    "a header with two values and no name": around(METHOD + field(3, field(2, b"a") + field(2, b"b"))),
    "a header with two names": around(METHOD + field(3, field(1, b"a") + field(1, b"b"))),
    "a header with a name and two values": around(METHOD + field(3, field(1, b"a") + field(2, b"b") * 2)),
    "a header with more than that": around(METHOD + field(3, field(1, b"accept") + field(2, b"a") + field(3, b"b"))),
    "a value that reaches out of its header": around(METHOD + field(3, field(1, b"a") + b"\x12\x03*") + b"/*\x22\x00"),
    "a name that reaches out of its header": around(METHOD + field(3, b"\x0a\x06acc") + b"ept\x12\x00"),
    "a length of three octets": around(METHOD + field(4, b"/" * (LARGEST + 1))),
    "a path that reaches out of the request": around(METHOD + b"\x22\x7f/a") + field(2, b"a" * 200),
    "an HTTP request that reaches out of the message": b"\x0a\x06\x22\x04\x12\x05\x12\x03GET",
    "a field that is skipped, out of its own": field(1, field(4, field(2, HTTP) + b"\x0a\x7f")) + field(2, b"a" * 200),
    "a number without an end": field(1, field(4, field(2, HTTP) + b"\x08\x80")) + b"\x80\x01",
    "a number that reaches out of the attributes": field(1, field(4, field(2, HTTP)) + b"\x18\x80") + field(2),
    "a number of eleven octets": around(HTTP + number(9, b"\xff" * 10 + b"\x01")),
    "a number of more than 64 bits": around(HTTP + number(9, b"\xff" * 9 + b"\x02")),
    "field number 0": around(HTTP + b"\x02\x00"),
    "field number 0, a number": around(HTTP + b"\x00\x00"),
    "field number 16": around(HTTP + field(16, b"later")),
    "field number 16, a method in it": around(HTTP + field(16, field(2, b"POST"))),
    "eight octets": around(HTTP + varint(9 << 3 | 1) + bytes(8)),
    "four octets": around(HTTP + varint(9 << 3 | 5) + bytes(4)),
    "a group": around(HTTP + varint(9 << 3 | 3) + varint(9 << 3 | 4)),
    "a method that is not UTF-8": around(field(2, b"\xff")),
    "a path that is not UTF-8": around(METHOD + field(4, b"/\xc3\x28")),
    "a host that is not UTF-8": around(METHOD + field(5, b"\xed\xa0\x80")),
    "an id that is not UTF-8": around(METHOD + field(1, b"\xff")),
    "a name that is not UTF-8": around(METHOD + header(name=b"\xff")),
    "a value that is not UTF-8": around(METHOD + header(value=b"\xff")),
}  # fmt: skip


@pytest.mark.parametrize("message", UNUSUAL.values(), ids=UNUSUAL)
def test_what_envoy_does_not_write_is_left_to_the_library(message: bytes) -> None:
    assert is_unusual(message)


@pytest.mark.parametrize("length", range(len(around(HTTP))))
def test_nothing_is_read_of_a_message_that_is_cut_short(length: int) -> None:
    assert is_unusual(around(HTTP)[:length])


def test_no_octet_of_a_long_length_is_taken_for_a_field() -> None:
    """Whoever took the third octet of this one, 0x0A, for a tag would find a whole request further on."""
    size, seen = 0x0A << 14 | 100, 1 << 14 | 100
    hidden = field(4, field(2, HTTP))
    skipped = bytes(0x22 - len(b"\0\0\0\x32\0\0\0"))
    body = skipped + hidden + filler(seen - 2 - 0x22 - len(hidden))
    body += filler(size - 8 - len(body))
    message = field(1, field(4, field(6, body)))
    assert message[3:5] == b"\x0a\x22"

    assert by_the_library(message)[1] == ""
    assert is_unusual(message)


def test_both_ways_lead_to_the_same_request() -> None:
    some, others = METHOD + header(), field(4, b"/a") + field(5, b"host")
    assert is_unusual(around(some) + around(others))
    assert read_check_request(around(some) + around(others)) == read_check_request(around(some + others))


# Whatever comes.


NUMBERS = st.sampled_from([1, 2, 3, 4, 5, 9, 13, 15, 16, 0])
TEXTS = st.one_of(st.binary(max_size=4), st.text(max_size=6).map(str.encode))


def fields(contents: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Of any number and wire type, most of them well-formed."""
    usual = st.builds(field, NUMBERS, contents)
    other = st.builds(field, NUMBERS, TEXTS, st.integers(0, 7))
    return st.lists(st.one_of(usual, usual, usual, other), max_size=4).map(b"".join)


ENTRIES = fields(TEXTS)
REQUESTS = st.one_of(fields(st.one_of(TEXTS, ENTRIES)), st.just(HTTP), st.just(HTTP))
MESSAGES = st.one_of(REQUESTS.map(around), fields(fields(fields(REQUESTS))))


@given(message=MESSAGES)
def test_any_fields_are_read_as_the_library_does(message: bytes) -> None:
    fuzz(message)


@given(
    whole=st.sampled_from([*USUAL.values()]),
    at=st.integers(0, 200),
    patch=st.binary(max_size=3),
    gone=st.integers(0, 3),
)
def test_damaged_messages_are_read_as_the_library_does(whole: bytes, at: int, patch: bytes, gone: int) -> None:
    at %= len(whole)
    fuzz(whole[:at] + patch + whole[at + gone :])
