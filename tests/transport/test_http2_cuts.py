"""However bytes are cut and calls are spelled, the answers are the same; and no bytes make the connection raise."""

from collections.abc import Sequence
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.transport import http2, http2_receiver
from authz_service.transport import http2_frames as h2
from authz_service.transport.grpc_wire import UNKNOWN_METHOD
from authz_service.transport.http2 import Connection
from authz_service.transport.http2_frames import ErrorCode, Setting, frame, settings_frame
from authz_service.transport.http2_streams import Arrivals
from tests.support.http2 import (
    ACK,
    CALL_HEADERS,
    HELLO,
    Client,
    calls_in,
    data,
    message,
    read_frames,
    reset,
    window_update,
)

contents = st.binary(max_size=40) | st.sampled_from([b"", b"?" * 16_379, b"refuse", bytes(20_000)])


class Script:
    """What a client sends; its encoder keeps to what it has acknowledged."""

    def __init__(self) -> None:
        self.client = Client(hello=b"")
        self.stream_id = -1

    def call(self, content: bytes, extra: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        self.stream_id += 2
        block = self.client.encoder.encode([*CALL_HEADERS, *extra])
        return frame(h2.HEADERS, h2.END_HEADERS, self.stream_id, block) + data(self.stream_id, message(content))

    def no_table(self) -> bytes:
        self.client.encoder.header_table_size = 0
        return ACK + ACK

    def frame(self, number: int) -> bytes:
        """A frame that opens no stream."""
        return (
            frame(h2.PING, 0, 0, number.to_bytes(8)),
            window_update(0, number + 1),
            settings_frame([(Setting.INITIAL_WINDOW_SIZE, number)]),
            frame(0xFA, 0, self.stream_id, b"unknown"),
            data(self.stream_id + 2 * (number % 20 == 4), b"on a closed stream, or on an idle one"),
        )[number % 5]

    def request(self, number: int, fields: Sequence[tuple[bytes, bytes]] = CALL_HEADERS) -> bytes:
        """Something else than a call."""
        self.stream_id += 2
        stream_id = self.stream_id
        return self.client.headers(stream_id, fields=fields) + (
            reset(stream_id),
            window_update(stream_id, 0),
            data(stream_id, message(b"ab")[:-1], 0) + frame(h2.DATA, h2.END_STREAM, stream_id, b"b"),
            data(stream_id, message(b"two") + message(b"messages")),
            data(stream_id, b"\1" + message(b"compressed")[1:]),
            data(stream_id, b""),
            data(stream_id, message(b"a"), 0) + frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, stream_id, b"\x90"),
        )[number % 7]


ODD_HEADERS = [
    CALL_HEADERS,
    [*CALL_HEADERS, (b"connection", b"close")],
    [*CALL_HEADERS, (b"content-length", b"6")],
    [(b":method", b"GET"), *CALL_HEADERS[1:]],
]


@st.composite
def scripts(draw: st.DrawFn) -> bytes:
    script = Script()
    sent = [script.call(b"first"), script.no_table()]
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.integers(0, 3))
        if kind < 2:
            sent.append(script.call(draw(contents), draw(st.sampled_from([[], [(b"traceparent", b"1")]]))))
        elif kind == 2:
            sent.append(script.frame(draw(st.integers(0, 70_000))))
        else:
            sent.append(script.request(draw(st.integers(0, 6)), draw(st.sampled_from(ODD_HEADERS))))
    return HELLO + b"".join(sent)


def converse(pieces: Sequence[bytes]) -> bytes:
    """All that comes back. Contents choose how a call is answered."""
    everywhere = Arrivals()
    connection = Connection(0.0, everywhere)
    output = b""
    for piece in pieces:
        if piece is DRAIN:
            connection.begin_drain()
            connection.end_drain()
            continue
        for call in calls_in(connection, piece):
            if call.message == b"refuse":
                connection.refuse(call, UNKNOWN_METHOD)
            elif call.message != b"later":
                connection.answer(call, call.message[::-1])
        output += connection.take_output()
        assert everywhere.size == sum(len(call._body or b"") for call in connection.calls.values())
    connection.drop()
    assert everywhere.size == 0
    return output


def cut(sent: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(sent) + 1) for place in places), len(sent)]
    return [sent[start:stop] for start, stop in pairwise(edges)]


@given(scripts(), st.lists(st.integers(0, 1 << 20), max_size=20))
def test_answers_do_not_depend_on_cuts(sent: bytes, places: list[int]) -> None:
    assert converse(cut(sent, places)) == converse([sent])


@given(scripts().filter(lambda sent: len(sent) < 5000))
def test_answers_octet_by_octet_are_those_of_the_whole(sent: bytes) -> None:
    assert converse([bytes([octet]) for octet in sent]) == converse([sent])


HEADS = [
    [*CALL_HEADERS],
    [*CALL_HEADERS, (b"content-length", b"6")],
    [(b":method", b"GET"), *CALL_HEADERS[1:]],
    [*CALL_HEADERS, (b"connection", b"close")],
]
BODIES = [
    message(b""), message(b"a"), message(b"later"), message(b"ab")[:-1], message(b"a") + b"b",
    b"\1" + message(b"a")[1:], b"", b"\0\0",
]  # fmt: skip
FLAGS = st.sampled_from([0, h2.END_STREAM, h2.END_HEADERS, h2.END_HEADERS, h2.END_HEADERS | h2.END_STREAM])
DRAIN = b"drain"


def introduction() -> tuple[list[bytes], list[bytes]]:
    """What a client says until its header blocks are remembered, and the blocks."""
    script = Script()
    pieces = [HELLO, script.call(b"first"), script.no_table()]
    first, *blocks = [script.client.encoder.encode(fields) for fields in (CALL_HEADERS, *HEADS)]
    heads = [frame(h2.HEADERS, 5, 2 * number + 3, block) for number, block in enumerate((first, *blocks))]
    return [*pieces, *heads], blocks


INTRODUCTION, BLOCKS = introduction()


@st.composite
def known_frames(draw: st.DrawFn) -> list[bytes]:
    """Frames with remembered blocks, on any stream, in any order."""
    pieces = list(INTRODUCTION)
    for _ in range(draw(st.integers(1, 15))):
        stream_id = draw(st.sampled_from([11, 13, 13, 14, 15, 15, 17, 19, 21]))
        kind = draw(st.integers(0, 9))
        if kind < 4:
            pieces.append(frame(h2.HEADERS, draw(FLAGS), stream_id, draw(st.sampled_from(BLOCKS))))
        elif kind < 8:
            flags = draw(st.sampled_from([h2.END_STREAM, h2.END_STREAM, 0]))
            pieces.append(frame(h2.DATA, flags, stream_id, draw(st.sampled_from(BODIES))))
        elif kind == 8:
            pieces.append(draw(st.sampled_from([reset(13), reset(15), frame(h2.CONTINUATION, 4, stream_id), DRAIN])))
        else:
            block, body = draw(st.sampled_from(BLOCKS)), draw(st.sampled_from(BODIES))
            pieces.append(frame(h2.HEADERS, 4, stream_id, block) + frame(h2.DATA, 1, stream_id, body))
    return pieces


def assert_shortcuts_change_nothing(pieces: Sequence[bytes]) -> None:
    limit = 3
    with (
        patch.object(http2, "MAX_CONCURRENT_STREAMS", limit),
        patch.object(http2_receiver, "MAX_CONCURRENT_STREAMS", limit),
    ):
        with_shortcuts = converse(pieces)
        with patch.object(http2, "END_HEADERS", -1), patch.object(http2, "END_STREAM", -1):
            assert converse(pieces) == with_shortcuts


@settings(max_examples=300)
@given(known_frames())
def test_shortcuts_of_the_hot_loop_do_what_the_general_way_does(pieces: list[bytes]) -> None:
    assert_shortcuts_change_nothing(pieces)


def known(stream_id: int, flags: int = h2.END_HEADERS, head: int = 0) -> bytes:
    return frame(h2.HEADERS, flags, stream_id, BLOCKS[head])


CONDITIONS = {
    "usual call": [known(13), data(13, message(b"a"))],
    "lower stream": [known(15), known(13)],
    "same stream again": [known(13), known(13)],
    "even stream": [known(14)],
    "stream beyond GOAWAY": [DRAIN, known(13), data(13, message(b"a"))],
    "one stream too many": [known(13), known(15), known(17), known(19)],
    "HEADERS inside a header block": [known(13, 0), known(15)],
    "DATA inside a header block": [known(13), known(15, 0), data(13, message(b"a"))],
    "DATA before its HEADERS": [data(13, message(b"a"))],
    "DATA behind a request": [known(13), data(13, message(b"later")), data(13, message(b"a"))],
    "DATA behind other DATA": [known(13), data(13, b"\0\0", 0), data(13, message(b"a"))],
    "DATA behind padding": [known(13), frame(h2.DATA, h2.PADDED, 13, b"\1\0"), data(13, message(b"a"))],
    "right content-length": [known(13, head=1), data(13, message(b"a"))],
    "wrong content-length": [known(13, head=1), data(13, message(b"abc"))],
    "GET": [known(13, head=2), data(13, message(b"a"))],
    "compressed": [known(13), data(13, b"\1" + message(b"a")[1:])],
    "message longer than DATA": [known(13), data(13, message(b"abc")[:-1])],
    "message shorter than DATA": [known(13), data(13, message(b"a") + b"b")],
    "no message": [known(13), data(13, b"")],
    "half a prefix": [known(13), data(13, b"\0\0")],
}


@pytest.mark.parametrize("pieces", CONDITIONS.values(), ids=CONDITIONS)
def test_each_condition_of_the_shortcuts(pieces: list[bytes]) -> None:
    assert_shortcuts_change_nothing([*INTRODUCTION, *pieces])


def test_shortcuts_are_taken() -> None:
    """Else the comparisons above compare nothing."""
    connection = Connection(0.0)
    list(calls_in(connection, b"".join(INTRODUCTION)))
    with patch.object(http2.Connection, "_on_frame", side_effect=AssertionError):
        (call,) = calls_in(connection, known(13) + data(13, message(b"a")))
    assert call.message == b"a"


@given(scripts(), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_raise_nothing_and_are_answered_in_whole_frames(
    sent: bytes, damage: list[tuple[int, int]]
) -> None:
    octets = bytearray(sent)
    for place, value in damage:
        octets[place % len(octets)] = value
    read_frames(converse([bytes(octets)]))


@given(st.binary(max_size=200))
def test_noise_after_the_handshake_raises_nothing(noise: bytes) -> None:
    read_frames(converse([HELLO, noise]))


@given(st.integers(0, 9), st.integers(0, 255), st.integers(0, 7), st.binary(max_size=60))
def test_any_single_frame_raises_nothing(kind: int, flags: int, stream_id: int, payload: bytes) -> None:
    script = Script()
    first = script.call(b"first")
    read_frames(converse([HELLO, first, frame(kind, flags, stream_id, payload), frame(h2.PING, 0, 0, bytes(8))]))


@pytest.mark.parametrize("most", [1, 32])
def test_calls_before_a_connection_error_in_one_read_are_answered_before_it(most: int) -> None:
    script = Script()
    connection = Connection(0.0)
    connection.receive(HELLO + script.call(b"ab") + frame(h2.PING, 0, 1, bytes(8)) + script.call(b"cd"), 0.0)
    while connection.unread:
        for call in connection.read_on(most):
            connection.answer(call, call.message[::-1])
    frames = read_frames(connection.take_output())
    assert [each.payload[5:] for each in frames if each.type == h2.DATA] == [b"ba"]
    assert frames[-1].type == h2.GOAWAY
    assert frames[-1].payload[:8] == b"\0\0\0\1\0\0\0" + bytes([ErrorCode.PROTOCOL_ERROR])
