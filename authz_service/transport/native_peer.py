"""One connection of the native server: between asyncio's transport and the HTTP/2 connection without I/O."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, cast

from authz_service.transport.backlog import Backlog, Lateness
from authz_service.transport.check_service import METHOD
from authz_service.transport.grpc_wire import FAILED, UNKNOWN_METHOD, CallRefused
from authz_service.transport.http2 import Connection
from authz_service.transport.http2_streams import CLOSED, Call
from authz_service.transport.waiting import answer_once_known

WRITE_BUFFER_BYTES = 256 * 1024
"""While more than this waits for the peer to read, nothing is read from it."""
TURN_SECONDS = 0.0005
"""Then others have theirs: what floods one connection keeps nobody waiting on another."""
TURN_PIECES = 64
"""As many answers are gathered for one write at most."""
AT_ONCE = 32
"""As many calls are decided together at most."""
STALL_SECONDS = 30.0
"""A peer that reads nothing for so long is let go."""
LINGER_SECONDS = 1.0
"""Between GOAWAY and the close: a socket that is closed on unread bytes sends RST, and GOAWAY would be lost."""

CHECK = METHOD.encode()

log = logging.getLogger(__name__)
timer = time.perf_counter

Answer = bytes | Awaitable[bytes]
Handler = Callable[[bytes, bytes], Answer]
"""Message, ``traceparent`` -> answer."""
HandlerOfMany = Callable[[Sequence[tuple[bytes, bytes]], float], Sequence[Answer]]
"""The same for several calls: answers for as many of the first as that many seconds allow, and one at least."""


class Check(Protocol):
    """What answers Check; see :class:`authz_service.transport.check_service.CheckService`."""

    def check(self, message: bytes, traceparent: bytes, /) -> Answer: ...  # noqa: D102
    def check_together(self, calls: Sequence[tuple[bytes, bytes]], seconds: float, /) -> Sequence[Answer]: ...  # noqa: D102
    def refuse_late(self, message: bytes, traceparent: bytes, /) -> bytes: ...  # noqa: D102


class Methods(NamedTuple):
    """What can be called, by path; a handler may raise :class:`CallRefused`."""

    usual: dict[bytes, Handler]
    late: dict[bytes, Handler]
    """Where a call has waited too long to be answered properly."""
    checks: HandlerOfMany
    """For those of :data:`CHECK` that come at the same time."""


def _next_few(incoming: Iterator[Call | None]) -> tuple[list[Call], bool]:
    """The next that are to be answered, and whether they are the last."""
    calls = []
    for seen, call in enumerate(incoming, start=1):
        if call is not None:
            calls.append(call)
        if seen == AT_ONCE:
            return calls, False
    return calls, True


def _no_such_method(_message: bytes, _traceparent: bytes) -> bytes:
    raise CallRefused(UNKNOWN_METHOD)


class Peer(asyncio.Protocol):
    """Reads, has calls answered, writes once for each turn.

    :param join: called when there is a connection, after the TLS handshake; False: it is not wanted.
    :param leave: called when it is gone.
    """

    _transport: asyncio.Transport

    def __init__(
        self, methods: Methods, lateness: Lateness, join: Callable[["Peer"], bool], leave: Callable[["Peer"], None]
    ) -> None:
        self._methods = methods
        self._lateness = lateness
        self._backlog = Backlog(lateness)
        self._join = join
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._connection = Connection(self._loop.time())
        self._tasks: set[asyncio.Task[None]] = set()
        self._incoming: Iterator[Call | None] | None = None
        """What was read and is not answered yet, because the peer does not read, or others have their turn."""
        self._left: list[Call] = []
        """Calls of that for which the last turn had no time; they come first."""
        self._unread = b""
        """What arrived behind it, before the transport took notice."""
        self._paused = False
        """Whether nothing is read meanwhile."""
        self._turn_due = False
        self._stalled_since: float | None = None
        self._ending = False
        self._flush_due = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)  # a stream's, but of uvloop's own class
        tls = transport.get_extra_info("ssl_object")
        if not self._join(self) or (tls is not None and tls.selected_alpn_protocol() != "h2"):
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002, D102
        self._ending = True
        self._incoming = None
        for task in tuple(self._tasks):
            task.cancel()
        self._leave(self)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._ending:
            return
        if self._incoming is None:
            self._serve_read(data)
        else:
            self._unread += data

    def pause_writing(self) -> None:  # noqa: D102
        self._stalled_since = self._loop.time()
        self._backlog.forgive()
        self._pause()

    def resume_writing(self) -> None:  # noqa: D102
        self._stalled_since = None
        if self._ending or self._turn_due:
            return
        if self._incoming is None:
            self._read_on()
        else:
            self._serve(self._incoming)

    def _serve_read(self, data: bytes) -> None:
        now = self._loop.time()
        self._backlog.read(len(data), now)
        self._serve(self._connection.receive(data, now))

    def _serve(self, incoming: Iterator[Call | None]) -> None:
        """One turn. The other half of the hot loop, see :class:`Connection`."""
        late, output = self._backlog.late, self._connection.output
        self._incoming = incoming
        started = now = timer()
        end = started + TURN_SECONDS
        while self._incoming is not None and len(output) <= TURN_PIECES - AT_ONCE and now < end:
            some, the_last = (self._left, False) if self._left else _next_few(incoming)
            calls = [call for call in some if call.state is not CLOSED]  # closed: reset meanwhile
            self._left = self._answer_some(calls, end, late=late)
            now = timer()
            if the_last and not self._left and now < end:
                self._incoming = None
        # Where the turn ended with the last call, it gives way all the same: what waits unread waits as long.
        self._flush()
        self._lateness.took(timer() - started)
        if self._incoming is not None:
            self._give_way()
        elif self._paused:
            self._read_on()

    def _answer_some(self, calls: list[Call], end: float, *, late: bool) -> list[Call]:
        """:returns: those for which there was no time."""
        if len(calls) > 1 and not late and all(call.head.path == CHECK for call in calls):
            return self._answer_together(calls, end)
        return self._answer_alone(calls, self._methods.late if late else self._methods.usual, end)

    def _answer_alone(self, calls: list[Call], methods: dict[bytes, Handler], end: float) -> list[Call]:
        for number in range(len(calls)):
            if number and timer() >= end:
                return calls[number:]
            self._answer(calls[number], methods)
        return []

    def _answer(self, call: Call, methods: dict[bytes, Handler]) -> None:
        head = call.head
        try:
            result = methods.get(head.path, _no_such_method)(call.message, head.traceparent)
        except Exception as error:  # noqa: BLE001 - one bad call must not end the others
            self._failed(call, error)
        else:
            self._answer_with(call, result)

    def _answer_together(self, calls: list[Call], end: float) -> list[Call]:
        try:
            results = self._methods.checks([(call.message, call.head.traceparent) for call in calls], end - timer())
        except Exception:  # as above
            log.exception("Calls are answered one by one. This is a defect: please report this line.")
            return self._answer_alone(calls, self._methods.usual, end)
        for call, result in zip(calls, results, strict=False):
            self._answer_with(call, result)
        return calls[len(results) :]

    def _answer_with(self, call: Call, result: Answer) -> None:
        if isinstance(result, bytes):
            self._connection.answer(call, result)
        else:
            self._answer_later(call, result)

    def _give_way(self) -> None:
        """There may be more than one turn's worth: others come first, and nothing more is read until it is done."""
        if self._ending or self._stalled_since is not None:
            return  # nobody goes on, or resume_writing
        self._backlog.give_way()
        self._pause()
        self._turn_due = True
        self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_due = False
        if self._incoming is not None and self._stalled_since is None:
            self._serve(self._incoming)

    def _pause(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def _read_on(self) -> None:
        """All of what was read has its answers."""
        if self._ending or self._stalled_since is not None:
            return
        self._backlog.answered(self._loop.time())
        if self._unread:
            unread, self._unread = self._unread, b""
            self._serve_read(unread)
        else:
            self._paused = False
            self._transport.resume_reading()

    def _answer_later(self, call: Call, result: Awaitable[bytes]) -> None:
        call.message = b""  # it may be large, and has been read
        waiting = answer_once_known(call, result, self._connection, self._failed, self._flush_soon)
        task = self._loop.create_task(waiting)
        call.on_reset = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if asyncio.iscoroutine(result):  # which complains, in the log's midst, if a reset comes before it has begun
            task.add_done_callback(lambda _: result.close())

    def _failed(self, call: Call, error: Exception) -> None:
        if isinstance(error, CallRefused):
            self._connection.refuse(call, error.refusal)
            return
        log.error("A call failed. This is a defect: please report this line.", exc_info=error)
        self._connection.refuse(call, FAILED)

    def _flush_soon(self) -> None:
        """Answers of one turn of the event loop leave in one write."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._ending:
            return
        output = self._connection.take_output()
        if output:
            self._transport.write(output)
        if self._connection.finished:
            self._end()

    def _end(self) -> None:
        self._ending = True
        fault = self._connection.fault
        if fault is not None:
            log.warning(
                "connection ended: %s (%s). If Envoy was the peer, please report this line; if not, see who else "
                "connects to AUTHZ_LISTEN.", fault.message, fault.code.name,
            )  # fmt: skip
            self._loop.call_later(LINGER_SECONDS, self._transport.abort)
        if not self._transport.can_write_eof():
            self._transport.close()
            return
        try:
            self._transport.write_eof()
            self._transport.resume_reading()
        except OSError:  # the peer was quicker: the socket is not connected any more
            self._transport.abort()

    def begin_drain(self) -> None:
        """First GOAWAY."""
        self._connection.begin_drain()
        self._flush()

    def end_drain(self) -> None:
        """Second GOAWAY; the connection ends with the last answer."""
        self._connection.end_drain()
        self._flush()

    def abort(self) -> None:
        """End it, whatever is under way."""
        self._transport.abort()

    def tick(self, now: float) -> None:
        """Let go of what took too long."""
        if self._stalled_since is not None and now - self._stalled_since > STALL_SECONDS:
            log.warning("connection ended: the peer does not read. Envoy connects again by itself; see why it hung.")
            self._transport.abort()
            return
        self._connection.expire(now)
        self._flush()
