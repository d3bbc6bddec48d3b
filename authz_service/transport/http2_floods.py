"""What a peer may ask for without making a call.

Each of these is legal, cheap to send and makes work here, so that many of them are an attack: resets (CVE-2023-44487),
PING, SETTINGS and empty DATA (CVE-2019-9512, -9515, -9518), tiny WINDOW_UPDATEs (CVE-2019-9511), PRIORITY
(CVE-2019-9513), CONTINUATION (VU#421644), streams that are refused. RFC 9113 section 10.5 names them, and
ENHANCE_YOUR_CALM for the answer. They share one budget, which time and calls refill: a busy peer that resets now and
then is never stopped. Only a call that is given out to be answered counts, and that whatever becomes of it: it costs
us no more for being reset, and it is Envoy's clients who decide which are.
"""

from typing import Final

from authz_service.transport.http2_frames import ConnectionFault, ErrorCode

BUDGET: Final = 1_000
PER_SECOND: Final = 100
PER_CALL: Final = 4
"""A client with naive flow control sends two WINDOW_UPDATEs for an answer; a reset or a PING may come on top."""

FRAME_COST: Final = 1
SETTINGS_COST: Final = 10
"""New windows reach each open stream."""
FAULT_COST: Final = 5
"""A stream that ends in an error had its headers decoded for nothing."""


class Patience:
    """A token bucket; ``calls`` is counted by whoever gives them out."""

    def __init__(self, now: float) -> None:
        self.calls = 0
        self._counted_calls = 0
        self._counted_at = now
        self._left = float(BUDGET)

    def spend(self, cost: int, now: float) -> None:
        """:raises ConnectionFault: the budget is used up."""
        earned = (now - self._counted_at) * PER_SECOND + (self.calls - self._counted_calls) * PER_CALL
        self._counted_at, self._counted_calls = now, self.calls
        self._left = min(BUDGET, self._left + earned) - cost
        if self._left < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames without a call")
