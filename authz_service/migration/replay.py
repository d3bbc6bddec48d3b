"""A decision log, decided again under another policy: what would flip?

The real :class:`.Authorizer` decides. Of tokens only that is judged again which a policy judges: signatures, times and
audiences stay what they were. What the log does not hold is not guessed.
"""

import dataclasses
from collections.abc import Hashable, Iterable

from authz_service.authorizer import Authorizer
from authz_service.config import load_config
from authz_service.errors import Reason, RequestRefused
from authz_service.limits import limits
from authz_service.migration.logged import Answer, Asked, Damaged, Logged, read_line
from authz_service.migration.logged_token import CouldNotTell, LoggedToken
from authz_service.migration.report import Direction, Disagreement, Flip, Found, Report, Unknown, Why
from authz_service.model import Allow, HttpRequest, Mode
from authz_service.policy.loader import Policy
from authz_service.policy.path import split_target
from authz_service.policy.routes import Match, Rule

MAX_REMEMBERED = 20_000

_BEARER = (("authorization", "Bearer logged"),)
_PREFLIGHT = (("origin", "null"), ("access-control-request-method", "GET"))

NOT_ANNOUNCED = frozenset({Reason.CLAIMS_TOO_LARGE, Reason.CLAIMS_INVALID})
"""The token was good, the rule satisfied, and no header could carry the caller."""
OF_THE_SERVICE = frozenset({
    Reason.KEYS_UNAVAILABLE, Reason.AUTH_API_UNAVAILABLE, Reason.OVERLOADED, Reason.INTERNAL_ERROR,
})  # fmt: skip
"""No verdict. What is refused unread, or cannot be read, has no line at all."""


class Replay:
    """Decides lines again by one policy."""

    def __init__(self, policy: Policy) -> None:
        self.report = Report()
        self._decider = Decider(policy)
        self._remembered: dict[Hashable, Flip | Unknown | None] = {}

    def read(self, lines: Iterable[bytes]) -> None:
        """All of them, in order."""
        report = self.report
        for line in lines:
            report.lines += 1
            try:
                logged = read_line(line)
            except Damaged:
                report.add_damaged(report.lines)
                continue
            if logged.other_reason is None:
                self._count(self._result(logged), logged)
            else:
                key = Disagreement(logged.answer.rule, logged.answer.reason, logged.other_reason)
                report.disagreements.setdefault(key, Found()).add(report.lines, logged)

    def _count(self, result: Flip | Unknown | None, logged: Logged) -> None:
        report = self.report
        if isinstance(result, Unknown):
            report.unknown.setdefault(result, Found()).add(report.lines, logged)
            return
        report.decided += 1
        if result is not None:
            report.flips.setdefault(result, Found()).add(report.lines, logged)

    def _result(self, logged: Logged) -> Flip | Unknown | None:
        """The same question has the same answer, and most questions are asked again and again."""
        asked, answer = logged.asked, logged.answer
        match = self._decider.match(asked)
        key = _what_matters(asked, match), answer
        if key in self._remembered:
            return self._remembered[key]
        if len(self._remembered) >= MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = result = self._decider.compare(asked, match, answer)
        return result


class Decider:
    """Decides what was asked by one policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._token = LoggedToken(frozenset(issuer.issuer for issuer in policy.issuers))
        # Nobody reads the headers, and what they carry is not in the log; any sizes do.
        silent = dataclasses.replace(policy, identity_headers=(), issuers=())
        unremembered = limits(load_config({}))._replace(cache_bytes=0)
        self._authorizer = Authorizer(silent, self._token, unremembered, lambda: 0.0, lambda *_: (b"", b""))

    def match(self, asked: Asked) -> Match | None:
        """The rule that would decide, unless something else comes before it."""
        try:
            return self._policy.routes.match(asked.method, split_target(asked.path))
        except RequestRefused:
            return None

    def compare(self, asked: Asked, match: Match | None, before: Answer) -> Flip | Unknown | None:
        """Whether the answer would be another one; None: in nothing that matters."""
        try:
            after = self._decide(asked, match, before.reason)
        except CouldNotTell as unknown:
            return Unknown(unknown.why, match.rule.name if match else "")
        direction = _direction(before, after)
        return Flip(direction, before, after) if direction else None

    def _decide(self, asked: Asked, match: Match | None, before: Reason) -> Answer:
        if before in OF_THE_SERVICE:
            raise CouldNotTell(Why.SERVICE)
        lacking = self._token.stand_for(asked, before, match)
        headers = _BEARER + _PREFLIGHT if asked.preflight else _BEARER
        request = HttpRequest(asked.method, asked.path, asked.host, headers)
        decision = self._authorizer.authorize(request, after_refresh=True)
        after = Answer(decision.reason, decision.rule, decision.mode, isinstance(decision, Allow))
        if before is Reason.PATH_AMBIGUOUS and after.reason is not before:
            raise CouldNotTell(Why.PATH)
        if after.reason is Reason.ALLOWED and lacking:
            raise CouldNotTell(Why.CLAIM_NOT_LOGGED)
        if after.reason is Reason.ALLOWED and before in NOT_ANNOUNCED:
            return after._replace(reason=before, passed=after.mode is Mode.SHADOW)
        return after


def _what_matters(asked: Asked, match: Match | None) -> Hashable:
    """Of a path no more than the rule that it leads to, and of a caller not the name, unless the rule looks at them."""
    if match is None or asked.preflight or _looks_at_names(match.rule):
        return asked
    caller = asked.caller
    who = asked.credentials if caller is None else (caller.issuer, caller.permissions, caller.roles)
    return match.rule.name, asked.host, who


def _looks_at_names(rule: Rule) -> bool:
    requirement = rule.requirement
    return rule.enforce_percent is not None or bool(requirement and requirement.claim_equals_param)


def _direction(before: Answer, after: Answer) -> Direction | None:
    if after.permitted > before.permitted or after.passed > before.passed:
        return Direction.LOOSER
    if after.permitted < before.permitted or after.passed < before.passed:
        return Direction.STRICTER
    return None
