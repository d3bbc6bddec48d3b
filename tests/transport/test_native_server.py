"""The native server on real sockets, with two strict clients that others wrote: h2 and grpcio."""

import asyncio
import gc
import socket
import ssl
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from errno import ENOTCONN
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authz_service.address import Address
from authz_service.errors import ConfigurationError
from authz_service.transport import backlog, native_calls, native_peer, native_server
from authz_service.transport import http2_frames as frame_types
from authz_service.transport.backlog import BURST_SECONDS, LONGEST_TURN_SECONDS, LULL_SECONDS, Lateness
from authz_service.transport.check_service import METHOD
from authz_service.transport.grpc_wire import LONGEST_CALL_SECONDS, MESSAGE_PREFIX, UNKNOWN_METHOD, CallRefused
from authz_service.transport.health import HEALTH_CHECK
from authz_service.transport.http2 import HANDSHAKE_SECONDS
from authz_service.transport.http2_streams import Arrivals
from authz_service.transport.listening import is_served
from authz_service.transport.native_calls import CHECK
from authz_service.transport.native_server import SERVICE, NativeServer
from tests.support.certificates import Authority
from tests.support.http2 import (
    ACK,
    CALL_HEADERS,
    HELLO,
    Client,
    Frame,
    data,
    message,
    read_frames,
    settings,
    window_update,
)

LOOPBACK = Address(host="127.0.0.1", port=0)
NEVER_LATE = Lateness(processor_timer=lambda: 0.0)
"""Whatever the machine does: a process that never works is not behind with it."""
CallCheck = Callable[[bytes], Awaitable[bytes]]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No turn ends because the machine takes its time: a test that is about time sets it."""
    monkeypatch.setattr(native_calls, "timer", lambda: 7.0)


def one_by_one(check: native_calls.Handler) -> native_calls.HandlerOfMany:
    def checks(calls: Sequence[tuple[bytes, bytes]], seconds: float) -> list[native_calls.Answer]:
        answers: list[native_calls.Answer] = []
        end = native_calls.timer() + seconds
        for call in calls:
            answers.append(check(*call))
            if native_calls.timer() >= end:
                break
        return answers

    return checks


class Service:
    """Stands in for CheckService: answers in capitals; ``wait`` until released, ``fail`` by an exception."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()

    def check(self, request: bytes, _traceparent: bytes) -> bytes | Awaitable[bytes]:
        if request == b"fail":
            raise RuntimeError("a defect")
        return self._slow(request) if request.startswith(b"wait") else request.upper()

    def check_together(self, calls: Sequence[tuple[bytes, bytes]], seconds: float) -> Sequence[native_calls.Answer]:
        return one_by_one(self.check)(calls, seconds)

    def refuse_late(self, _request: bytes, _traceparent: bytes) -> bytes:
        return b"too late"

    async def _slow(self, request: bytes) -> bytes:
        self.waiting.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if request == b"wait and fail":
            raise RuntimeError("a defect, later")
        return request.upper()


@asynccontextmanager
async def running(
    service: Service, *addresses: Address, tls: ssl.SSLContext | None = None
) -> AsyncIterator[NativeServer]:
    server = NativeServer(service, addresses or (LOOPBACK,), tls=tls, lateness=NEVER_LATE)
    await server.start()
    await server.set_serving(serving=True)
    try:
        yield server
    finally:
        await server.stop(0)


@asynccontextmanager
async def grpcio_channel(server: NativeServer, index: int = 0) -> AsyncIterator[grpc.aio.Channel]:
    address = server.addresses[index]
    target = f"unix:{address.path}" if address.path else str(address)
    async with grpc.aio.insecure_channel(target, options=(("grpc.max_send_message_length", -1),)) as channel:
        yield channel


@asynccontextmanager
async def plain(server: NativeServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare socket."""
    address = server.addresses[0]
    reader, writer = await asyncio.open_connection(address.host, address.port, limit=1024)
    try:
        yield reader, writer
    finally:
        writer.close()


@asynccontextmanager
async def connected(server: NativeServer) -> AsyncIterator["H2Client"]:
    async with plain(server) as (reader, writer):
        yield H2Client(reader, writer)


async def frames_until(reader: asyncio.StreamReader, kind: int) -> list[Frame]:
    """The frames up to the first of a kind, and nothing behind it."""
    frames: list[Frame] = []
    while not frames or frames[-1].type != kind:
        head = await reader.readexactly(9)
        frames += read_frames(head + await reader.readexactly(int.from_bytes(head[:3])))
    return frames


def check_on(channel: grpc.aio.Channel, method: str = METHOD) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(method)


async def test_grpcio_client_is_answered() -> None:
    async with running(Service()) as server, grpcio_channel(server) as channel:
        assert await check_on(channel)(b"hello") == b"HELLO"


async def test_many_grpcio_calls_at_once_each_get_their_own_answer() -> None:
    async with running(Service()) as server, grpcio_channel(server) as channel:
        answers = await asyncio.gather(*(check_on(channel)(b"call %d" % n) for n in range(300)))
    assert answers == [b"CALL %d" % n for n in range(300)]


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 70_000, 4 * 1024 * 1024])
async def test_messages_of_any_size_pass_both_ways(size: int) -> None:
    """16,379 octets and the prefix fill a frame; 70,000 exceed the first window; 4 MiB is the limit of both sides."""
    async with running(Service()) as server, grpcio_channel(server) as channel:
        assert await check_on(channel)(b"a" * size) == b"A" * size


async def refusal(call: Awaitable[bytes]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    code = error.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


async def test_message_above_four_mebibytes_is_refused_and_the_connection_goes_on() -> None:
    async with running(Service()) as server, grpcio_channel(server) as channel:
        assert await refusal(check_on(channel)(bytes(4 * 1024 * 1024 + 1))) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await check_on(channel)(b"next") == b"NEXT"


async def test_unknown_method_is_unimplemented() -> None:
    async with running(Service()) as server, grpcio_channel(server) as channel:
        assert await refusal(check_on(channel, f"/{SERVICE}/Guess")(b"")) is grpc.StatusCode.UNIMPLEMENTED


async def test_compressed_message_is_unimplemented() -> None:
    async with running(Service()) as server, grpcio_channel(server) as channel:
        call = check_on(channel)(b"a" * 1000, compression=grpc.Compression.Gzip)
        assert await refusal(call) is grpc.StatusCode.UNIMPLEMENTED


async def test_slow_call_keeps_nobody_waiting() -> None:
    service = Service()
    async with running(service) as server, grpcio_channel(server) as channel:
        slow = asyncio.ensure_future(check_on(channel)(b"wait"))
        await service.waiting.wait()
        assert await check_on(channel)(b"fast") == b"FAST"
        service.released.set()
        assert await slow == b"WAIT"


async def test_call_that_waits_past_its_deadline_is_told_so_by_the_server() -> None:
    service = Service()
    async with running(service) as server, connected(server) as client:
        client.request(1, b"wait", timeout=b"20m")
        events = await client.until(h2.events.StreamEnded)
        assert service.cancelled.is_set()
    (response,) = [event for event in events if isinstance(event, h2.events.ResponseReceived)]
    assert dict(response.headers)[b"grpc-status"] == b"4"


async def test_cancelled_call_stops_its_work() -> None:
    service = Service()
    async with running(service) as server, grpcio_channel(server) as channel:
        call = check_on(channel)(b"wait")
        await service.waiting.wait()
        call.cancel()
        await service.cancelled.wait()


async def test_lost_connection_stops_its_work() -> None:
    service = Service()
    async with running(service) as server, connected(server) as client:
        client.request(1, b"wait")
        await service.waiting.wait()
        client.writer.transport.abort()
        assert await server._wait_deserted(30)
        await asyncio.sleep(0)  # the turn in which the task ends
        assert service.cancelled.is_set(), "not only when its deadline comes"


@pytest.mark.parametrize("request_", [b"fail", b"wait and fail"])
async def test_defect_ends_one_call_and_is_logged(request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    service = Service()
    service.released.set()
    async with running(service) as server, grpcio_channel(server) as channel:
        assert await refusal(check_on(channel)(request_)) is grpc.StatusCode.INTERNAL
        assert await check_on(channel)(b"next") == b"NEXT"
    assert "defect" in caplog.text


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_health_says_what_it_was_told(name: str) -> None:
    async with running(Service()) as server, grpcio_channel(server) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs do not know its methods
        request = health_pb2.HealthCheckRequest(service=name)
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        await server.set_serving(serving=False)
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_of_an_unknown_service_is_not_found_and_watching_is_unimplemented() -> None:
    async with running(Service()) as server, grpcio_channel(server) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # its stubs do not know its methods
        assert await refusal(health.Check(health_pb2.HealthCheckRequest(service="x"))) is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await health.Watch(health_pb2.HealthCheckRequest()).read()
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.skipif(sys.platform != "linux", reason="the options are Linux's")
async def test_connection_to_a_machine_that_is_lost_does_not_stay_for_good() -> None:
    async with running(Service()) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.addresses[0].port)
        while not server._peers:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0)
        (peer,) = server._peers
        accepted = peer._transport.get_extra_info("socket")
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        idle, interval, probes = (accepted.getsockopt(socket.IPPROTO_TCP, option) for option in options)
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert idle + interval * probes == 120
        writer.close()


async def test_serves_tcp_and_unix_sockets_together(tmp_path: Path) -> None:
    async with running(Service(), LOOPBACK, Address(path=f"{tmp_path}/authz.sock")) as server:
        assert server.addresses[0].port != 0
        for index in range(2):
            async with grpcio_channel(server, index) as channel:
                assert await check_on(channel)(b"hello") == b"HELLO"


async def test_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "authz.sock"
    async with running(Service(), Address(path=str(path))):
        assert path.is_socket()
    assert not path.exists()


async def test_socket_is_removed_before_it_looks_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A successor that found it so would put its own there, which would be removed."""
    served: list[bool] = []

    def unlink(address: Address) -> None:
        served.append(is_served(address))

    async with running(Service(), Address(path=f"{tmp_path}/authz.sock")):
        monkeypatch.setattr(native_server, "unlink", unlink)
    assert served == [True]


async def test_socket_that_a_dead_server_left_behind_is_replaced(tmp_path: Path) -> None:
    address = Address(path=f"{tmp_path}/authz.sock")
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(address.path)
    async with running(Service(), address) as server, grpcio_channel(server) as channel:
        assert await check_on(channel)(b"hello") == b"HELLO"


async def test_taken_address_is_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    async with running(Service(), LOOPBACK, Address(path=f"{tmp_path}/authz.sock")) as server:
        for address in (*server.addresses, Address(path=f"{tmp_path}/no/such/folder"), Address(path=str(file))):
            with pytest.raises(ConfigurationError, match="AUTHZ_LISTEN: cannot listen on"):
                NativeServer(Service(), (LOOPBACK, address))


async def test_drain_finishes_calls_and_takes_no_new_connections() -> None:
    service = Service()
    async with running(service) as server, plain(server) as (reader, writer):
        raw = Client()
        writer.write(HELLO + raw.call(1, b"wait"))
        await service.waiting.wait()
        stopping = asyncio.ensure_future(server.stop(30))
        frames = await frames_until(reader, frame_types.PING)
        assert [each.payload[:4] for each in frames if each.type == frame_types.GOAWAY] == [b"\x7f\xff\xff\xff"]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.addresses[0].host, server.addresses[0].port)
        writer.write(frame_types.frame(frame_types.PING, frame_types.ACK, 0, frames[-1].payload))
        (second,) = await frames_until(reader, frame_types.GOAWAY)
        assert second.payload[:4] == b"\0\0\0\1"
        service.released.set()
        rest = read_frames(await reader.read())
        assert [each.payload[5:] for each in rest if each.type == frame_types.DATA] == [b"WAIT"]
        writer.close()
        await stopping


async def test_drain_of_grpcio_clients_loses_no_call() -> None:
    service = Service()
    async with running(service) as server, grpcio_channel(server) as channel:
        calls = [asyncio.ensure_future(check_on(channel)(b"wait %d" % n)) for n in range(100)]
        await service.waiting.wait()
        stopping = asyncio.ensure_future(server.stop(30))
        service.released.set()
        assert await asyncio.gather(*calls) == [b"WAIT %d" % n for n in range(100)]
        await stopping


async def test_stop_without_grace_ends_everything() -> None:
    service = Service()
    async with running(service) as server, plain(server) as (reader, writer):
        writer.write(HELLO + Client().call(1, b"wait"))
        await service.waiting.wait()
        await server.stop(0)
        with suppress(ConnectionError):
            await reader.read()
        await service.cancelled.wait()


async def test_connection_error_reaches_the_client_before_the_end() -> None:
    async with running(Service()) as server, plain(server) as (reader, writer):
        writer.write(HELLO + frame_types.frame(frame_types.PING, 0, 0, b"?") + bytes(100_000))
        frames = read_frames(await reader.read())
    assert frames[-1].type == frame_types.GOAWAY
    assert frames[-1].payload[4:8] == b"\0\0\0\6"


async def test_peer_that_does_not_read_is_not_read_from() -> None:
    """Megabytes of answers wait in the kernel and for the peer, not in our memory."""
    service = Service()
    async with running(service) as server, plain(server) as (reader, writer):
        raw = Client()
        raw.encoder.header_table_size = 0
        patient = [field for field in CALL_HEADERS if field[0] != b"grpc-timeout"]  # whatever the machine's speed
        block = raw.headers(1, fields=patient)[9:]
        writer.write(HELLO + window_update(0, 1 << 30) + settings((4, 1 << 30)))
        stream_id = 1
        while writer.transport.get_write_buffer_size() < 4 * 1024 * 1024:  # i.e. until the server reads no more
            headers = frame_types.frame(frame_types.HEADERS, frame_types.END_HEADERS, stream_id, block)
            writer.write(headers + data(stream_id, message(b"a" * 15_000)))
            stream_id += 2
            await asyncio.sleep(0)
        (peer,) = server._peers
        assert peer._transport.get_write_buffer_size() < 2 * 1024 * 1024
        answered = 0
        while answered < stream_id // 2:  # all of it is answered in the end
            answered += (await frames_until(reader, frame_types.DATA))[-1].payload == message(b"A" * 15_000)


class Pipe(asyncio.Transport):
    """A transport whose other end reads when the test says so, and not before."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.unread = b""
        self.reading = True
        protocol.connection_made(self)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limit = high or low or 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.unread += bytes(data)
        if len(self.unread) > self.limit:
            self.protocol.pause_writing()

    def read_all(self) -> bytes:
        data, self.unread = self.unread, b""
        self.protocol.resume_writing()
        return data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.protocol.connection_lost(None)


def peer_of(
    check: native_calls.Handler, late: native_calls.Handler | None = None, lateness: Lateness = NEVER_LATE,
    checks: native_calls.HandlerOfMany | None = None,
) -> native_peer.Peer:
    methods = native_calls.Methods(
        {CHECK: check, HEALTH_CHECK: check}, {CHECK: late or check}, checks or one_by_one(check)
    )
    return native_peer.Peer(methods, lateness, lambda _: True, lambda _: None)


async def test_of_a_connection_that_is_lost_nothing_is_kept() -> None:
    everywhere = Arrivals()
    methods = native_calls.Methods({}, {}, lambda *_: [])
    peer, client = native_peer.Peer(methods, NEVER_LATE, lambda _: True, lambda _: None, everywhere), Client()
    pipe = Pipe(peer)
    peer.data_received(HELLO + client.headers(1) + data(1, bytes(1000), 0))
    assert everywhere.size == 1000
    pipe.abort()
    assert everywhere.size == 0


async def test_what_arrives_is_counted_on_all_connections_together(tmp_path: Path) -> None:
    server = NativeServer(Service(), (Address(path=f"{tmp_path}/authz.sock"),), lateness=NEVER_LATE)
    for number in (1, 2):
        client = Client()
        Pipe(server._new_peer()).protocol.data_received(HELLO + client.headers(1) + data(1, bytes(1000), 0))
        assert server._arrivals.size == number * 1000
    await server.stop(0)


class Costly:
    """Each answer takes so many seconds, on a clock that otherwise stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.now = 7.0
        self.asked: list[bytes] = []
        self._seconds = seconds
        monkeypatch.setattr(native_calls, "timer", self.time)

    def time(self) -> float:
        return self.now

    def check(self, content: bytes, _traceparent: bytes) -> bytes:
        self.asked.append(content)
        self.now += self._seconds
        return b"decided"


async def all_answered(pipe: Pipe) -> None:
    """Turn after turn."""
    while not pipe.reading:  # noqa: ASYNC110 - the next turn is all there is to wait for
        await asyncio.sleep(0)


async def test_one_read_of_many_calls_with_large_answers_is_answered_at_the_pace_of_the_reader() -> None:
    peer = peer_of(lambda *_: bytes(10_000))
    pipe, raw = Pipe(peer), Client()
    calls = b"".join(raw.call(stream_id) for stream_id in range(1, 2001, 2))
    peer.data_received(HELLO + window_update(0, 1 << 30) + calls)
    assert not pipe.reading
    peer.data_received(raw.call(2001))  # was read before the pause took effect
    answered, most = 0, 0
    while pipe.unread:
        while len(pipe.unread) < pipe.limit and not pipe.reading:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        most = max(most, len(pipe.unread))
        answered += pipe.read_all().count(b"grpc-status")
    assert answered == 1001
    assert most < native_peer.WRITE_BUFFER_BYTES + (native_calls.TURN_PIECES + 2) * 10_100
    assert pipe.reading


async def test_what_floods_one_connection_keeps_another_waiting_for_one_turn_only() -> None:
    answered: list[str] = []

    def peer(name: str) -> native_peer.Peer:
        def check(*_: bytes) -> bytes:
            answered.append(name)
            return b"ok"

        return peer_of(check)

    flooded, calm = peer("flooded"), peer("calm")
    pipes = Pipe(flooded), Pipe(calm)
    calls = 5 * native_calls.TURN_PIECES + 3
    flooded.data_received(HELLO + b"".join(Client().call(number) for number in range(1, 2 * calls, 2)))
    assert not pipes[0].reading
    calm.data_received(HELLO + Client().call(1))
    turn = answered.index("calm")
    assert 0 < turn <= native_calls.TURN_PIECES
    await all_answered(pipes[0])
    assert answered.count("flooded") == calls
    assert [pipe.unread.count(b"grpc-status") for pipe in pipes] == [calls, 1]


HEALTH_HEADERS = [(name, HEALTH_CHECK if name == b":path" else value) for name, value in CALL_HEADERS]


def health_check(stream_id: int) -> bytes:
    return Client().headers(stream_id, fields=HEALTH_HEADERS) + data(stream_id, message(b""))


async def test_calls_of_one_read_are_decided_together_and_each_has_its_own_answer() -> None:
    asked: list[list[bytes]] = []

    def checks(calls: Sequence[tuple[bytes, bytes]], _seconds: float) -> list[bytes]:
        asked.append([content for content, _ in calls])
        return [content.upper() for content, _ in calls]

    pipe = Pipe(peer_of(lambda content, _: content.upper(), checks=checks))
    client = Client()
    turns = [b"call %d" % number for number in range(20)]
    pipe.protocol.data_received(HELLO + b"".join(map(client.call, range(1, 40, 2), turns)))
    assert [content for together in asked for content in together] == turns
    assert len(asked) <= 2, "what comes before the first call takes a place"
    answers = [each for each in read_frames(bytes(pipe.unread)) if each.type == frame_types.DATA]
    assert [each.payload for each in answers] == [message(content.upper()) for content in turns]
    assert [each.stream_id for each in answers] == list(range(1, 40, 2))


async def test_calls_of_one_read_that_cannot_be_decided_together_are_decided_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipe = Pipe(peer_of(Service().check))
    client = Client()
    turns = [b"a", b"b", b"fail", b"c"]
    pipe.protocol.data_received(HELLO + b"".join(map(client.call, range(1, 8, 2), turns)))
    answers = [each.payload for each in read_frames(bytes(pipe.unread)) if each.type == frame_types.DATA]
    assert answers == [message(b"A"), message(b"B"), message(b"C")]
    assert "one by one" in caplog.text


async def test_a_call_that_is_reset_in_the_same_read_is_not_decided() -> None:
    asked: list[bytes] = []

    def check(content: bytes, _traceparent: bytes) -> bytes:
        asked.append(content)
        return content

    pipe, client = Pipe(peer_of(check)), Client()
    before = b"".join(map(client.call, range(1, 15, 2)))
    reset = client.call(15, b"reset") + frame_types.frame(frame_types.RST_STREAM, 0, 15, bytes(4))
    pipe.protocol.data_received(HELLO + before + reset + client.call(17, b"last"))
    assert asked == [b"hello"] * 7 + [b"last"]


async def test_a_turn_has_so_many_answers_and_no_more() -> None:
    pipe, client = Pipe(peer_of(lambda *_: b"ok")), Client()
    client.encoder.header_table_size = 0
    pipe.protocol.data_received(HELLO + client.call(1) + ACK + ACK)
    assert pipe.unread.count(b"grpc-status") == 1
    calls = 3 * native_calls.TURN_PIECES
    pipe.protocol.data_received(b"".join(map(client.call, range(3, 2 * calls, 2))))
    assert 0 <= 1 + native_calls.TURN_PIECES - pipe.unread.count(b"grpc-status") < native_calls.AT_ONCE
    await all_answered(pipe)
    assert pipe.unread.count(b"grpc-status") == calls


async def test_calls_of_one_read_are_each_answered_by_their_own_method() -> None:
    def check(*_: bytes) -> bytes:
        return b"check"

    methods = native_calls.Methods({CHECK: check, HEALTH_CHECK: lambda *_: b"health"}, {}, one_by_one(check))
    peer, client = native_peer.Peer(methods, NEVER_LATE, lambda _: True, lambda _: None), Client()
    pipe = Pipe(peer)
    first = client.call(1)
    health = client.headers(3, fields=HEALTH_HEADERS) + data(3, message(b""))
    peer.data_received(HELLO + first + health + client.call(5))
    answers = [each.payload for each in read_frames(bytes(pipe.unread)) if each.type == frame_types.DATA]
    assert answers == [message(b"check"), message(b"health"), message(b"check")]


async def test_calls_that_were_not_answered_together_are_asked_about_again() -> None:
    """Whatever the reason: no clock tells how many there will be."""
    peer, client = peer_of(lambda *_: b"alone", checks=lambda *_: [b"the first"]), Client()
    pipe = Pipe(peer)
    peer.data_received(HELLO + b"".join(map(client.call, (1, 3, 5))))
    await all_answered(pipe)
    assert pipe.unread.count(b"grpc-status") == 3


async def test_an_answer_that_was_waited_for_leaves_at_once() -> None:
    async def later() -> bytes:
        return b"waited for"

    pipe = Pipe(peer_of(lambda *_: later()))
    pipe.protocol.data_received(HELLO + Client().call(1))
    for _ in range(10):  # the tick of the server, which nobody calls here, would let it out as well
        await asyncio.sleep(0)
    assert b"waited for" in pipe.unread


HEADS = {"of a kind": CHECK, "of another kind between them": HEALTH_CHECK}


@pytest.mark.parametrize("path", HEADS.values(), ids=HEADS)
async def test_calls_for_which_a_turn_has_no_time_come_first_in_the_next(
    path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = Costly(monkeypatch, native_calls.TURN_SECONDS * 0.6)
    pipe, client = Pipe(peer_of(costly.check)), Client()
    fields = [(name, path if name == b":path" else value) for name, value in CALL_HEADERS]
    other = client.headers(1, fields=fields) + data(1, message(b"call 1"))
    turns = [b"call %d" % number for number in range(1, 100, 2)]
    pipe.protocol.data_received(HELLO + other + b"".join(map(client.call, range(3, 100, 2), turns[1:])))
    assert costly.asked == turns[:2]
    await all_answered(pipe)
    assert costly.asked == turns
    assert pipe.unread.count(b"grpc-status") == len(turns)


async def test_call_that_is_given_up_while_it_waits_for_the_next_turn_is_not_decided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costly = Costly(monkeypatch, native_calls.TURN_SECONDS)
    peer, client = peer_of(costly.check), Client()
    pipe = Pipe(peer)
    peer.data_received(HELLO + client.call(1, b"first") + client.call(3, b"second"))
    peer.tick(asyncio.get_running_loop().time() + LONGEST_CALL_SECONDS + 1)
    await all_answered(pipe)
    assert costly.asked == [b"first"]


async def test_calls_of_a_connection_that_is_gone_are_not_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    costly = Costly(monkeypatch, native_calls.TURN_SECONDS)
    peer, client = peer_of(costly.check), Client()
    Pipe(peer)
    more = range(3, 4 * native_calls.AT_ONCE, 2)  # than are read at once
    peer.data_received(HELLO + client.call(1, b"first") + b"".join(map(client.call, more)))
    peer.connection_lost(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert costly.asked == [b"first"]


async def test_peer_that_is_slow_to_read_is_given_no_turn_that_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that were waited for may fill the buffer meanwhile."""
    costly = Costly(monkeypatch, native_calls.TURN_SECONDS)
    peer, client = peer_of(costly.check), Client()
    pipe = Pipe(peer)
    peer.data_received(HELLO + client.call(1, b"first") + client.call(3, b"second"))
    peer.pause_writing()
    for _ in range(3):
        await asyncio.sleep(0)
    assert costly.asked == [b"first"]
    peer.resume_writing()
    await all_answered(pipe)
    assert costly.asked == [b"first", b"second"]


async def test_what_arrives_behind_calls_that_are_due_waits_for_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport may have read it already when it is told to pause."""
    costly = Costly(monkeypatch, native_calls.TURN_SECONDS)
    pipe, client = Pipe(peer_of(costly.check)), Client()
    pipe.protocol.data_received(HELLO + client.call(1, b"first") + client.call(3, b"second"))
    pipe.protocol.data_received(client.call(5, b"third"))
    assert costly.asked == [b"first"]
    await all_answered(pipe)
    assert costly.asked == [b"first", b"second", b"third"]


async def test_connection_that_is_gone_is_let_go_at_once() -> None:
    """Not by the garbage collector, which runs seldom, and a client can connect often."""
    service = Service()
    peer, held_by_peer = peer_of(service.check), weakref.ref(service)
    pipe = Pipe(peer)
    peer.data_received(HELLO + Client().call(1))
    gc.disable()
    try:
        peer.connection_lost(None)
        del pipe.protocol, pipe, peer, service
        assert held_by_peer() is None
    finally:
        gc.enable()


async def test_calls_that_are_refused_take_turns_like_others() -> None:
    asked: list[str] = []

    def peer(name: str) -> native_peer.Peer:
        def check(*_: bytes) -> bytes:
            asked.append(name)
            raise CallRefused(UNKNOWN_METHOD)

        return peer_of(check)

    flooded, calm = peer("flooded"), peer("calm")
    pipes = Pipe(flooded), Pipe(calm)
    calls = range(1, 4 * native_calls.TURN_PIECES, 2)
    flooded.data_received(HELLO + b"".join(map(health_check, calls)))
    calm.data_received(HELLO + Client().call(1))
    assert 0 < asked.index("calm") <= native_calls.TURN_PIECES
    await all_answered(pipes[0])


def gets(client: Client, turn: int) -> bytes:
    fields = [(b":method", b"GET"), *CALL_HEADERS[1:]]
    return client.headers(2 * turn + 1, frame_types.END_HEADERS | frame_types.END_STREAM, fields)


def compressed_messages(client: Client, turn: int) -> bytes:
    return client.headers(2 * turn + 1) + data(2 * turn + 1, MESSAGE_PREFIX.pack(1, 0))


def pings(_client: Client, turn: int) -> bytes:
    return frame_types.frame(frame_types.PING, 0, 0, b"%08d" % turn)


FLOODS_OF_NO_CALLS = {"GET": gets, "compressed messages": compressed_messages, "PING": pings}


@pytest.mark.parametrize("flood", FLOODS_OF_NO_CALLS.values(), ids=FLOODS_OF_NO_CALLS)
async def test_what_is_no_call_takes_turns_like_calls(flood: Callable[[Client, int], bytes]) -> None:
    flooded, calm = peer_of(lambda *_: b"ok"), peer_of(lambda *_: b"ok")
    pipes = Pipe(flooded), Pipe(calm)
    client = Client()
    frames = 3 * native_calls.TURN_PIECES
    flooded.data_received(HELLO + b"".join(flood(client, turn) for turn in range(frames)))
    assert not pipes[0].reading, "there is more"
    calm.data_received(HELLO + Client().call(1))
    assert b"grpc-status" in pipes[1].unread
    await all_answered(pipes[0])
    assert frames <= len(read_frames(bytes(pipes[0].unread))) <= 3 * frames


async def test_message_of_a_call_that_waits_is_let_go() -> None:
    service = Service()
    peer = peer_of(service.check)
    Pipe(peer)
    peer.data_received(HELLO + Client().call(1, b"wait"))
    (waiting,) = peer._connection.calls.values()
    assert waiting.message == b""
    peer.connection_lost(None)
    await asyncio.sleep(0)


async def test_reset_in_the_same_read_as_its_slow_call_is_no_news() -> None:
    """Where a coroutine is never awaited, Python says so among the lines of the log."""
    service = Service()
    peer = peer_of(service.check)
    Pipe(peer)
    peer.data_received(HELLO + Client().call(1, b"wait") + frame_types.frame(frame_types.RST_STREAM, 0, 1, bytes(4)))
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert not service.waiting.is_set()


async def test_what_takes_its_time_keeps_another_waiting_for_little_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    costly = Costly(monkeypatch, native_calls.TURN_SECONDS * 0.4)
    peer = peer_of(costly.check)
    pipe, raw = Pipe(peer), Client()
    peer.data_received(HELLO + b"".join(raw.call(number) for number in range(1, 20, 2)))
    assert pipe.unread.count(b"decided") == 3
    await all_answered(pipe)
    assert pipe.unread.count(b"decided") == 10


async def test_what_waits_too_long_is_refused_and_the_next_burst_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    costly = Costly(monkeypatch, native_calls.TURN_SECONDS)
    peer = peer_of(costly.check, lambda *_: b"refused", Lateness(costly.time, costly.time))
    pipe, raw = Pipe(peer), Client()
    patience = int(BURST_SECONDS / native_calls.TURN_SECONDS)
    calls = patience + 100
    peer.data_received(HELLO + b"".join(raw.call(number) for number in range(1, 2 * calls, 2)))
    await all_answered(pipe)
    decided, refused = (pipe.unread.count(word) for word in (b"decided", b"refused"))
    assert patience <= decided <= patience + 3
    assert decided + refused == calls
    pipe.unread = b""
    await asyncio.sleep(LULL_SECONDS * 2)
    peer.data_received(raw.call(2 * calls + 1))
    assert b"decided" in pipe.unread


async def test_what_comes_call_by_call_and_waits_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many connections that are as busy, what waits is not in what was read, but behind it."""
    costly = Costly(monkeypatch, native_calls.TURN_SECONDS)
    monkeypatch.setattr(backlog, "LULL_SECONDS", 60.0)
    lateness = Lateness(costly.time, costly.time)
    pipe, raw = Pipe(peer_of(costly.check, lambda *_: b"refused", lateness)), Client()
    pipe.protocol.data_received(HELLO + raw.call(1))
    await all_answered(pipe)
    for _ in range(int(2 * BURST_SECONDS / LONGEST_TURN_SECONDS)):  # the others have their turns
        costly.now += LONGEST_TURN_SECONDS
        lateness.took(LONGEST_TURN_SECONDS)
    pipe.protocol.data_received(raw.call(3))
    assert (pipe.unread.count(b"decided"), pipe.unread.count(b"refused")) == (1, 1)


async def test_the_time_that_a_peer_takes_to_read_its_answers_is_not_held_against_its_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 7.0
    monkeypatch.setattr(native_calls, "timer", lambda: now)
    lateness = Lateness(lambda: now, lambda: now)
    answer = bytes(native_peer.WRITE_BUFFER_BYTES // native_calls.TURN_PIECES * 3 // 4)
    peer = peer_of(lambda *_: answer, lambda *_: b"refused", lateness)
    pipe, raw = Pipe(peer), Client()
    calls = 3 * native_calls.TURN_PIECES
    sent = b"".join(raw.call(number) for number in range(1, 2 * calls, 2))
    peer.data_received(HELLO + window_update(0, 1 << 30) + sent)
    while peer._stalled_since is None:  # noqa: ASYNC110 - until the second turn; the calls of the third have waited
        await asyncio.sleep(0)
    while now < 7.0 + 2 * BURST_SECONDS:  # meanwhile others are served
        now += LONGEST_TURN_SECONDS
        lateness.took(LONGEST_TURN_SECONDS)
    before = pipe.read_all().count(b"grpc-status")
    await all_answered(pipe)
    assert 0 < before < calls
    assert before + pipe.unread.count(b"grpc-status") == calls
    assert b"refused" not in pipe.unread


async def test_what_comes_after_the_goodbye_is_not_kept() -> None:
    peer = peer_of(lambda *_: b"ok")
    pipe, raw = Unplugged(peer), Client()
    peer.data_received(HELLO + b"".join(raw.call(number) for number in range(1, 4 * native_calls.TURN_PIECES, 2)))
    assert not pipe.reading
    kept = len(peer._connection._buffer)
    peer._ending = True
    peer.data_received(bytes(100_000))
    assert len(peer._connection._buffer) == kept


class Unplugged(Pipe):
    """The other end is gone already, and the socket knows it."""

    aborted = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        raise OSError(ENOTCONN, "Transport endpoint is not connected")

    def abort(self) -> None:
        self.aborted = True


async def test_peer_that_is_gone_before_the_goodbye_troubles_nobody() -> None:
    peer = peer_of(lambda *_: b"")
    pipe = Unplugged(peer)
    peer.data_received(HELLO)
    peer.begin_drain()
    peer.end_drain()
    assert pipe.aborted


async def test_peer_that_reads_nothing_for_long_is_let_go() -> None:
    """The clock is the test's; the tick is called by hand."""
    async with running(Service()) as server, plain(server) as (_, writer):
        raw = Client()
        writer.write(HELLO + window_update(0, 1 << 30) + settings((4, 1 << 30)))
        stream_id = 1
        while not server._peers or next(iter(server._peers))._stalled_since is None:
            writer.write(raw.call(stream_id, b"a" * 15_000))
            stream_id += 2
            await asyncio.sleep(0)
        (peer,) = server._peers
        now = asyncio.get_running_loop().time()
        peer.tick(now)
        assert not peer._transport.is_closing()
        peer.tick(now + native_peer.STALL_SECONDS + 1)
        assert peer._transport.is_closing()


async def test_tick_lets_go_of_peers_that_never_say_hello() -> None:
    async with running(Service()) as server, plain(server) as (reader, _):
        await frames_until(reader, frame_types.SETTINGS)
        (peer,) = server._peers
        peer.tick(asyncio.get_running_loop().time() + HANDSHAKE_SECONDS + 1)
        frames = await frames_until(reader, frame_types.GOAWAY)
    assert frames[-1].payload[7] == frame_types.ErrorCode.SETTINGS_TIMEOUT


async def test_second_goaway_does_not_wait_for_a_silent_peer() -> None:
    with patch.object(native_server, "DRAIN_SECONDS", 0):
        await drain_a_silent_peer()


async def drain_a_silent_peer() -> None:
    async with running(Service()) as server, plain(server) as (reader, writer):
        writer.write(HELLO)
        await frames_until(reader, frame_types.SETTINGS)
        stopping = asyncio.ensure_future(server.stop(30))
        await frames_until(reader, frame_types.PING)
        await frames_until(reader, frame_types.GOAWAY)
        assert await reader.read() == b""
        writer.close()
        await stopping


@pytest.mark.parametrize(("grace", "waits"), [(30, [1, 29]), (1, [0.5, 0.5])])
async def test_a_peer_that_stays_silent_gets_the_second_goaway_in_time_for_its_calls(
    grace: float, waits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[tuple[float, list[int]]] = []
    server = NativeServer(Service(), (Address(path=f"{tmp_path}/authz.sock"),), lateness=NEVER_LATE)
    pipe = Pipe(server._new_peer())
    pipe.protocol.data_received(HELLO + Client().call(1, b"wait"))

    async def deserted(seconds: float) -> bool:
        goaways = [each.payload[:4] for each in read_frames(pipe.unread) if each.type == frame_types.GOAWAY]
        waited.append((seconds, list(map(int.from_bytes, goaways))))
        return False

    monkeypatch.setattr(server, "_wait_deserted", deserted)
    await server.stop(grace)
    first, second = frame_types.MAX_STREAM_ID, 1
    assert waited == [(waits[0], [first]), (waits[1], [first, second])]


async def test_tls_client_that_speaks_h2_is_answered(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    trust = ssl.create_default_context(cafile=authority.ca_file)
    trust.set_alpn_protocols(["h2"])
    async with running(Service(), tls=authority.server()) as server:
        address = server.addresses[0]
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=trust)
        client = H2Client(reader, writer)
        client.request(1, b"hello")
        await client.until(h2.events.StreamEnded)
        writer.close()
    assert client.bodies == {1: b"\0\0\0\0\x05HELLO"}


async def test_tls_client_without_alpn_is_let_go(tmp_path: Path) -> None:
    """RFC 9113 section 3.2."""
    authority = Authority(tmp_path)
    trust = ssl.create_default_context(cafile=authority.ca_file)
    async with running(Service(), tls=authority.server()) as server:
        address = server.addresses[0]
        with suppress(ConnectionError):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=trust)
            assert await reader.read() == b""
            writer.close()


async def test_failed_tls_handshakes_leave_nothing_behind(tmp_path: Path) -> None:
    async with running(Service(), tls=Authority(tmp_path).server()) as server, plain(server) as (reader, writer):
        writer.write(HELLO)
        with suppress(ConnectionError):
            await reader.read()
        assert server._peers == set()


async def test_connection_beyond_the_limit_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_server, "MAX_CONNECTIONS", 1)
    async with running(Service()) as server, connected(server) as client:
        client.request(1, b"hello")
        await client.until(h2.events.StreamEnded)
        async with plain(server) as (reader, _):
            with suppress(ConnectionError):
                assert await reader.read() == b""
        client.request(3, b"still here")
        await client.until(h2.events.StreamEnded)


@pytest.mark.parametrize("library", ["grpc", "google.protobuf"])
async def test_a_process_with_this_server_does_not_load(library: str) -> None:
    rooms = "authz_service.server, authz_service.transport.native_server"
    code = f"import sys, {rooms}; sys.exit({library!r} in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


class H2Client:
    """The h2 library on a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.bodies: dict[int, bytes] = {}
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def request(self, stream_id: int, content: bytes, *, timeout: bytes = b"10S") -> None:
        headers = [
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", METHOD.encode()), (b":authority", b"authz"),
            (b"te", b"trailers"), (b"content-type", b"application/grpc+proto"), (b"grpc-timeout", timeout),
        ]  # fmt: skip
        self.h2.send_headers(stream_id, headers)
        self.h2.send_data(stream_id, message(content), end_stream=True, pad_length=3)
        self.flush()

    async def until(self, kind: type[h2.events.Event]) -> list[h2.events.Event]:
        """All events up to the first of a kind."""
        events: list[h2.events.Event] = []
        while not any(isinstance(event, kind) for event in events):
            received = await self.reader.read(65536)
            assert received, "the connection ended"
            events += self._take(received)
        return events

    async def until_closed(self) -> None:
        while received := await self.reader.read(65536):
            self._take(received)

    def _take(self, received: bytes) -> list[h2.events.Event]:
        events = self.h2.receive_data(received)
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
        self.flush()
        return events


async def test_h2_client_is_answered_call_after_call() -> None:
    async with running(Service()) as server, connected(server) as client:
        for stream_id in range(1, 41, 2):
            client.request(stream_id, b"call %d" % stream_id)
            await client.until(h2.events.StreamEnded)
    assert client.bodies[39][5:] == b"CALL 39"


ON_UVLOOP = [
    test_grpcio_client_is_answered, test_slow_call_keeps_nobody_waiting, test_lost_connection_stops_its_work,
    test_drain_finishes_calls_and_takes_no_new_connections, test_stop_without_grace_ends_everything,
    test_connection_error_reaches_the_client_before_the_end, test_peer_that_does_not_read_is_not_read_from,
    test_peer_that_reads_nothing_for_long_is_let_go, test_tick_lets_go_of_peers_that_never_say_hello,
    test_second_goaway_does_not_wait_for_a_silent_peer,
]  # fmt: skip


@pytest.mark.parametrize("scenario", ON_UVLOOP)
def test_same_on_uvloop(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    """The loop of production, whose transports differ from asyncio's in details."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


@pytest.mark.parametrize(
    "scenario",
    [test_tls_client_that_speaks_h2_is_answered, test_tls_client_without_alpn_is_let_go,
     test_failed_tls_handshakes_leave_nothing_behind, test_serves_tcp_and_unix_sockets_together],
)  # fmt: skip
def test_same_with_files_on_uvloop(scenario: Callable[[Path], Coroutine[None, None, None]], tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario(tmp_path))
