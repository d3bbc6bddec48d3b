"""The token of a logged request, as far as the log tells of it, in place of one that could be verified."""

from collections.abc import Mapping
from functools import cache
from itertools import count
from types import MappingProxyType

from authz_service.errors import Reason, Refused, RequestRefused, TokenRefused
from authz_service.migration.logged import Asked, LoggedCaller
from authz_service.migration.report import Why
from authz_service.model import Claims
from authz_service.observability.decision_line import pseudonym
from authz_service.policy.path import split_target
from authz_service.policy.rollout import fingerprint, share
from authz_service.policy.routes import Match
from authz_service.token.jws import NO_KEY, VerificationKey
from authz_service.token.verifier import VerifiedToken


class CouldNotTell(Exception):
    """The log does not say enough."""

    def __init__(self, why: Why) -> None:
        self.why = why


class LoggedToken:
    """In place of the verifier: says of the one token in question what the log says.

    :param issuers: those of the policy; none: whoever was trusted is trusted.
    """

    def __init__(self, issuers: frozenset[str]) -> None:
        self._issuers = issuers
        self._answer: VerifiedToken | Refused | CouldNotTell = CouldNotTell(Why.NOT_LOOKED_AT)

    def stand_for(self, asked: Asked, reason: Reason, match: Match | None) -> bool:
        """From now on, for the token of this request.

        :param match: the rule that will ask for the caller's claims.
        :returns: whether the rule compares a claim that the log lacks. It is then taken for the one that is wanted: if
            that does not help, nothing does.
        """
        if asked.caller is None:
            self._answer = self._without_claims(asked, reason)
            return False
        payload, lacking = _compared(asked.caller, match, asked.path) if match else ({}, False)
        self._answer = self._vouched(asked.caller, payload)
        return lacking

    def verify(self, _token: str, _now: float) -> VerifiedToken:
        """As the real one."""
        if isinstance(self._answer, VerifiedToken):
            return self._answer
        raise self._answer.with_traceback(None)

    def vouches(self, _claims: Claims, _key: VerificationKey, _now: float) -> bool:
        """Never: each is judged on its own."""
        return False

    def _vouched(self, caller: LoggedCaller, payload: dict[str, str | None]) -> VerifiedToken | Refused:
        if self._issuers and caller.issuer not in self._issuers:
            return TokenRefused(Reason.ISSUER_MISMATCH, "The access token was not issued by a trusted issuer.")
        claims = Claims(
            caller.issuer, caller.subject or _stand_in(caller.sub_hash), 0, frozenset(caller.permissions),
            frozenset(caller.roles), MappingProxyType(payload),
        )  # fmt: skip
        return VerifiedToken(claims, NO_KEY)

    def _without_claims(self, asked: Asked, reason: Reason) -> Refused | CouldNotTell:
        if self._issuers and reason in {Reason.ISSUER_MISMATCH, Reason.AUDIENCE_MISMATCH}:
            return CouldNotTell(Why.ISSUERS)
        if reason in TokenRefused.reasons:
            return TokenRefused(reason, "As it was.")
        if reason is Reason.MULTIPLE_TOKENS:
            return RequestRefused(reason, "As it was.")
        if not asked.credentials:
            return TokenRefused(Reason.TOKEN_MISSING, "An access token is required.")
        return CouldNotTell(Why.NOT_LOOKED_AT)


def _compared(caller: LoggedCaller, match: Match, path: str) -> tuple[dict[str, str | None], bool]:
    """The claims that this rule compares, and whether one of them is not in the log."""
    requirement = match.rule.requirement
    pairs = requirement.claim_equals_param if requirement else ()
    if not pairs:
        return {}, False
    logged, params = dict(caller.claims), match.params(split_target(path))
    payload = {claim: _value(caller, logged, claim, params[param]) for claim, param in pairs}
    return payload, any(claim not in logged and claim not in {"iss", "sub"} for claim in payload)


def _value(caller: LoggedCaller, logged: Mapping[str, str | None], claim: str, wanted: str) -> str | None:
    if claim == "iss":
        return caller.issuer
    if claim == "sub":
        return caller.subject or (wanted if pseudonym(wanted) == caller.sub_hash else None)
    return logged.get(claim, wanted)


def _stand_in(sub_hash: str) -> str:
    """A ``sub`` whom the same percentages pick; more than that no rule wants to know of it."""
    return _one_of_each_share()[share(bytes.fromhex(sub_hash))]


@cache
def _one_of_each_share() -> dict[int, str]:
    found: dict[int, str] = {}
    for number in count():
        if len(found) == 100:  # noqa: PLR2004 - per cent
            return found
        found.setdefault(share(fingerprint(str(number))), str(number))
    raise AssertionError
