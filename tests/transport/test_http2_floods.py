"""Known attacks: each ends the connection with ENHANCE_YOUR_CALM, or costs no more than what an honest peer costs."""

from collections.abc import Callable

import pytest

from authz_service.transport import http2_frames as h2
from authz_service.transport.http2_floods import BUDGET
from authz_service.transport.http2_frames import ErrorCode, Setting, frame
from tests.support.http2 import (
    ACK,
    CALL_HEADERS,
    Client,
    Frame,
    calls_in,
    data,
    message,
    reset,
    settings,
    window_update,
)

Attack = Callable[[Client, int], bytes]


def rapid_reset(client: Client, turn: int) -> bytes:
    return client.headers(2 * turn + 1) + reset(2 * turn + 1)


def malformed_requests(client: Client, turn: int) -> bytes:
    return client.headers(2 * turn + 1, fields=[(b":method", b"POST")])


def requests_without_a_message(client: Client, turn: int) -> bytes:
    return client.headers(2 * turn + 1, h2.END_HEADERS | h2.END_STREAM)


def made_you_reset(client: Client, turn: int) -> bytes:
    """CVE-2025-8671: the peer makes this side send the resets."""
    return client.headers(2 * turn + 1) + window_update(2 * turn + 1, 0)


def always(sent: bytes) -> Attack:
    return lambda _client, _turn: sent


def on_open_stream(sent: bytes) -> Attack:
    return lambda client, turn: sent if turn else client.headers(1)


def on_closed_stream(sent: bytes) -> Attack:
    return lambda client, turn: sent if turn else client.call(1) + reset(1)


def on_stream_that_was_given_up(sent: bytes) -> Attack:
    return lambda client, turn: sent if turn else client.headers(1) + window_update(1, 0)


def in_header_block(sent: bytes) -> Attack:
    return lambda client, turn: sent if turn else client.headers(1, 0)


def changing_settings(_client: Client, turn: int) -> bytes:
    return settings((Setting.INITIAL_WINDOW_SIZE, turn))


FLOODS: dict[str, Attack] = {
    "rapid reset (CVE-2023-44487)": rapid_reset,
    "resets that the server is made to send (CVE-2025-8671)": made_you_reset,
    "malformed requests": malformed_requests,
    "requests without a message": requests_without_a_message,
    "resets of streams long closed": on_closed_stream(reset(1)),
    "PING (CVE-2019-9512)": always(frame(h2.PING, 0, 0, bytes(8))),
    "PING acknowledgements": always(frame(h2.PING, h2.ACK, 0, bytes(8))),
    "empty SETTINGS (CVE-2019-9515)": always(settings()),
    "SETTINGS that change each window": changing_settings,
    "SETTINGS acknowledgements": always(ACK),
    "empty DATA (CVE-2019-9518)": on_open_stream(frame(h2.DATA, 0, 1)),
    "tiny DATA": on_open_stream(frame(h2.DATA, 0, 1, b"\0")),
    "DATA of padding": on_open_stream(frame(h2.DATA, h2.PADDED, 1, b"\1\0")),
    "DATA on a stream that was given up": on_stream_that_was_given_up(frame(h2.DATA, 0, 1)),
    "last DATA on a stream that was given up": on_stream_that_was_given_up(data(1, b"")),
    "trailers on a stream that was given up": on_stream_that_was_given_up(frame(h2.HEADERS, 5, 1, b"\x90")),
    "DATA on a closed stream": on_closed_stream(data(1, b"")),
    "WINDOW_UPDATE on a closed stream": on_closed_stream(window_update(1, 1)),
    "empty CONTINUATION (VU#421644)": in_header_block(frame(h2.CONTINUATION, 0, 1)),
    "PRIORITY (CVE-2019-9513)": always(frame(h2.PRIORITY, 0, 3, b"\0\0\0\1\0")),
    "unknown frames": always(frame(0xFA, 0, 0)),
    "GOAWAY": always(frame(h2.GOAWAY, 0, 0, bytes(8))),
    "tiny WINDOW_UPDATE (CVE-2019-9511)": always(window_update(0, 1)),
}


@pytest.mark.parametrize("attack", FLOODS.values(), ids=FLOODS)
def test_flood_ends_the_connection(attack: Attack) -> None:
    client = Client(answer=None)
    client.send(settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    frames: list[Frame] = []
    for turn in range(BUDGET + 10):
        frames = client.send(attack(client, turn))
        if client.connection.finished:
            break
    assert client.goaway(frames) is ErrorCode.ENHANCE_YOUR_CALM
    assert client.connection.calls == {}, "nothing is kept of it"
    assert client.send(attack(client, 0)) == []


@pytest.mark.parametrize("attack", FLOODS.values(), ids=FLOODS)
def test_flood_costs_bounded_output(attack: Attack) -> None:
    """What comes back is less than a few dozen octets for each frame, and ends."""
    client = Client(answer=None)
    size = 0
    for turn in range(3 * BUDGET):
        list(calls_in(client.connection, attack(client, turn)))
        size += len(client.connection.take_output())
    assert size < BUDGET * 64


def test_the_same_frames_in_peace_are_welcome() -> None:
    """A budget, not a total: a keepalive PING each second is no attack, however long it goes on."""
    client = Client()
    for second in range(3 * BUDGET):
        client.now = float(second)
        client.send(frame(h2.PING, 0, 0, bytes(8)))
    assert not client.connection.finished


def test_long_peace_saves_up_nothing_for_a_flood() -> None:
    client = Client()
    client.now = 1e6
    frames = client.send(*[frame(h2.PING, 0, 0, bytes(8))] * (BUDGET + 1))
    assert client.goaway(frames) is ErrorCode.ENHANCE_YOUR_CALM


def test_busy_client_that_resets_now_and_then_is_welcome() -> None:
    """Without any help from time: each finished call earns what a reset and some window updates cost."""
    client = Client()
    client.send(window_update(0, 1 << 30))
    for turn in range(BUDGET):
        stream_id = 4 * turn + 1
        client.send(client.call(stream_id), reset(stream_id), window_update(0, 100) * 2)
        client.send(client.headers(stream_id + 2), reset(stream_id + 2))
    assert not client.connection.finished


def test_calls_that_are_reset_while_they_wait_for_their_answer_are_welcome() -> None:
    """As Envoy resets them when its own clients go away, be it all of them."""
    client = Client(answer=None)
    for stream_id in range(1, 6 * BUDGET, 2):
        client.send(client.call(stream_id), reset(stream_id))
    assert not client.connection.finished
    assert client.connection.calls == {}


def test_requests_that_nobody_is_asked_about_earn_nothing() -> None:
    client = Client()
    no_call = [(b":method", b"GET"), *CALL_HEADERS[1:]]
    frames: list[Frame] = []
    for stream_id in range(1, 4 * BUDGET, 2):
        request = client.headers(stream_id, h2.END_HEADERS | h2.END_STREAM, no_call)
        frames = client.send(request, window_update(0, 100))
        if client.connection.finished:
            break
    assert client.goaway(frames) is ErrorCode.ENHANCE_YOUR_CALM


def test_header_bomb_of_references_is_refused() -> None:
    """One field of 4,000 octets, then its index a thousand times: RFC 7541 section 7.3."""
    client = Client()
    bomb = client.encoder.encode([*CALL_HEADERS, (b"x", b"a" * 3900)]) + b"\xbe" * 1000
    assert client.goaway(client.send(frame(h2.HEADERS, 4, 1, bomb))) is ErrorCode.ENHANCE_YOUR_CALM


def test_header_bomb_of_references_is_refused_without_a_table() -> None:
    client = Client()
    client.send(client.call(1))
    client.forget_table()
    client.send(client.call(3))
    bomb = client.encoder.encode(CALL_HEADERS) + b"\x90" * 1500  # "accept-encoding: gzip, deflate" in one octet
    assert client.goaway(client.send(frame(h2.HEADERS, 4, 5, bomb))) is ErrorCode.ENHANCE_YOUR_CALM


def test_header_block_is_bounded_while_it_arrives() -> None:
    client = Client()
    client.send(client.headers(1, 0))
    frames = client.send(*(frame(h2.CONTINUATION, 0, 1, bytes(4000)) for _ in range(21)))
    assert client.goaway(frames) is ErrorCode.ENHANCE_YOUR_CALM


SIZE_UPDATES = {"short": b"\x20", "long": b"\x3f\x80\x00"}


@pytest.mark.parametrize("update", SIZE_UPDATES.values(), ids=SIZE_UPDATES)
def test_size_updates_are_bounded(update: bytes) -> None:
    """RFC 7541 section 4.2: there are two at most."""
    client = Client()
    block = client.encoder.encode(CALL_HEADERS)
    assert client.send(frame(h2.HEADERS, 4, 1, update * 2 + block), data(1, message(b"a")))[-1].type != h2.GOAWAY
    assert client.goaway(client.send(frame(h2.HEADERS, 4, 3, update * 3 + block))) is ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize("table", [True, False])
def test_fields_are_bounded(*, table: bool) -> None:
    client = Client()
    client.send(client.call(1))
    if not table:
        client.forget_table()
        client.send(client.call(3))
    frames: list[Frame] = []
    for stream_id, number in ((5, 240), (7, 250)):
        assert not client.connection.finished
        block = client.encoder.encode(CALL_HEADERS) + b"\0\1y\0" * number
        frames = client.send(frame(h2.HEADERS, 4, stream_id, block), data(stream_id, message(b"a")))
    assert client.goaway(frames) is ErrorCode.ENHANCE_YOUR_CALM


def test_a_block_that_takes_long_leaves_the_frames_behind_it_to_the_next_look() -> None:
    """Between two looks, others have their turn."""
    client = Client(answer=None)
    client.connection.receive(client.headers(1) + client.headers(3), 0.0)
    client.connection.read_on(32)
    assert not client.connection.unread
    long = client.headers(5, fields=[*CALL_HEADERS, (b"x", b"0" * 5000)])
    client.connection.receive(long + client.headers(7), 0.0)
    client.connection.read_on(32)
    assert client.connection.unread


def test_remembered_blocks_and_fields_are_bounded() -> None:
    client = Client()
    client.send(client.call(1))
    client.forget_table()
    for turn in range(2, 1000):
        fields = [*CALL_HEADERS, (b"traceparent", b"%055d" % turn)]
        client.send(client.headers(2 * turn + 1, fields=fields), data(2 * turn + 1, message(b"")))
    decoder = client.connection._receiver.headers
    assert (len(decoder.heads), len(decoder._fields)) == (64, 256)
    large = [*CALL_HEADERS, (b"x", b"~" * 5000)]
    assert client.answer_in(client.send(client.headers(9001, fields=large), data(9001, message(b""))), 9001)
    assert all(len(block) <= 1024 for block in (*decoder.heads, *decoder._fields))


@pytest.mark.parametrize("remembered", [False, True])
def test_answers_that_a_closed_window_holds_back_are_bounded(*, remembered: bool) -> None:
    """CVE-2019-9517: ask for much, let nothing out."""
    client = Client(lambda _: bytes(16_000), hello=h2.PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    client.send(client.call(1))
    if remembered:
        client.forget_table()
    frames: list[Frame] = []
    for turn in range(1, 900):
        frames = client.send(client.call(2 * turn + 1))
        if client.connection.finished:
            break
    assert client.goaway(frames) is ErrorCode.ENHANCE_YOUR_CALM
    assert client.connection._sender.waiting_bytes == 0


def test_answers_that_a_closed_window_holds_back_are_given_up_in_time() -> None:
    client = Client(hello=h2.PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    client.send(client.call(1))
    client.connection.expire(60.0)
    (given_up,) = client.read()
    assert (given_up.type, given_up.number) == (h2.RST_STREAM, ErrorCode.CANCEL)
    assert client.connection.calls == {}


def test_streams_that_were_given_up_are_forgotten_in_the_end() -> None:
    client = Client(answer=None)
    for turn in range(1500):
        client.now += 1.0
        client.send(made_you_reset(client, turn))
    assert len(client.connection._sender.ignored) == 1000


def test_octet_by_octet_a_frame_is_kept_once() -> None:
    client = Client()
    for octet in client.headers(1) + frame(h2.DATA, 0, 1, bytes(16_384))[:-1]:
        client.send(bytes([octet]))
    assert len(client.connection._buffer) == 9 + 16_383
