"""The calls of one connection of the native server: read, answered, and others have their turn in between."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from authz_service.transport.backlog import Backlog, Lateness
from authz_service.transport.check_service import METHOD
from authz_service.transport.grpc_wire import FAILED, UNKNOWN_METHOD, CallRefused
from authz_service.transport.http2 import Connection
from authz_service.transport.http2_streams import CLOSED, Arrivals, Call

TURN_SECONDS: Final = 0.0005
"""Then others have theirs: what floods one connection keeps nobody waiting on another."""
TURN_PIECES: Final = 64
"""As many answers are gathered for one write at most."""
AT_ONCE: Final = 32
"""As many calls are decided together at most."""

CHECK = METHOD.encode()

log = logging.getLogger(__name__)
timer = time.perf_counter

Answer = bytes | Awaitable[bytes]
Handler = Callable[[bytes, bytes], Answer]
"""Message, ``traceparent`` -> answer."""
HandlerOfMany = Callable[[Sequence[tuple[bytes, bytes]], float], Sequence[Answer]]
"""The same for several calls: answers for as many of the first as that many seconds allow, and one at least."""
AnswerLater = Callable[[Call, Awaitable[bytes]], None]


class Methods(NamedTuple):
    """What can be called, by path; a handler may raise :class:`CallRefused`."""

    usual: dict[bytes, Handler]
    late: dict[bytes, Handler]
    """Where a call has waited too long to be answered properly."""
    checks: HandlerOfMany
    """For those of :data:`CHECK` that come at the same time."""


def _no_such_method(_message: bytes, _traceparent: bytes) -> bytes:
    raise CallRefused(UNKNOWN_METHOD)


def _nobody_waits(_call: Call, _answer: Awaitable[bytes]) -> None:
    raise AssertionError("the connection is gone")


class Calls:
    """Reads, and has calls answered, as much as there is in one turn.

    :param answer_later: sees to a call whose answer has to be waited for.
    :param everywhere: see :class:`Connection`.
    """

    def __init__(
        self, methods: Methods, lateness: Lateness, now: float, answer_later: AnswerLater,
        everywhere: Arrivals | None = None,
    ) -> None:  # fmt: skip
        self._usual, self._late, self._checks = methods
        self._lateness = lateness
        self._answer_later = answer_later
        self._left: list[Call] = []
        """Those for which the last turn had no time; they come first."""
        self.connection = Connection(now, everywhere)
        self.backlog = Backlog(lateness)
        self.due = False
        """Whether something is left of what was read, because the peer does not read, or others have their turn."""

    def read(self, data: bytes, now: float) -> None:
        """Take the first turn of what arrived; not while another is :attr:`due`."""
        self.backlog.read(len(data), now)
        self.connection.receive(data, now)
        self.take_turn()

    def take_turn(self) -> None:
        """The other half of the hot loop, see :class:`Connection`."""
        connection, late = self.connection, self.backlog.late
        output = connection.output
        started = now = timer()
        end = started + TURN_SECONDS
        self.due = True
        while self.due and len(output) <= TURN_PIECES - AT_ONCE and now < end:
            calls = self._left or connection.read_on(AT_ONCE)
            self._left = self._answer_some([call for call in calls if call.state is not CLOSED], end, late=late)
            now = timer()
            # Where the turn ended with the last call, it gives way all the same: what waits unread waits as long.
            self.due = connection.unread or bool(self._left) or now >= end
        self._lateness.took(now - started)

    def drop(self) -> None:
        """Nobody waits for the rest. Lets go of who would see to it as well, who has this in turn."""
        self.due, self._left, self._answer_later = False, [], _nobody_waits
        self.connection.drop()

    def _answer_some(self, calls: list[Call], end: float, *, late: bool) -> list[Call]:
        """:returns: those for which there was no time."""
        if len(calls) > 1 and not late and all(call.head.path == CHECK for call in calls):
            return self._answer_together(calls, end)
        return self._answer_alone(calls, self._late if late else self._usual, end)

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
            self.failed(call, error)
        else:
            self._answer_with(call, result)

    def _answer_together(self, calls: list[Call], end: float) -> list[Call]:
        try:
            results = self._checks([(call.message, call.head.traceparent) for call in calls], end - timer())
        except Exception:  # as above
            log.exception("Calls are answered one by one. This is a defect: please report this line.")
            return self._answer_alone(calls, self._usual, end)
        for call, result in zip(calls, results, strict=False):
            self._answer_with(call, result)
        return calls[len(results) :]

    def _answer_with(self, call: Call, result: Answer) -> None:
        if isinstance(result, bytes):
            self.connection.answer(call, result)
        else:
            self._answer_later(call, result)

    def failed(self, call: Call, error: Exception) -> None:
        """Answer a call with what its handler raised."""
        if isinstance(error, CallRefused):
            self.connection.refuse(call, error.refusal)
            return
        log.error("A call failed. This is a defect: please report this line.", exc_info=error)
        self.connection.refuse(call, FAILED)
