"""One connection of the native server: between asyncio's transport and its calls, which do no I/O."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

from authz_service.transport.backlog import Lateness
from authz_service.transport.http2_streams import Arrivals, Call
from authz_service.transport.native_calls import Answer, Calls, Methods
from authz_service.transport.waiting import answer_once_known

WRITE_BUFFER_BYTES = 256 * 1024
"""While more than this waits for the peer to read, nothing is read from it."""
STALL_SECONDS = 30.0
"""A peer that reads nothing for so long is let go."""
LINGER_SECONDS = 1.0
"""Between GOAWAY and the close: a socket that is closed on unread bytes sends RST, and GOAWAY would be lost."""

log = logging.getLogger(__name__)


class Check(Protocol):
    """What answers Check; see :class:`authz_service.transport.check_service.CheckService`."""

    def check(self, message: bytes, traceparent: bytes, /) -> Answer: ...  # noqa: D102
    def check_together(self, calls: Sequence[tuple[bytes, bytes]], seconds: float, /) -> Sequence[Answer]: ...  # noqa: D102
    def refuse_late(self, message: bytes, traceparent: bytes, /) -> bytes: ...  # noqa: D102


class Peer(asyncio.Protocol):
    """Reads, has calls answered, writes once for each turn.

    :param join: called when there is a connection, after the TLS handshake; False: it is not wanted.
    :param leave: called when it is gone.
    :param everywhere: what arrives on all connections together.
    """

    _transport: asyncio.Transport

    def __init__(
        self, methods: Methods, lateness: Lateness, join: Callable[["Peer"], bool], leave: Callable[["Peer"], None],
        everywhere: Arrivals | None = None,
    ) -> None:  # fmt: skip
        self._join = join
        self._leave = leave
        self._loop = asyncio.get_running_loop()
        self._calls = Calls(methods, lateness, self._loop.time(), self._answer_later, everywhere)
        self._connection = self._calls.connection
        self._tasks: set[asyncio.Task[None]] = set()
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
        self._calls.drop()
        for task in tuple(self._tasks):
            task.cancel()
        self._leave(self)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._ending:
            return
        if self._calls.due:  # and it was read before the transport took notice of the pause
            self._connection.receive(data, self._loop.time())
        else:
            self._calls.read(data, self._loop.time())
            self._after_turn()

    def pause_writing(self) -> None:  # noqa: D102
        self._stalled_since = self._loop.time()
        self._calls.backlog.forgive()
        self._pause()

    def resume_writing(self) -> None:  # noqa: D102
        self._stalled_since = None
        if self._ending or self._turn_due:
            return
        if self._calls.due:
            self._take_turn()
        else:
            self._read_on()

    def _after_turn(self) -> None:
        self._flush()
        if self._calls.due:
            self._give_way()
        elif self._paused:
            self._read_on()

    def _give_way(self) -> None:
        """There may be more than one turn's worth: others come first, and nothing more is read until it is done."""
        if self._ending or self._stalled_since is not None:
            return  # nobody goes on, or resume_writing
        self._calls.backlog.give_way()
        self._pause()
        self._turn_due = True
        self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn_due = False
        if self._calls.due and self._stalled_since is None:
            self._take_turn()

    def _take_turn(self) -> None:
        self._calls.take_turn()
        self._after_turn()

    def _pause(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def _read_on(self) -> None:
        """All of what was read has its answers."""
        if self._ending or self._stalled_since is not None:
            return
        self._calls.backlog.answered(self._loop.time())
        self._paused = False
        self._transport.resume_reading()

    def _answer_later(self, call: Call, result: Awaitable[bytes]) -> None:
        call.message = b""  # it may be large, and has been read
        waiting = answer_once_known(call, result, self._connection, self._calls.failed, self._flush_soon)
        task = self._loop.create_task(waiting)
        call.on_reset = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if asyncio.iscoroutine(result):  # which complains, in the log's midst, if a reset comes before it has begun
            task.add_done_callback(lambda _: result.close())

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
