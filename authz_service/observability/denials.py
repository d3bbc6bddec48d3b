"""The last denials, for whoever asks "why was that denied?": a few of each kind, and little of what the client sent."""

import json
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from authz_service.errors import Reason
from authz_service.model import Decision, Deny, HttpRequest
from authz_service.policy.loader import Policy

MAX_KINDS = 64
"""A kind is a reason and a rule."""
MAX_OF_A_KIND = 5
"""So a flood of one kind costs nothing more, and leaves the others where they are."""
MAX_TOLD = 50
MAX_KEPT_LENGTH = 1024
MAX_METHOD_LENGTH = 16
MAX_PATH_LENGTH = 256
MAX_REQUEST_ID_LENGTH = 128

UNNAMED = "*"
"""Stands for a segment of a path that no rule names: an id, a name, a secret, an attack."""


class _Denial(NamedTuple):
    at: float
    reason: Reason
    rule: str
    status: int
    """0: it would have been denied."""
    method: str
    path: str
    request_id: str
    body: str


class LastDenials:
    """A witness of denials, and of what a rule in shadow mode would deny.

    :param clock: Unix seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kinds: dict[tuple[Reason, str], deque[_Denial]] = {}
        self._named: frozenset[str] = frozenset()

    def use(self, policy: Policy) -> None:
        """Show those segments of a path that this policy names."""
        self._named = frozenset(
            segment for rule in policy.routes.rules for segment in rule.pattern.segments if segment is not None
        )

    def saw(self, request: HttpRequest, decision: Decision) -> None:
        """One Check was answered with a denial, or would have been."""
        status, body = (decision.status, decision.body) if isinstance(decision, Deny) else (0, "")
        self._of_kind(decision.reason, decision.rule).append(_Denial(
            self._clock(), decision.reason, decision.rule, status, request.method[:MAX_KEPT_LENGTH],
            request.path[:MAX_KEPT_LENGTH], request.request_id[:MAX_KEPT_LENGTH], body,
        ))  # fmt: skip

    def told(self) -> list[dict[str, Any]]:
        """What may be shown, the latest first."""
        latest = sorted((denial for kind in self._kinds.values() for denial in kind), key=lambda d: d.at, reverse=True)
        return [self._shown(denial) for denial in latest[:MAX_TOLD]]

    def _of_kind(self, reason: Reason, rule: str) -> deque[_Denial]:
        kind = self._kinds.get((reason, rule))
        if kind is None:
            if len(self._kinds) >= MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]
            kind = self._kinds[reason, rule] = deque(maxlen=MAX_OF_A_KIND)
        return kind

    def _shown(self, denial: _Denial) -> dict[str, Any]:
        return {
            "at": denial.at, "reason": denial.reason, "rule": denial.rule, "status": denial.status or None,
            "message": _message(denial.body), "method": _plain(denial.method, MAX_METHOD_LENGTH),
            "path": self._redacted(denial.path), "request_id": _plain(denial.request_id, MAX_REQUEST_ID_LENGTH),
        }  # fmt: skip

    def _redacted(self, path: str) -> str:
        """The path without query, in the policy's own words."""
        segments = path.partition("?")[0].split("/")
        return _cut("/".join(s if not s or s in self._named else UNNAMED for s in segments), MAX_PATH_LENGTH)


def latest(told: Iterable[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The last of what several workers told."""
    return sorted((denial for one in told for denial in one), key=lambda d: float(d["at"]), reverse=True)[:MAX_TOLD]


def _message(body: str) -> str:
    """What the client was told, in our own words; see :mod:`authz_service.response.challenge`."""
    return str(json.loads(body).get("message", "")) if body else ""


def _plain(text: str, length: int) -> str:
    """A client's word, as far as it is what such a word usually is: visible ASCII, and short."""
    return _cut("".join(c if "!" <= c <= "~" else "?" for c in text[: length + 1]), length)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
