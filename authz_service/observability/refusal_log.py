"""Tells the log about tokens that were refused: one line for each reason and minute, however many there were.

Nothing is done when a token is refused. The figures are looked at now and then, so a flood of bad tokens is a number
in a line, and good ones cost nothing. Nothing of a token is told: it is not there any more.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from authz_service.errors import Reason

LOOK_SECONDS = 2.0
SILENCE_SECONDS = 60.0
"""Between two lines about the same reason."""

NEXT_STEP: Mapping[Reason, str] = MappingProxyType({
    Reason.TOKEN_MALFORMED: "What came is not a JWT: see which client sends it.",
    Reason.TOKEN_TOO_LARGE: "Have the issuer put less into its tokens, or raise JWT_MAX_TOKEN_BYTES.",
    Reason.TOKEN_TYPE_NOT_ALLOWED: "Clients send a token of another kind, such as an ID token, for an access token.",
    Reason.ALGORITHM_NOT_ALLOWED:
        "authz_tokens_refused_algorithm_total says which one: move the issuer on, or see JWT_ALGORITHMS.",
    Reason.KEY_ID_MISSING: "Have the issuer name its key: a kid in the header of each token.",
    Reason.KEY_NOT_FOUND: "Compare the kid of such a token with what the issuer publishes; /status lists it.",
    Reason.SIGNATURE_INVALID: "Such tokens are forged, or damaged on their way; find out who sends them.",
    Reason.TOKEN_EXPIRED: "Check that clients renew their tokens in time, and compare the clocks.",
    Reason.TOKEN_NOT_YET_VALID: "Compare the clocks of the issuer and of this machine, or see JWT_LEEWAY_SECONDS.",
    Reason.ISSUER_MISMATCH: "Compare the iss of such a token with AUTH_API_ISSUER, or issuers in the policy file.",
    Reason.AUDIENCE_MISMATCH: "Compare the aud of such a token with JWT_AUDIENCE, or audiences in the policy file.",
    Reason.CLAIMS_INVALID: "A claim is missing or of a wrong type: authz-service explain says which one.",
})  # fmt: skip

log = logging.getLogger(__name__)


class RefusalLog:
    """Compares the figures with those that were told.

    :param refused: how many tokens were refused so far, by reason.
    :param monotonic: seconds.
    """

    def __init__(self, refused: Callable[[], Mapping[Reason, int]], monotonic: Callable[[], float]) -> None:
        self._refused = refused
        self._monotonic = monotonic
        self._start = monotonic()
        self._told: dict[Reason, tuple[int, float]] = {}

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """Tell what is new about each reason that was not told about lately."""
        now = self._monotonic()
        for reason, total in self._refused().items():
            told, at = self._told.get(reason, (0, self._start))
            if total > told and (reason not in self._told or now - at >= SILENCE_SECONDS):
                self._told[reason] = (total, now)
                _tell(reason, total - told, now - at)


def _tell(reason: Reason, count: int, seconds: float) -> None:
    log.warning(
        "Token validation failed: %s, %d times in %.0f s. %s See \"Token validation failed\" in docs/runbook.md.",
        reason, count, seconds, NEXT_STEP[reason],
    )  # fmt: skip
