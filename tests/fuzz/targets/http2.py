r"""What a peer sends on an HTTP/2 connection.

The first octet says how the rest is spelled: ``r`` as the octets themselves, from the preface on; ``f`` as short frames
behind a handshake; ``k`` the same behind a first call and the acknowledgement that there is no header table, so that
header blocks are remembered. A short frame is four octets and a payload, so that no mutation is spent on lengths: type,
flags, stream, length. 128 is added to the type of a payload that is to be repeated until it fills a frame.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import cycle
from typing import NamedTuple
from unittest.mock import patch

import hpack
from hyperframe import frame as hyperframe

from authz_service.transport import http2
from authz_service.transport import http2_frames as h2
from authz_service.transport.grpc_wire import UNKNOWN_METHOD
from authz_service.transport.http2 import Connection
from authz_service.transport.http2_receiver import MAX_CONCURRENT_STREAMS
from authz_service.transport.http2_streams import Call
from tests.support.http2 import ACK, HELLO, Client, calls_in

MAX_LENGTH = 4096

FULL = 128
MOST_FULL_FRAMES = 16
LONG_AFTER = 1e6
"""Seconds; every deadline is over by then."""

# A request of twelve octets is told in eighty that it is none.
MOST_OCTETS_BACK = 8
MOST_OCTETS_FOR_NOTHING = 256
"""Our settings, two GOAWAYs, a PING."""

OPEN = HELLO + Client(hello=b"").call(1, b"first") + ACK + ACK
BEFORE = {b"r": b"", b"f": HELLO, b"k": OPEN}


class Heard(NamedTuple):
    """One conversation."""

    calls: list[tuple[int, bytes, bytes]]
    """Stream, path, message."""
    output: bytes


def fuzz(data: bytes) -> bool:
    """Accepted is what brings a call. However the octets are cut, and without shortcuts, the same is heard."""
    before = BEFORE.get(data[:1])
    if before is None:
        return False
    sent = before + (data[1:] if data[:1] == b"r" else b"".join(written(data[1:])))
    heard = converse([sent])
    assert converse(cuts(sent, data)) == heard
    with patch.object(http2, "END_HEADERS", -1), patch.object(http2, "END_STREAM", -1):
        assert converse([sent]) == heard
    assert len(heard.output) <= MOST_OCTETS_BACK * len(sent) + MOST_OCTETS_FOR_NOTHING
    assert_readable(heard.output)
    return len(heard.calls) > (before is OPEN)


def written(short: bytes) -> Iterator[bytes]:
    """The frames; what is left at the end is no frame."""
    full_frames = 0
    while len(short) >= 4:
        kind, flags, stream_id, length = short[:4]
        payload, short = short[4 : 4 + length], short[4 + length :]
        if kind >= FULL and payload and full_frames < MOST_FULL_FRAMES:
            full_frames += 1
            payload = (payload * h2.MAX_FRAME_BYTES)[: h2.MAX_FRAME_BYTES]
        yield h2.frame(kind % FULL, flags, stream_id, payload)
    yield short


def cuts(sent: bytes, data: bytes) -> Iterator[bytes]:
    """Pieces of a few octets to a few hundred, chosen by the input."""
    sizes = cycle(sha256(data).digest())
    start = 0
    while start < len(sent):
        size = 1 + next(sizes) % 16 * (next(sizes) % 16) * (1 + start // 4096)
        yield sent[start : start + size]
        start += size


def converse(pieces: Iterable[bytes]) -> Heard:
    """All that comes of it; the contents of a message say how its call is answered."""
    connection = Connection(0.0)
    heard: list[tuple[int, bytes, bytes]] = []
    waiting: list[Call] = []
    output = b""
    for piece in pieces:
        for call in calls_in(connection, piece):
            heard.append((call.stream_id, call.head.path, call.message))
            answer(connection, call, waiting)
        output += connection.take_output()
        assert_bounded(connection)
    for call in waiting:
        connection.answer(call, call.message)
    return Heard(heard, output + farewell(connection))


def answer(connection: Connection, call: Call, waiting: list[Call]) -> None:
    if call.message == b"refuse":
        connection.refuse(call, UNKNOWN_METHOD)
    elif call.message == b"later":
        waiting.append(call)
    else:
        connection.answer(call, call.message[::-1])


def assert_bounded(connection: Connection) -> None:
    """What is kept of a peer that says no more."""
    assert len(connection._buffer) < h2.FRAME_HEADER_BYTES + h2.MAX_FRAME_BYTES
    assert len(connection.calls) <= MAX_CONCURRENT_STREAMS
    assert connection.fault is None or (connection.finished and not connection.calls)


def farewell(connection: Connection) -> bytes:
    """After a drain and every deadline, nothing is left under way."""
    connection.begin_drain()
    connection.end_drain()
    connection.expire(LONG_AFTER)
    assert connection.finished
    assert not connection.calls
    return connection.take_output()


def assert_readable(output: bytes) -> None:
    """By a second reader of frames and header blocks; and each stream ends once."""
    decoder = hpack.Decoder()
    ended = set[int]()
    for each in frames(output):
        if isinstance(each, hyperframe.HeadersFrame):
            assert "END_HEADERS" in each.flags
            decoder.decode(each.data, raw=True)
        if isinstance(each, hyperframe.HeadersFrame | hyperframe.DataFrame):
            assert each.stream_id % 2 == 1
            assert each.stream_id not in ended
            if "END_STREAM" in each.flags:
                ended.add(each.stream_id)
        elif isinstance(each, hyperframe.RstStreamFrame):
            ended.add(each.stream_id)


def frames(output: bytes) -> Iterator[hyperframe.Frame]:
    """All of them, the last as whole as the first."""
    view = memoryview(output)
    while view:
        each, length = hyperframe.Frame.parse_frame_header(view[:9], strict=True)
        assert length <= h2.MAX_FRAME_BYTES
        assert len(view) >= 9 + length
        each.parse_body(view[9 : 9 + length])
        yield each
        view = view[9 + length :]
