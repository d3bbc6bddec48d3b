"""``bytes -> bytes``: one Check call, the same for every transport."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from authz_service.authorizer import Authorizer
from authz_service.errors import InternalError, Reason, Refused, Unavailable, UnknownKeyId
from authz_service.model import Decision, HttpRequest
from authz_service.observability.metrics import Metrics
from authz_service.response.challenge import deny
from authz_service.transport.check import read_check_request, write_check_response

METHOD = "/envoy.service.auth.v3.Authorization/Check"

OVERLOADED = deny(Unavailable(Reason.OVERLOADED, "There are more requests than can be decided in time."))
OVERLOADED_ANSWER = write_check_response(OVERLOADED)

log = logging.getLogger(__name__)


class KeyRefresher(Protocol):
    """Who can bring a key that a token names and the current set lacks."""

    async def refresh_for_unknown_kid(self, issuer: str, kid: str) -> None:
        """Wait, for a bounded time, for one shared refresh; returning says nothing about its success."""
        ...


class Witness(Protocol):
    """Who is told of each decision, once it is written and counted. Must be quick: it stands in the request's path."""

    def saw(self, request: HttpRequest, decision: Decision, /) -> None: ...  # noqa: D102


def _never_behind(_now: float) -> bool:
    return False


class CheckService:
    """Answers ``envoy.service.auth.v3.Authorization/Check``. No exception comes out of it.

    :param timer: monotonic seconds, for the duration metric.
    :param behind: whether a request that is read at this time comes too late; then it costs nothing but a refusal.
    :param witnesses: told of each decision about a request that could be read.
    """

    def __init__(
        self, authorizer: Authorizer, refresher: KeyRefresher, metrics: Metrics, timer: Callable[[], float],
        behind: Callable[[float], bool] = _never_behind, *, witnesses: Iterable[Witness] = (),
    ) -> None:  # fmt: skip
        self._authorizer = authorizer
        self._refresher = refresher
        self._metrics = metrics
        self._timer = timer
        self._behind = behind
        self._witnesses = tuple(witnesses)

    def check(self, message: bytes) -> bytes | Awaitable[bytes]:
        """Decide at once; only a token with an unknown key id makes the caller wait."""
        started = self._timer()
        if self._behind(started):
            self._metrics.decided(OVERLOADED, 0.0)
            return OVERLOADED_ANSWER
        request = None
        try:
            request = read_check_request(message)
            try:
                decision = self._authorizer.authorize(request)
            except UnknownKeyId as unknown:
                return self._check_again(request, unknown, started)
        except Refused as refused:
            decision = deny(refused)
        except Exception:  # noqa: BLE001 - see _defect
            decision = self._defect()
        return self._answer(request, decision, started)

    async def _check_again(self, request: HttpRequest, unknown: UnknownKeyId, started: float) -> bytes:
        try:
            await self._refresher.refresh_for_unknown_kid(unknown.issuer, unknown.kid)
            decision = self._authorizer.authorize(request, after_refresh=True)
        except Exception:  # noqa: BLE001 - see _defect
            decision = self._defect()
        return self._answer(request, decision, started)

    def _answer(self, request: HttpRequest | None, decision: Decision, started: float) -> bytes:
        answer = write_check_response(decision)
        self._metrics.decided(decision, self._timer() - started)
        if self._witnesses and request is not None:
            self._tell(request, decision)
        return answer

    def _tell(self, request: HttpRequest, decision: Decision) -> None:
        for witness in self._witnesses:
            try:
                witness.saw(request, decision)
            except Exception:  # whatever it does, the answer stands
                log.exception("A witness of decisions broke. This is a defect: please report this line.")

    @staticmethod
    def _defect() -> Decision:
        """Called while an exception is handled: whatever went wrong, it does not open the door."""
        message = "Check failed and the request is denied. This is a defect: please report this line."
        log.error(message, exc_info=True)  # noqa: LOG014
        return deny(InternalError(Reason.INTERNAL_ERROR, "Internal error."))
