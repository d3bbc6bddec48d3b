"""The connection as a whole: handshake, calls, stream states, errors, drain."""

import pytest

from authz_service.transport import http2_frames as h2
from authz_service.transport.grpc_wire import UNKNOWN_METHOD
from authz_service.transport.http2_frames import ErrorCode, Setting, frame
from tests.support.http2 import (
    ACK,
    CALL_HEADERS,
    HELLO,
    UINT32,
    Client,
    data,
    message,
    reset,
    resets,
    settings,
    window_update,
)


def test_server_speaks_first_with_settings_and_a_wide_window() -> None:
    client = Client()
    kinds = [each.type for each in client.greeting]
    assert kinds == [h2.SETTINGS, h2.WINDOW_UPDATE, h2.SETTINGS]
    assert client.greeting[-1].flags == h2.ACK


def test_call_is_answered_with_message_and_status() -> None:
    client = Client()
    answer = client.answer_in(client.send(client.call(1)), 1)
    assert answer.headers == {b":status": b"200", b"content-type": b"application/grpc"}
    assert answer.body == message(b"HELLO")
    assert answer.trailers == {b"grpc-status": b"0"}


@pytest.mark.parametrize("stream_id", [0x101, 0x1_0001, 0x100_0001, h2.MAX_STREAM_ID])
def test_call_is_answered_on_its_stream_whatever_its_number(stream_id: int) -> None:
    client = Client()
    assert client.answer_in(client.send(client.call(stream_id)), stream_id).body == message(b"HELLO")


@pytest.mark.parametrize("octet", range(4))
def test_no_octet_of_the_length_of_a_message_is_passed_over(octet: int) -> None:
    client = Client()
    length = UINT32.pack(len(b"hello") | 1 << 8 * octet + 4)
    answer = client.answer_in(client.send(client.headers(1), data(1, b"\0" + length + b"hello")), 1)
    assert (answer.body, client.answered) == (b"", 0)


def test_many_calls_of_one_read_are_answered_in_one_output() -> None:
    client = Client()
    frames = client.send(*(client.call(stream_id, b"%d" % stream_id) for stream_id in range(1, 51, 2)))
    assert [each.payload for each in frames if each.type == h2.DATA] == [message(b"%d" % n) for n in range(1, 51, 2)]


def test_calls_may_be_answered_later_and_in_any_order() -> None:
    client = Client(answer=None)
    client.send(client.call(1), client.call(3))
    first, second = client.waiting
    client.connection.answer(second, b"2")
    client.connection.answer(first, b"1")
    assert [each.payload for each in client.read() if each.type == h2.DATA] == [message(b"2"), message(b"1")]


def test_refused_call_gets_its_status_and_no_message() -> None:
    client = Client(answer=None)
    client.send(client.call(1))
    client.connection.refuse(client.waiting[0], UNKNOWN_METHOD)
    answer = client.answer_in(client.read(), 1)
    assert (answer.headers[b":status"], answer.headers[b"grpc-status"], answer.body) == (b"200", b"12", b"")


def test_first_header_block_says_that_nothing_is_ever_indexed() -> None:
    """A peer that allows no table (RFC 7541 section 4.2) must be told before the first field."""
    client = Client(hello=h2.PREFACE + settings((Setting.HEADER_TABLE_SIZE, 0)))
    client.decoder.max_allowed_table_size = 0
    frames = client.send(client.call(1), client.call(3))
    assert client.answer_in(frames, 3).trailers == {b"grpc-status": b"0"}


def test_header_table_is_given_up_after_the_first_call_and_not_before() -> None:
    client = Client()
    no_table = h2.SETTING.pack(Setting.HEADER_TABLE_SIZE, 0)
    assert no_table not in [each.payload for each in client.greeting]
    assert no_table in [each.payload for each in client.send(client.call(1))]
    assert no_table not in [each.payload for each in client.send(client.call(3))]


def test_block_without_the_size_update_is_an_error_once_the_table_is_given_up() -> None:
    """RFC 7541 section 4.2."""
    client = Client()
    client.send(client.call(1), ACK, ACK)
    assert client.goaway(client.send(client.call(3))) is ErrorCode.COMPRESSION_ERROR


def test_same_block_after_the_table_was_given_up_means_the_same_call() -> None:
    client = Client()
    client.send(client.call(1))
    client.forget_table()
    for stream_id in range(3, 13, 2):
        assert client.answer_in(client.send(client.call(stream_id)), stream_id).body == message(b"HELLO")


def test_block_with_the_dynamic_table_is_never_remembered() -> None:
    """The octet 0xbe is the newest entry of the table, whatever that is by now."""
    client = Client(answer=None)
    content_type = b"\x0f\x10\x10application/grpc"
    one, two, newest = b"\x44\x04/one", b"\x44\x04/two", b"\xbe"
    for number, path in enumerate((one, newest, two, newest)):
        block = b"\x83\x86" + path + content_type
        client.send(frame(h2.HEADERS, h2.END_HEADERS, 2 * number + 1, block), data(2 * number + 1, message(b"")))
    assert [call.head.path for call in client.waiting] == [b"/one", b"/one", b"/two", b"/two"]


def test_ping_is_answered_with_its_own_octets() -> None:
    (pong,) = Client().send(frame(h2.PING, 0, 0, b"12345678"))
    assert pong == (h2.PING, h2.ACK, 0, b"12345678")


def test_request_may_be_padded_prioritized_continued_and_end_with_trailers() -> None:
    client = Client()
    block = client.encoder.encode(CALL_HEADERS)
    priority = b"\0\0\0\0\x10"
    frames = client.send(
        frame(h2.HEADERS, h2.PADDED | h2.PRIORITY_FIELDS, 1, b"\x03" + priority + block[:5] + b"\0\0\0"),
        frame(h2.CONTINUATION, 0, 1, block[5:9]),
        frame(h2.CONTINUATION, h2.END_HEADERS, 1, block[9:]),
        frame(h2.DATA, h2.PADDED, 1, b"\x02" + message(b"hello")[:7] + b"\0\0"),
        frame(h2.DATA, 0, 1, message(b"hello")[7:]),
        client.headers(1, h2.END_HEADERS | h2.END_STREAM, [(b"x-trailer", b"1")]),
    )
    assert client.answer_in(frames, 1).body == message(b"HELLO")


def test_unknown_frames_and_flags_are_ignored() -> None:
    """RFC 9113 sections 4.1 and 5.5."""
    client = Client()
    headers = client.headers(1, h2.END_HEADERS | 0x42)
    frames = client.send(frame(0xFA, 0xFF, 77, b"?"), headers, data(1, message(b"a"), 0xF1))
    assert client.answer_in(frames, 1).body == message(b"A")


def test_reset_stream_is_never_answered() -> None:
    client = Client(answer=None)
    cancelled: list[bool] = []
    client.send(client.call(1), client.call(3))
    first, call = client.waiting
    client.connection.answer(first, b"")
    call.on_reset = lambda: cancelled.append(True)
    client.read()
    client.send(reset(3))
    client.connection.answer(call, b"too late")
    client.connection.refuse(call, UNKNOWN_METHOD)
    assert (client.read(), cancelled) == ([], [True])


CONNECTION_ERRORS = {
    # realistic
    "HTTP/1.1 instead of HTTP/2": (b"GET / HTTP/1.1\r\n", ErrorCode.PROTOCOL_ERROR),
    "TLS on a plain port": (b"\x16\x03\x01\x02\x00\x01", ErrorCode.PROTOCOL_ERROR),
    "no SETTINGS after the preface": (h2.PREFACE + frame(h2.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "ACK as first SETTINGS": (h2.PREFACE + ACK, ErrorCode.PROTOCOL_ERROR),
    # synthetic: one for each rule of RFC 9113
    "too large a frame": (HELLO + b"\0\x40\x01\0\0\0\0\0\1", ErrorCode.FRAME_SIZE_ERROR),
    "far too large a frame": (HELLO + b"\xff\0\0\0\0\0\0\0\1", ErrorCode.FRAME_SIZE_ERROR),
    "DATA on stream 0": (HELLO + data(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA on an idle stream": (HELLO + data(1, b"x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on stream 0": (HELLO + frame(h2.HEADERS, 4, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on an even stream": (HELLO + frame(h2.HEADERS, 4, 2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "padding as long as its frame": (HELLO + frame(h2.HEADERS, 0xC, 1, b"\x02\x82\x86"[:2]), ErrorCode.PROTOCOL_ERROR),
    "padding without its length": (HELLO + frame(h2.HEADERS, 0xC, 1), ErrorCode.PROTOCOL_ERROR),
    "priority cut short": (HELLO + frame(h2.HEADERS, 0x24, 1, b"\0\0"), ErrorCode.FRAME_SIZE_ERROR),
    "stream that depends on itself": (HELLO + frame(h2.PRIORITY, 0, 1, b"\0\0\0\1\0"), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY on stream 0": (HELLO + frame(h2.PRIORITY, 0, 0, b"\0\0\0\1\0"), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY of four octets": (HELLO + frame(h2.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
    "RST_STREAM on stream 0": (HELLO + reset(0), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (HELLO + reset(1), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of no octets": (HELLO + frame(h2.HEADERS, 0, 1) + frame(h2.RST_STREAM, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS on a stream": (HELLO + frame(h2.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS cut short": (HELLO + frame(h2.SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
    "ACK with a payload": (HELLO + frame(h2.SETTINGS, 1, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
    "ENABLE_PUSH of 2": (HELLO + settings((2, 2)), ErrorCode.PROTOCOL_ERROR),
    "window above 2^31-1": (HELLO + settings((4, 1 << 31)), ErrorCode.FLOW_CONTROL_ERROR),
    "frame size below 2^14": (HELLO + settings((5, 16383)), ErrorCode.PROTOCOL_ERROR),
    "frame size above 2^24-1": (HELLO + settings((5, 1 << 24)), ErrorCode.PROTOCOL_ERROR),
    "PUSH_PROMISE": (HELLO + frame(h2.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "PING on a stream": (HELLO + frame(h2.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "PING of seven octets": (HELLO + frame(h2.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (HELLO + frame(h2.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "GOAWAY cut short": (HELLO + frame(h2.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE by nothing": (HELLO + window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (HELLO + window_update(1, 1), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE of three octets": (HELLO + frame(h2.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
    "window overflow": (HELLO + window_update(0, h2.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR),
    "CONTINUATION of nothing": (HELLO + frame(h2.CONTINUATION, 4, 1, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        HELLO + frame(h2.HEADERS, 0, 1) + frame(h2.CONTINUATION, 4, 3), ErrorCode.PROTOCOL_ERROR,
    ),
    "PING inside a header block": (
        HELLO + frame(h2.HEADERS, 0, 1) + frame(h2.PING, 0, 0, bytes(8)), ErrorCode.PROTOCOL_ERROR,
    ),
    "HEADERS inside a header block": (
        HELLO + frame(h2.HEADERS, 0, 1) + frame(h2.HEADERS, 4, 3), ErrorCode.PROTOCOL_ERROR,
    ),
    # pathological
    "index 0": (HELLO + frame(h2.HEADERS, 4, 1, b"\x80"), ErrorCode.COMPRESSION_ERROR),
    "index beyond the table": (HELLO + frame(h2.HEADERS, 4, 1, b"\xc6"), ErrorCode.COMPRESSION_ERROR),
    "endless integer": (HELLO + frame(h2.HEADERS, 4, 1, b"\xff" * 40), ErrorCode.COMPRESSION_ERROR),
    "string cut short": (HELLO + frame(h2.HEADERS, 4, 1, b"\x00\x7e\x61"), ErrorCode.COMPRESSION_ERROR),
    "Huffman end of string": (
        HELLO + frame(h2.HEADERS, 4, 1, b"\x00\x84\xff\xff\xff\xff\x00"), ErrorCode.COMPRESSION_ERROR,
    ),
    "table larger than allowed": (HELLO + frame(h2.HEADERS, 4, 1, b"\x3f\xe2\x1f\x82"), ErrorCode.COMPRESSION_ERROR),
    "table changed in the middle": (HELLO + frame(h2.HEADERS, 4, 1, b"\x82\x20"), ErrorCode.COMPRESSION_ERROR),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "code"), CONNECTION_ERRORS.values(), ids=CONNECTION_ERRORS)
def test_connection_error_ends_with_goaway_and_its_code(sent: bytes, code: ErrorCode) -> None:
    client = Client(hello=b"")
    assert client.goaway(client.send(sent)) is code
    assert client.send(HELLO) == [], "nothing is read after it"


def test_rst_stream_of_the_wrong_length() -> None:
    client = Client(answer=None)
    client.send(client.call(1))
    assert client.goaway(client.send(frame(h2.RST_STREAM, 0, 1, bytes(3)))) is ErrorCode.FRAME_SIZE_ERROR


def test_headers_on_a_closed_stream_end_the_connection() -> None:
    client = Client()
    client.send(client.call(3))
    assert client.goaway(client.send(client.call(1))) is ErrorCode.STREAM_CLOSED


def test_stream_window_that_overflows_ends_the_stream_only() -> None:
    client = Client(answer=None)
    client.send(client.call(1))
    assert resets(client.send(window_update(1, h2.MAX_WINDOW))) == {1: ErrorCode.FLOW_CONTROL_ERROR}
    assert not client.connection.finished


def test_stream_window_update_by_nothing_ends_the_stream_only() -> None:
    client = Client(answer=None)
    client.send(client.call(1))
    assert resets(client.send(window_update(1, 0))) == {1: ErrorCode.PROTOCOL_ERROR}


def test_data_after_the_end_of_the_request_ends_the_stream() -> None:
    client = Client(answer=None)
    assert resets(client.send(client.call(1), data(1, b"more"))) == {1: ErrorCode.STREAM_CLOSED}


def test_headers_after_the_end_of_the_request_end_the_stream() -> None:
    client = Client(answer=None)
    assert resets(client.send(client.call(1), client.headers(1))) == {1: ErrorCode.STREAM_CLOSED}


def test_data_on_an_answered_stream_is_an_error_of_that_stream() -> None:
    client = Client()
    client.send(client.call(1))
    assert resets(client.send(data(1, b"more"))) == {1: ErrorCode.STREAM_CLOSED}


def test_what_was_on_its_way_to_a_stream_that_was_given_up_is_ignored() -> None:
    """RFC 9113 section 5.1, closed; the header block of its trailers is decoded all the same."""
    client = Client(answer=None)
    client.send(client.call(1), window_update(1, 0))
    trailers = client.headers(1, h2.END_HEADERS | h2.END_STREAM, [(b"x-new", b"indexed")])
    assert client.send(data(1, b"late", 0), trailers) == []
    client.send(client.headers(3, fields=[*CALL_HEADERS, (b"x-new", b"indexed")]), data(3, message(b"")))
    assert len(client.waiting) == 2


STREAM_ERRORS = {
    "pseudo-header among the trailers": data(1, message(b"a"), 0) + frame(h2.HEADERS, 5, 1, b"\x84"),
    "connection-specific trailer": data(1, message(b"a"), 0) + frame(h2.HEADERS, 5, 1, b"\0\7upgrade\1a"),
    "trailers that do not end the request": data(1, message(b"a"), 0) + frame(h2.HEADERS, 4, 1, b"\x90"),
    "less than content-length": data(1, message(b"")),
    "more than content-length": data(1, message(b"abc")),
    "more than content-length, in pieces": data(1, message(b"ab"), 0) + data(1, b"c"),
}


@pytest.mark.parametrize("sent", STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_malformed_rest_of_a_request_ends_the_stream_only(sent: bytes) -> None:
    """RFC 9113 section 8.1.1."""
    client = Client(answer=None)
    headers = client.headers(1, fields=[*CALL_HEADERS, (b"content-length", b"6")])
    assert resets(client.send(headers, sent)) == {1: ErrorCode.PROTOCOL_ERROR}
    assert client.waiting == []
    assert not client.connection.finished


def test_stream_beyond_the_limit_is_refused_and_the_next_one_served() -> None:
    client = Client(answer=None)
    limit = 1000
    client.send(*(client.call(2 * n + 1) for n in range(limit)))
    assert resets(client.send(client.call(2 * limit + 1))) == {2 * limit + 1: ErrorCode.REFUSED_STREAM}
    client.connection.answer(client.waiting[0], b"")
    assert resets(client.send(client.call(2 * limit + 3))) == {}
    assert len(client.waiting) == limit + 1


def test_drain_serves_what_comes_before_the_peer_knows_and_ignores_what_comes_after() -> None:
    client = Client(answer=None)
    client.send(client.call(1))
    client.connection.begin_drain()
    first, ping = client.read()
    assert (first.type, first.payload) == (h2.GOAWAY, bytes.fromhex("7fffffff 00000000"))
    client.send(client.call(3))
    (second,) = client.send(frame(h2.PING, h2.ACK, 0, ping.payload))
    assert (second.type, second.payload) == (h2.GOAWAY, bytes.fromhex("00000003 00000000"))
    assert client.send(client.call(5)) == []
    assert len(client.waiting) == 2
    for call in client.waiting:
        assert not client.connection.finished
        client.connection.answer(call, b"")
    assert client.connection.finished
    assert len([each for each in client.read() if each.type == h2.DATA]) == 2


def test_drain_need_not_wait_for_the_peer() -> None:
    client = Client()
    client.connection.begin_drain()
    client.connection.begin_drain()
    client.connection.end_drain()
    client.connection.end_drain()
    assert [each.type for each in client.read()] == [h2.GOAWAY, h2.PING, h2.GOAWAY]
    assert client.connection.finished


def test_ping_acknowledgement_that_nobody_asked_for_does_not_end_the_service() -> None:
    client = Client()
    client.send(frame(h2.PING, h2.ACK, 0, b"draining"))
    assert client.answer_in(client.send(client.call(1)), 1).trailers == {b"grpc-status": b"0"}


def test_goaway_of_the_client_lets_its_calls_end() -> None:
    client = Client(answer=None)
    client.send(client.call(1), frame(h2.GOAWAY, 0, 0, bytes(8)))
    client.connection.answer(client.waiting[0], b"")
    assert client.answer_in(client.read(), 1).trailers == {b"grpc-status": b"0"}


def test_deadline_ends_what_waits_for_the_rest_of_a_request() -> None:
    client = Client()
    client.send(client.headers(1), data(1, message(b"hello")[:6], 0))
    client.connection.expire(0.1999)
    assert client.read() == []
    client.connection.expire(0.2)
    frames = client.read()
    assert client.answer_in(frames, 1).trailers[b"grpc-status"] == b"4"
    assert resets(frames) == {1: ErrorCode.NO_ERROR}


def test_deadline_ends_what_waits_for_an_answer() -> None:
    client = Client(answer=None)
    client.send(client.call(1))
    client.connection.expire(0.2)
    assert client.answer_in(client.read(), 1).trailers[b"grpc-status"] == b"4"


def test_peer_that_never_says_hello_is_let_go() -> None:
    client = Client(hello=h2.PREFACE[:10])
    client.connection.expire(9.9)
    assert not client.connection.finished
    client.connection.expire(10)
    assert client.goaway(client.read()) is ErrorCode.SETTINGS_TIMEOUT


def test_idle_peer_that_said_hello_may_stay() -> None:
    client = Client()
    client.connection.expire(1e6)
    assert not client.connection.finished
