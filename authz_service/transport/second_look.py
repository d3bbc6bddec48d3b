"""What becomes of a request that cannot be decided at once: something is waited for, then it is decided again.

Apart from :mod:`.check_service`, and not compiled: coroutines that mypyc makes pass on exceptions in a way that newer
Pythons warn of, and whoever waits has the time.
"""

from collections.abc import Callable

from authz_service.errors import NoVerdictYet, Reason, Unavailable
from authz_service.model import Decision, Deny, HttpRequest
from authz_service.response.challenge import deny
from authz_service.ways import Way

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Of requests that wait for a key or for the Auth-API. Envoy lets a client send 60 KiB of headers, and a thousand calls
may wait on each connection: more than a pod has memory."""

TOO_MUCH = Unavailable(Reason.OVERLOADED, "There are more requests than can be decided in time.")

Answer = Callable[[HttpRequest | Deny, Decision, bytes, float], bytes]
"""The request, what was decided, ``traceparent``, when it began -> the answer; all are told of it."""
Defect = Callable[[HttpRequest | None], Deny]
"""Called while an exception is handled."""


class SecondLook:
    """Decides again what had to wait. No exception comes out of it."""

    def __init__(self, way: Way, answer: Answer, defect: Defect) -> None:
        self._way = way
        self._answer = answer
        self._defect = defect
        self._waiting_bytes = 0

    async def check_again(
        self, request: HttpRequest, size: int, question: NoVerdictYet, traceparent: bytes, started: float
    ) -> bytes:
        """:param size: of the request, in bytes."""
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            return self._answer(request, deny(TOO_MUCH, request_id=request.request_id), traceparent, started)
        self._waiting_bytes += size
        try:
            decision = await self._way.decide(request, question)
        except Exception:  # noqa: BLE001 - see CheckService._defect
            decision = self._defect(request)
        finally:
            self._waiting_bytes -= size
        return self._answer(request, decision, traceparent, started)
