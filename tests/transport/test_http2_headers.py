"""Header blocks: what makes a request malformed, what makes it no gRPC, and that memory never changes a meaning."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.transport import http2_headers
from authz_service.transport.grpc_wire import (
    BAD_TIMEOUT,
    COMPRESSED,
    NOT_GRPC,
    NOT_POST,
    TOO_LARGE,
    UNKNOWN_METHOD,
    Refusal,
)
from authz_service.transport.http2_frames import ConnectionFault, ErrorCode, StreamFault
from authz_service.transport.http2_headers import HeaderDecoder, refusal_block, split_fields
from tests.support.http2 import CALL_HEADERS, METHOD

Fields = list[tuple[bytes, bytes]]


def changed(name: bytes, value: bytes | None) -> Fields:
    """The headers of a call with one replaced, added or (None) left out."""
    fields = [each for each in CALL_HEADERS if each[0] != name]
    if value is None:
        return fields
    return [(name, value), *fields] if name.startswith(b":") else [*fields, (name, value)]


def encoded(fields: Fields) -> bytes:
    return hpack.Encoder().encode(fields, huffman=False)


def decoder_without_table() -> tuple[HeaderDecoder, hpack.Encoder]:
    decoder, encoder = HeaderDecoder(), hpack.Encoder()
    decoder.forget_table()
    encoder.header_table_size = 0
    decoder.decode(encoder.encode(CALL_HEADERS))
    return decoder, encoder


MALFORMED = {
    # realistic
    "HTTP/1.1 connection header": changed(b"connection", b"keep-alive"),
    "keep-alive": changed(b"keep-alive", b"timeout=5"),
    "proxy-connection": changed(b"proxy-connection", b"close"),
    "transfer-encoding": changed(b"transfer-encoding", b"chunked"),
    "upgrade": changed(b"upgrade", b"h2c"),
    "te other than trailers": changed(b"te", b"gzip"),
    "upper case": changed(b"Content-Type", b"application/grpc"),
    # synthetic
    "no method": changed(b":method", None),
    "no scheme": changed(b":scheme", None),
    "no path": changed(b":path", None),
    "empty path": changed(b":path", b""),
    "two methods": [(b":method", b"POST"), *CALL_HEADERS],
    "two paths": [(b":path", METHOD), *CALL_HEADERS],
    "pseudo-header of responses": [(b":status", b"200"), *CALL_HEADERS],
    "unknown pseudo-header": [(b":protocol", b"websocket"), *CALL_HEADERS],
    "late pseudo-header": [*changed(b":path", None), (b":path", METHOD)],
    "CONNECT with a path": changed(b":method", b"CONNECT"),
    "CONNECT without authority": [(b":method", b"CONNECT")],
    "length in letters": changed(b"content-length", b"ten"),
    "negative length": changed(b"content-length", b"-1"),
    "length with a sign": changed(b"content-length", b"+1"),
    "empty length": changed(b"content-length", b""),
    "two lengths": [*CALL_HEADERS, (b"content-length", b"1"), (b"content-length", b"2")],
    "empty name": [*CALL_HEADERS, (b"", b"x")],
    "only a colon": [(b":", b"x"), *CALL_HEADERS],
    "space in a name": changed(b"a b", b"x"),
    "colon in a name": changed(b"a:b", b"x"),
    "control character in a name": changed(b"a\x7f", b"x"),
    "letter beyond ASCII in a name": changed("é".encode(), b"x"),
    "space before a value": changed(b"a", b" x"),
    "tab behind a value": changed(b"a", b"x\t"),
    # pathological
    "line feed in a value": changed(b"a", b"x\ny: z"),
    "carriage return in a value": changed(b"a", b"x\r"),
    "line feed at the end of a value": changed(b"a", b"x\n"),
    "NUL in a value": changed(b"a", b"x\0"),
    "line feed at the end of a name": changed(b"a\n", b"x"),
    "length that costs time to read": changed(b"content-length", b"9" * 5000),
    "no headers": [],
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_malformed_request_is_a_stream_error(fields: Fields) -> None:
    """RFC 9113 sections 8.1.1, 8.2, 8.3."""
    with pytest.raises(StreamFault) as fault:
        HeaderDecoder().call_head(encoded(fields))
    assert fault.value.code is ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
def test_malformed_request_is_a_stream_error_without_a_table_too_and_each_time(fields: Fields) -> None:
    decoder, encoder = decoder_without_table()
    for _ in range(2):
        with pytest.raises(StreamFault):
            decoder.call_head(encoder.encode(fields))


REFUSED: dict[str, tuple[Fields, Refusal | None]] = {
    "usual": ([*CALL_HEADERS], None),
    "protobuf, said": (changed(b"content-type", b"application/grpc+proto"), None),
    "with parameters": (changed(b"content-type", b"application/grpc; charset=utf-8"), None),
    "without te": (changed(b"te", None), None),
    "without timeout": (changed(b"grpc-timeout", None), None),
    "other te field, repeated": ([*CALL_HEADERS, (b"te", b"trailers")], None),
    "length": (changed(b"content-length", b"10"), None),
    "same length twice": ([*CALL_HEADERS, (b"content-length", b"1"), (b"content-length", b"1")], None),
    "browser": (changed(b":method", b"GET"), NOT_POST),
    "CONNECT": ([(b":method", b"CONNECT"), (b":authority", b"a:1")], NOT_POST),
    "lower case method": (changed(b":method", b"post"), NOT_POST),
    "JSON": (changed(b"content-type", b"application/json"), NOT_GRPC),
    "no content type": (changed(b"content-type", None), NOT_GRPC),
    "gRPC-Web": (changed(b"content-type", b"application/grpc-web"), NOT_GRPC),
    "gRPC with JSON": (changed(b"content-type", b"application/grpc+json"), NOT_GRPC),
    "timeout without a unit": (changed(b"grpc-timeout", b"200"), BAD_TIMEOUT),
}


@pytest.mark.parametrize(("fields", "refusal"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_grpc_call_is_known_by_its_head(fields: Fields, refusal: Refusal | None) -> None:
    assert HeaderDecoder().call_head(encoded(fields)).refusal == refusal


def test_head_says_path_timeout_and_length() -> None:
    head = HeaderDecoder().call_head(encoded(changed(b"content-length", b"10")))
    assert (head.path, head.timeout, head.content_length) == (METHOD, 0.2, 10)


def test_call_without_a_timeout_has_one_all_the_same() -> None:
    assert HeaderDecoder().call_head(encoded(changed(b"grpc-timeout", None))).timeout == 60


def test_nothing_is_remembered_while_there_is_a_table() -> None:
    decoder = HeaderDecoder()
    decoder.call_head(encoded([*CALL_HEADERS]))
    assert decoder.heads == {}
    decoder.forget_table()
    with pytest.raises(ConnectionFault):
        decoder.call_head(encoded([*CALL_HEADERS]))
    assert decoder.heads == {}


def test_same_octets_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, encoder = decoder_without_table()
    block = encoder.encode(CALL_HEADERS)
    head = decoder.call_head(block)
    monkeypatch.setattr(http2_headers, "read_head", None)
    assert decoder.call_head(block) is head


NAMES = st.sampled_from([b"traceparent", b"x-a", b"cookie", b"user-agent", b"content-length"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=200)), max_size=12)


@given(st.lists(st.tuples(FIELDS, st.booleans()), max_size=6))
def test_fields_are_what_hpack_makes_of_the_whole_block(blocks: list[tuple[Fields, bool]]) -> None:
    decoder, encoder = decoder_without_table()
    for fields, huffman in blocks:
        block = encoder.encode(fields, huffman=huffman)
        try:
            assert decoder.decode(block) == fields
        except StreamFault:
            assert any(not value.isalnum() for _, value in fields)


@given(st.binary(max_size=120))
def test_any_octets_are_what_hpack_makes_of_them(block: bytes) -> None:
    """Cut into fields or not: the same fields, or an error in both."""
    reference = hpack.Decoder(max_header_list_size=http2_headers.MAX_HEADER_BYTES)
    reference.header_table_size = reference.max_allowed_table_size = 0
    decoder, _ = decoder_without_table()
    try:
        expected = [(bytes(name), bytes(value)) for name, value in reference.decode(block, raw=True)]
    except hpack.HPACKError:
        with pytest.raises((ConnectionFault, StreamFault)):
            decoder.decode(block)
        return
    try:
        assert decoder.decode(block) == expected
    except StreamFault:
        assert expected


LITERAL = b"\x00\x01a\x01b"
INTEGERS = {
    "value of 126 octets": b"\x00\x01a\x7e" + b"v" * 126,
    "value of 127 octets": b"\x00\x01a\x7f\x00" + b"v" * 127,
    "value of 300 octets": b"\x00\x01a\x7f\xad\x01" + b"v" * 300,
    "name of 127 octets": b"\x00\x7f\x00" + b"n" * 127 + b"\x01v",
    "name of index 14": b"\x0e\x01v",
    "name of index 15": b"\x0f\x00\x01v",
    "name of index 61": b"\x0f\x2e\x01v",
    "name of index 61, to be indexed": b"\x7d\x01v",
    "index 15, longer than need be": b"\x0f\x80\x00\x01v",
    "index 61, longer than need be": b"\x0f\xae\x00\x01v",
    "length 127, longer than need be": b"\x00\x01a\x7f\x80\x00" + b"v" * 127,
    "size update": b"\x20",
    "index of two octets": b"\xff\x00",
    "index of the last static field": b"\xbd",
    "never to be indexed": b"\x10\x01a\x01b",
}


@pytest.mark.parametrize("field", INTEGERS.values(), ids=INTEGERS)
@pytest.mark.parametrize("before", [b"", b"\x90" + LITERAL])
def test_integers_of_each_length_are_read_as_hpack_reads_them(field: bytes, before: bytes) -> None:
    """RFC 7541 section 5.1: wherever a field is cut wrongly, another header could be smuggled in."""
    decoder, _ = decoder_without_table()
    reference = hpack.Decoder()
    reference.header_table_size = reference.max_allowed_table_size = 0
    block = before + field + LITERAL * 40
    try:
        expected = reference.decode(block, raw=True)
    except hpack.HPACKError:
        with pytest.raises(ConnectionFault):
            decoder.decode(block)
    else:
        assert decoder.decode(block) == [tuple(each) for each in expected]


@given(FIELDS)
def test_pieces_of_a_block_are_the_block(fields: Fields) -> None:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    encoder.encode([])
    block = encoder.encode(fields)
    pieces = split_fields(block)
    if pieces is not None:
        assert b"".join(pieces) == block
        assert len(pieces) >= len(fields)


def test_list_that_is_too_large_is_refused_in_pieces_too() -> None:
    decoder, encoder = decoder_without_table()
    with pytest.raises(ConnectionFault) as fault:
        decoder.decode(encoder.encode([(b"a", b"b" * 100)]) * 650)
    assert fault.value.code is ErrorCode.ENHANCE_YOUR_CALM


TRACESTATE = (b"tracestate", b"vendor=" + b"x" * 60_000)
"""As long as Envoy lets a client make it, which it copies into its call."""


@pytest.mark.parametrize("huffman", [True, False])
def test_a_long_value_that_nobody_reads_is_stepped_over(huffman: bool) -> None:
    decoder, encoder = decoder_without_table()
    head = decoder.call_head(encoder.encode(CALL_HEADERS))
    block = encoder.encode([*CALL_HEADERS, TRACESTATE], huffman=huffman)
    assert decoder.decode(block)[-1] == (b"tracestate", b"")
    assert decoder.call_head(block) == head


def test_as_long_a_value_is_taken_before_the_table_is_gone() -> None:
    assert HeaderDecoder().decode(encoded([*CALL_HEADERS, TRACESTATE]))[-1] == TRACESTATE


def test_a_long_value_that_means_something_is_read() -> None:
    decoder, encoder = decoder_without_table()
    fields = changed(b":path", b"/" + b"x" * 2_000)
    assert decoder.decode(encoder.encode(fields)) == fields


def test_a_length_of_many_octets_is_not_added_up_here() -> None:
    """A block full of them would take time that grows with its square."""
    assert split_fields(b"\x00\x01a\x7f" + b"\x80" * 4 + b"\x00" + b"v" * 127) is None


@pytest.mark.parametrize("left_out", [1, 30_000])
def test_a_long_value_that_is_cut_off_is_an_error(left_out: int) -> None:
    decoder, encoder = decoder_without_table()
    with pytest.raises(ConnectionFault) as fault:
        decoder.decode(encoder.encode([*CALL_HEADERS, TRACESTATE])[:-left_out])
    assert fault.value.code is ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize("refusal", [NOT_POST, NOT_GRPC, TOO_LARGE, COMPRESSED, UNKNOWN_METHOD])
def test_refusals_are_readable(refusal: Refusal) -> None:
    headers = dict(hpack.Decoder().decode(refusal_block(refusal), raw=True))
    assert headers[b":status"] == b"%d" % refusal.http_status
    if refusal.http_status == 200:
        assert headers[b"grpc-status"] == b"%d" % refusal.status
        assert headers[b"grpc-message"] == refusal.text.encode()
    assert (b"grpc-accept-encoding" in headers) == (refusal is COMPRESSED)
