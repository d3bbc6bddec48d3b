"""Flow control in both directions (RFC 9113 sections 5.2, 6.9)."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.transport import http2_frames as h2
from authz_service.transport.grpc_wire import MAX_MESSAGE_BYTES
from authz_service.transport.http2_frames import ErrorCode, Setting, frame
from authz_service.transport.http2_receiver import (
    ALWAYS_ARRIVING_BYTES,
    CONNECTION_WINDOW,
    MAX_ARRIVING_EVERYWHERE,
    STREAM_WINDOW,
)
from authz_service.transport.http2_streams import Arrivals
from tests.support.http2 import Client, Frame, data, message, reset, resets, settings, window_update

LARGE = 100_000


def body_sizes(frames: list[Frame], stream_id: int = 1) -> list[int]:
    return [len(each.payload) for each in frames if each.type == h2.DATA and each.stream_id == stream_id]


def test_answer_larger_than_a_frame_is_cut() -> None:
    client = Client(lambda size: bytes(int(size)))
    assert body_sizes(client.send(client.call(1, b"40000"))) == [16_384, 16_384, 40_005 - 2 * 16_384]
    assert body_sizes(client.send(client.call(3, b"16380")), 3) == [16_384, 1]
    assert body_sizes(client.send(client.call(5, b"379")), 5) == [384]


def test_answers_share_the_connection_window() -> None:
    client = Client(lambda _: bytes(10_000 - 5))
    sizes = [sum(body_sizes(client.send(client.call(stream_id)), stream_id)) for stream_id in range(1, 17, 2)]
    assert sizes == [10_000] * 6 + [5_535, 0]


def test_answer_waits_for_the_connection_window_and_goes_on_where_it_was() -> None:
    client = Client(lambda _: bytes(range(250)) * 400)
    frames = client.send(settings((Setting.INITIAL_WINDOW_SIZE, 2 * LARGE)), client.call(1))
    assert sum(body_sizes(frames)) == 65_535
    frames += client.send(window_update(0, 10))
    assert sum(body_sizes(frames)) == 65_545
    frames += client.send(window_update(0, LARGE))
    assert client.answer_in(frames, 1).body == message(bytes(range(250)) * 400)


def test_answer_waits_for_its_stream_window() -> None:
    client = Client(lambda _: bytes(LARGE))
    frames = client.send(window_update(0, LARGE), client.call(1))
    assert sum(body_sizes(frames)) == 65_535
    frames += client.send(window_update(1, LARGE))
    assert client.answer_in(frames, 1).body == message(bytes(LARGE))


def test_window_granted_before_the_answer_counts() -> None:
    client = Client(answer=None)
    frames = client.send(window_update(0, LARGE), client.call(1), window_update(1, LARGE))
    client.connection.answer(client.waiting[0], bytes(LARGE))
    assert client.answer_in(frames + client.read(), 1).body == message(bytes(LARGE))


def test_settings_change_the_window_of_streams_under_way_and_it_may_become_negative() -> None:
    """RFC 9113 section 6.9.2."""
    client = Client(lambda _: bytes(1000), hello=h2.PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 100)))
    assert body_sizes(client.send(client.call(1))) == [100]
    assert body_sizes(client.send(settings((Setting.INITIAL_WINDOW_SIZE, 10)))) == []  # now -90
    assert body_sizes(client.send(window_update(1, 90))) == []
    assert body_sizes(client.send(window_update(1, 1))) == [1]
    assert body_sizes(client.send(settings((Setting.INITIAL_WINDOW_SIZE, 20)))) == [10]
    assert body_sizes(client.send(settings((Setting.INITIAL_WINDOW_SIZE, 2000)))) == [1005 - 111]


def test_acknowledgement_comes_before_the_data_that_settings_let_out() -> None:
    client = Client(hello=h2.PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    client.send(client.call(1))
    frames = client.send(settings((Setting.INITIAL_WINDOW_SIZE, 5)))
    assert [each.type for each in frames] == [h2.SETTINGS, h2.DATA]


def test_settings_that_overflow_a_stream_window_end_the_connection() -> None:
    client = Client(answer=None)
    client.send(client.call(1), window_update(1, h2.MAX_WINDOW - 65_535))
    frames = client.send(settings((Setting.INITIAL_WINDOW_SIZE, 65_536)))
    assert client.goaway(frames) is ErrorCode.FLOW_CONTROL_ERROR


def test_reserved_bit_of_an_increment_is_ignored() -> None:
    """RFC 9113 section 6.9."""
    client = Client(lambda _: bytes(100), hello=h2.PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    client.send(client.call(1))
    assert body_sizes(client.send(window_update(1, (1 << 31) + 7))) == [7]


def test_stream_without_a_window_does_not_hold_up_the_others() -> None:
    client = Client(answer=None, hello=h2.PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    frames = client.send(client.call(1), client.call(3), window_update(3, 100))
    for call in client.waiting:
        client.connection.answer(call, b"hello")
    frames += client.read()
    assert (body_sizes(frames, 1), body_sizes(frames, 3)) == ([], [10])


def test_reset_gives_back_what_was_waiting() -> None:
    client = Client(lambda _: bytes(1000), hello=h2.PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, 0)))
    client.send(*(client.call(stream_id) for stream_id in range(1, 21, 2)))
    assert client.connection._sender.waiting_bytes == 10 * 1005
    client.send(*(reset(stream_id) for stream_id in range(1, 21, 2)))
    assert (client.connection._sender.waiting_bytes, client.connection.calls) == (0, {})


@given(st.integers(0, 3000), st.lists(st.tuples(st.sampled_from([0, 1, 3]), st.integers(1, 500)), max_size=60))
def test_no_window_is_ever_exceeded(initial: int, grants: list[tuple[int, int]]) -> None:
    """Whatever a peer grants, what it gets is within it; and in the end, whole."""
    client = Client(lambda _: bytes(1995), hello=h2.PREFACE + settings((Setting.INITIAL_WINDOW_SIZE, initial)))
    connection_window, windows = 65_535, {1: initial, 3: initial}
    frames = client.send(client.call(1), client.call(3))
    for stream_id, increment in [*grants, (1, 5000), (3, 5000), (0, 5000)]:
        frames += client.send(window_update(stream_id, increment))
        if stream_id:
            windows[stream_id] += increment
        else:
            connection_window += increment
        sent = {each: sum(body_sizes(frames, each)) for each in windows}
        assert sum(sent.values()) <= connection_window
        assert all(sent[each] == min(2000, windows[each]) for each in windows)


def granted(frames: list[Frame]) -> int:
    return sum(each.number for each in frames if each.type == h2.WINDOW_UPDATE and each.stream_id == 0)


@pytest.mark.parametrize("remembered", [False, True])
def test_connection_window_is_opened_again_in_few_large_steps(*, remembered: bool) -> None:
    client = Client(lambda _: b"")
    assert granted(client.greeting) + 65_535 == CONNECTION_WINDOW
    client.send(window_update(0, 1 << 30), client.headers(1), reset(1))
    if remembered:
        client.forget_table()
    sent, updates, grant = 0, 0, CONNECTION_WINDOW
    for stream_id in range(3, 2403, 2):
        frames = client.send(client.headers(stream_id), data(stream_id, message(bytes(16_000))))
        updates += sum(each.type == h2.WINDOW_UPDATE for each in frames)
        sent += 16_005
        grant += granted(frames)
        assert grant - sent >= CONNECTION_WINDOW // 2 - h2.MAX_FRAME_BYTES
    assert updates == sent // (CONNECTION_WINDOW // 2)


def test_padding_counts_against_the_connection_window() -> None:
    """RFC 9113 section 6.9.1; else the window would close little by little."""
    client = Client()
    client.send(client.headers(1))
    for _ in range(700):
        client.send(frame(h2.DATA, h2.PADDED, 1, b"\xff" + bytes(255 + 44)))
    assert client.connection._receiver.window == CONNECTION_WINDOW - 700 * 300


def test_largest_message_fits_into_the_window_of_a_stream_twice() -> None:
    values = dict(h2.SETTING.iter_unpack(Client().greeting[0].payload))
    assert values[Setting.INITIAL_WINDOW_SIZE] >= 2 * MAX_MESSAGE_BYTES


def test_stream_that_sends_more_than_its_window_is_reset() -> None:
    client = Client()
    piece = frame(h2.DATA, h2.PADDED, 1, b"\xff" + bytes(255))  # nothing but padding: no message grows too large
    client.send(client.headers(1))
    client.now = 1e9
    frames: list[Frame] = []
    for _ in range(STREAM_WINDOW // 256 + 1):
        frames += client.send(piece)
    assert resets(frames) == {1: ErrorCode.FLOW_CONTROL_ERROR}


def test_message_larger_than_four_mebibytes_is_refused_before_it_is_whole() -> None:
    client = Client()
    frames = client.send(client.headers(1), data(1, message(bytes(MAX_MESSAGE_BYTES + 16_384)), 0))
    answer = client.answer_in(frames, 1)
    assert answer.trailers[b"grpc-status"] == b"8"
    assert resets(frames) == {1: ErrorCode.NO_ERROR}
    assert client.send(data(1, bytes(100_000))) == [], "the rest of it is ignored"


def test_messages_that_never_end_are_bounded_together() -> None:
    client = Client()
    refused = []
    for stream_id in range(1, 21, 2):
        frames = client.send(client.headers(stream_id), data(stream_id, message(bytes(MAX_MESSAGE_BYTES))[:-1], 0))
        refused += list(resets(frames))
        assert sum(call.received_bytes for call in client.connection.calls.values()) <= 8 * 1024 * 1024
    assert refused


def test_messages_that_never_end_are_bounded_on_all_connections_together() -> None:
    everywhere = Arrivals()
    refused = []
    for _ in range(12):
        client = Client(everywhere=everywhere)
        frames = client.send(client.headers(1), data(1, message(bytes(MAX_MESSAGE_BYTES))[:-1], 0))
        refused += list(resets(frames))
        assert everywhere.size <= MAX_ARRIVING_EVERYWHERE + 4 * ALWAYS_ARRIVING_BYTES
    assert refused


def test_a_little_may_arrive_whatever_others_do() -> None:
    everywhere = Arrivals()
    everywhere.add(MAX_ARRIVING_EVERYWHERE + 1)
    client = Client(lambda _: b"ok", everywhere=everywhere)
    first, second = halves(message(bytes(ALWAYS_ARRIVING_BYTES - 10)))
    assert client.answer_in(client.send(client.headers(1), data(1, first, 0), data(1, second)), 1).body
    assert resets(client.send(client.headers(3), data(3, first + second + second, 0)))


def halves(content: bytes) -> Iterator[bytes]:
    yield content[: len(content) // 2]
    yield content[len(content) // 2 :]


@pytest.mark.parametrize("size", [0, 1, 5, 16_379, 16_380, 100_000, MAX_MESSAGE_BYTES])
def test_message_in_many_frames_arrives_whole(size: int) -> None:
    client = Client(answer=None)
    first, second = halves(message(b"x" * size))
    client.send(client.headers(1), data(1, first, 0), frame(h2.DATA, 0, 1), data(1, second))
    assert client.waiting[0].message == b"x" * size
