"""``bytes -> bytes``: one Check call, the same for every transport."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

from authz_service.errors import InternalError, NoVerdictYet, Reason, Refused
from authz_service.model import Decision, Deny, HttpRequest
from authz_service.observability.metrics import Metrics
from authz_service.response.challenge import deny
from authz_service.transport.check import read_check_request, write_check_response
from authz_service.transport.second_look import TOO_MUCH, SecondLook
from authz_service.ways import Way

METHOD: Final = "/envoy.service.auth.v3.Authorization/Check"

OVERLOADED: Final = deny(TOO_MUCH)
OVERLOADED_ANSWER: Final = write_check_response(OVERLOADED)

log = logging.getLogger(__name__)


class Witness(Protocol):
    """Who is told of each decision, once it is written and counted. Must be quick: it stands in the request's path."""

    def saw(self, request: HttpRequest, decision: Decision, /) -> None: ...  # noqa: D102


Trace = Callable[[bytes, Decision, float], None]
"""Told of each Check that comes with a ``traceparent``: it, the decision, and how long that took in seconds."""


class CheckService:
    """Answers ``envoy.service.auth.v3.Authorization/Check``. No exception comes out of it.

    :param way: how tokens are judged.
    :param timer: monotonic seconds, for the duration metric.
    :param behind: whether a request that is read at this time comes too late; then it costs nothing but a refusal.
        None: the transport tells that by itself.
    :param witnesses: told of each decision about a request that could be read.
    :param denial_witnesses: told only of those that deny, or would in a rule that is enforced.
    :param trace: None: no traces.
    """

    def __init__(
        self, way: Way, metrics: Metrics, timer: Callable[[], float], behind: Callable[[float], bool] | None = None,
        *, witnesses: Iterable[Witness] = (), denial_witnesses: Iterable[Witness] = (), trace: Trace | None = None,
    ) -> None:  # fmt: skip
        self._authorizer = way.authorizer
        self._metrics = metrics
        self._timer = timer
        self._behind = behind
        self._witnesses = tuple(witnesses)
        self._witnesses_of_denials = (*self._witnesses, *denial_witnesses)
        self._trace = trace
        self._second_look = SecondLook(way, self._answer, self._defect)

    @property
    def traces(self) -> bool:
        """Whether ``traceparent`` is of use."""
        return self._trace is not None

    def check(self, message: bytes, traceparent: bytes = b"") -> bytes | Awaitable[bytes]:
        """Decide at once; only a token that nobody here can judge yet makes the caller wait.

        :param traceparent: of the call, hence Envoy's own word. That of the request is the client's.
        """
        started = self._timer()
        if self._behind is not None and self._behind(started):
            return self.refuse_late(message)
        request = self._read(message)
        outcome = self._decide(request, message, traceparent, started)
        return self._answer(request, outcome, traceparent, started) if isinstance(outcome, tuple) else outcome

    def check_together(
        self, calls: Sequence[tuple[bytes, bytes]], seconds: float
    ) -> list[bytes | Awaitable[bytes]]:  # fmt: skip
        """As :meth:`check`, of several calls: all are read, then all are decided, all are written, all are told of.

        So each step's code stays in the processor's nearest caches meanwhile.

        :param seconds: once they are over, nothing more is begun; the other calls are to be asked about again.
        """
        timer = self._timer
        started = timer()
        enough_read, end = started + seconds / 2, started + seconds  # what is read and not decided was read in vain
        requests: list[HttpRequest | Deny] = []
        for message, _ in calls:
            requests.append(self._read(message))
            if timer() >= enough_read:
                break
        outcomes: list[Decision | Awaitable[bytes]] = []
        for request, (message, traceparent) in zip(requests, calls, strict=False):
            outcomes.append(self._decide(request, message, traceparent, started))
            if timer() >= end:
                break
        answers = [write_check_response(outcome) if isinstance(outcome, tuple) else outcome for outcome in outcomes]
        taken = timer() - started
        for request, outcome, (_, traceparent) in zip(requests, outcomes, calls, strict=False):
            if isinstance(outcome, tuple):
                self._tell_all(request, outcome, traceparent, taken)
        return answers

    def _read(self, message: bytes) -> HttpRequest | Deny:
        try:
            return read_check_request(message)
        except Refused as refused:
            return deny(refused)
        except Exception:  # noqa: BLE001 - see _defect
            return self._defect(None)

    def _decide(
        self, request: HttpRequest | Deny, message: bytes, traceparent: bytes, started: float
    ) -> Decision | Awaitable[bytes]:
        """Or the answer, to be waited for."""
        if isinstance(request, Deny):  # it could not be read
            return request
        try:
            return self._authorizer.authorize(request)
        except NoVerdictYet as question:
            return self._second_look.check_again(request, len(message), question, traceparent, started)
        except Refused as refused:
            return deny(refused)
        except Exception:  # noqa: BLE001 - see _defect
            return self._defect(request)

    def refuse_late(self, _message: bytes, _traceparent: bytes = b"") -> bytes:
        """Whatever it asks, it comes too late to be decided."""
        self._metrics.decided(OVERLOADED, 0.0)
        return OVERLOADED_ANSWER

    def _answer(
        self, request: HttpRequest | Deny, decision: Decision, traceparent: bytes, started: float
    ) -> bytes:  # fmt: skip
        answer = write_check_response(decision)
        self._tell_all(request, decision, traceparent, self._timer() - started)
        return answer

    def _tell_all(self, request: HttpRequest | Deny, decision: Decision, traceparent: bytes, seconds: float) -> None:
        """:param request: what was made of it; a denial: it could not be read."""
        self._metrics.decided(decision, seconds)
        verdict = decision[0]  # by its name it would take a look-up
        witnesses = self._witnesses if verdict.outcome.permitted else self._witnesses_of_denials
        if witnesses and not isinstance(request, Deny):
            self._tell(witnesses, request, decision)
        if traceparent and self._trace is not None:
            self._tell_trace(self._trace, traceparent, decision, seconds)

    @staticmethod
    def _tell(witnesses: tuple[Witness, ...], request: HttpRequest, decision: Decision) -> None:
        for witness in witnesses:
            try:
                witness.saw(request, decision)
            except Exception:  # whatever it does, the answer stands
                log.exception("A witness of decisions broke. This is a defect: please report this line.")

    @staticmethod
    def _tell_trace(trace: Trace, traceparent: bytes, decision: Decision, seconds: float) -> None:
        try:
            trace(traceparent, decision, seconds)
        except Exception:
            log.exception("Tracing a decision broke. This is a defect: please report this line.")

    @staticmethod
    def _defect(request: HttpRequest | None) -> Deny:
        """Called while an exception is handled: whatever went wrong, it does not open the door."""
        message = "Check failed and the request is denied. This is a defect: please report this line."
        log.error(message, exc_info=True)  # noqa: LOG014
        error = InternalError(Reason.INTERNAL_ERROR, "Internal error.")
        return deny(error, request_id="" if request is None else request.request_id)
