"""A line of the decision log, read back: what was asked, by whom, and what came of it."""

import json
from typing import Any, NamedTuple

from authz_service.errors import PERMITTED, Reason
from authz_service.model import Mode
from authz_service.observability.decision_line import VERSION
from authz_service.policy.rollout import FINGERPRINT_BYTES

_decode = json.JSONDecoder().decode
_REASONS = {reason.value: reason for reason in Reason}
_PASSED = {"allow": True, "deny": False}
_MODES = {mode.value: mode for mode in Mode}
_TEXT_ONLY = frozenset({str})
_TEXT_OR_NONE = frozenset({str, type(None)})


class Damaged(ValueError):
    """The line is not one of a decision log; says why, and repeats nothing of it."""


class Answer(NamedTuple):
    """What came of a request."""

    reason: Reason
    rule: str
    mode: Mode
    passed: bool
    """What the client saw; in shadow mode more passes than is permitted."""

    @property
    def permitted(self) -> bool:
        """The verdict, enforced or not."""
        return self.reason in PERMITTED


class LoggedCaller(NamedTuple):
    """What is known of a caller."""

    issuer: str
    subject: str
    """Empty, where the log has no more than the hash."""
    sub_hash: str
    permissions: tuple[str, ...]
    roles: tuple[str, ...]
    claims: tuple[tuple[str, str | None], ...]
    """Those that the policy of then compared; None: the token had none that could equal a part of a path."""


class Asked(NamedTuple):
    """What was asked."""

    method: str
    path: str
    host: str
    preflight: bool
    credentials: bool
    """Whether the request had any, where nothing is known of the caller."""
    caller: LoggedCaller | None


class Logged(NamedTuple):
    """One decision."""

    asked: Asked
    answer: Answer
    request_id: str
    other_reason: Reason | None = None
    """The line tells of a decision once more, because a comparison came to another one: for this reason."""


def read_line(line: bytes) -> Logged:
    """What the line says; :raises Damaged: it is no such line."""
    try:
        given = _decode(line.decode())
    except (ValueError, RecursionError):
        raise Damaged("it is not JSON") from None
    if type(given) is not dict or given.get("v") != VERSION:
        raise Damaged(f"it is not a decision in version {VERSION} of the format")
    try:
        other_reason = _REASONS[given["other_reason"]] if "other_reason" in given else None
        return Logged(_asked(given), _answer(given), _text(given["request_id"]), other_reason)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Damaged("a field is missing, or is not what it must be") from None


def _asked(given: dict[str, Any]) -> Asked:
    caller = given.get("caller")
    return Asked(
        _text(given["method"]), _text(given["path"]), _text(given["host"]), given.get("preflight") is True,
        True if caller else given["credentials"] is not False, _caller(caller) if caller else None,
    )  # fmt: skip


def _answer(given: dict[str, Any]) -> Answer:
    answer = Answer(
        _REASONS[given["reason"]], _text(given["rule"]), _MODES[given["mode"]], _PASSED[given["decision"]]
    )
    if answer.permitted and not answer.passed:
        raise ValueError
    return answer


def _caller(given: dict[str, Any]) -> LoggedCaller:
    subject, claims = _text(given.get("sub", "")), given["claims"]
    caller = LoggedCaller(
        _text(given["issuer"]), subject, "" if subject else given["sub_hash"], _texts(given["permissions"]),
        _texts(given["roles"]), tuple(claims.items()),
    )  # fmt: skip
    if not caller.issuer or not _TEXT_OR_NONE.issuperset(map(type, claims.values())):
        raise ValueError
    if not subject and len(bytes.fromhex(caller.sub_hash)) != FINGERPRINT_BYTES:
        raise ValueError
    return caller


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _texts(values: object) -> tuple[str, ...]:
    if type(values) is not list or not _TEXT_ONLY.issuperset(map(type, values)):
        raise TypeError
    return tuple(values)
