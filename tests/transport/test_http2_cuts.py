"""However bytes are cut and calls are spelled, the answers are the same; and no bytes make the connection raise."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from authz_service.transport import http2_frames as h2
from authz_service.transport.grpc_wire import UNKNOWN_METHOD
from authz_service.transport.http2 import Connection
from authz_service.transport.http2_frames import ErrorCode, Setting, frame
from tests.support.http2 import (
    ACK,
    CALL_HEADERS,
    HELLO,
    Client,
    data,
    message,
    read_frames,
    reset,
    settings,
    window_update,
)

contents = st.binary(max_size=40) | st.sampled_from([b"", b"?" * 16_379, b"refuse", bytes(20_000)])


class Script:
    """Draws what a client sends; its encoder keeps to what it has acknowledged.

    :param plain: calls as HEADERS and DATA, which the connection knows by heart; else with empty padding.
    """

    def __init__(self, *, plain: bool = True) -> None:
        self.client = Client(hello=b"")
        self.plain = plain
        self.stream_id = -1

    def call(self, content: bytes, extra: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        self.stream_id += 2
        block = self.client.encoder.encode([*CALL_HEADERS, *extra])
        if self.plain or len(content) > 16_000:
            return frame(h2.HEADERS, h2.END_HEADERS, self.stream_id, block) + data(self.stream_id, message(content))
        padded = b"\0" + message(content)
        headers = frame(h2.HEADERS, h2.END_HEADERS | h2.PADDED, self.stream_id, b"\0" + block)
        return headers + data(self.stream_id, padded, h2.PADDED | h2.END_STREAM)

    def no_table(self) -> bytes:
        self.client.encoder.header_table_size = 0
        return ACK + ACK

    def frame(self, number: int) -> bytes:
        """A frame that opens no stream."""
        return (
            frame(h2.PING, 0, 0, number.to_bytes(8)),
            window_update(0, number + 1),
            settings((Setting.INITIAL_WINDOW_SIZE, number)),
            frame(0xFA, 0, self.stream_id, b"unknown"),
            data(self.stream_id, b"on a closed stream") if number % 20 != 4 else data(self.stream_id + 2, b"on an idle one"),
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
    connection = Connection(0.0)
    output = b""
    for piece in pieces:
        for call in connection.receive(piece, 0.0):
            if call.message == b"refuse":
                connection.refuse(call, UNKNOWN_METHOD)
            else:
                connection.answer(call, call.message[::-1])
        output += connection.take_output()
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


@given(st.lists(contents, max_size=10))
def test_usual_spelling_of_a_call_and_an_unusual_one_are_answered_alike(calls: list[bytes]) -> None:
    """The hot loop's shortcuts against the general way."""
    outputs = []
    for plain in (True, False):
        script = Script(plain=plain)
        sent = [script.call(b"first"), script.no_table(), *map(script.call, calls)]
        outputs.append(converse([HELLO, *sent]))
    assert outputs[0] == outputs[1]


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


def test_calls_before_a_connection_error_in_one_read_are_answered_before_it() -> None:
    script = Script()
    frames = read_frames(converse([HELLO + script.call(b"ab") + frame(h2.PING, 0, 1, bytes(8)) + script.call(b"cd")]))
    assert [each.payload[5:] for each in frames if each.type == h2.DATA] == [b"ba"]
    assert frames[-1].type == h2.GOAWAY
    assert frames[-1].payload[:8] == b"\0\0\0\1\0\0\0" + bytes([ErrorCode.PROTOCOL_ERROR])
