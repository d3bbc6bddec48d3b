"""Tests of a policy, written as data: a request, what its token claims, and the answer that is expected.

The real :class:`.Authorizer` decides them; only the signature is taken for granted. So a case can also expect
``token_expired`` or ``audience_mismatch``: its claims are held against what a real token must claim.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from authz_service.authorizer import Authorizer, Limits
from authz_service.errors import PERMITTED, Reason, TokenRefused
from authz_service.issuers import TrustedIssuer
from authz_service.model import Allow, Claims, Decision, Headers, HttpRequest
from authz_service.policy.loader import Policy
from authz_service.policy_cases.document import ALLOW, Case, Cases
from authz_service.token.claims import unverified_issuer, verify_claims
from authz_service.token.jws import NO_KEY, VerificationKey
from authz_service.token.verifier import VerifiedToken
from authz_service.transport.check import encode_identity

LIFETIME_SECONDS = 3600


class Failure(NamedTuple):
    """A case that came out otherwise."""

    name: str
    line: int
    request: str
    expected: str
    got: str
    why: str


def failures(
    cases: Cases, policy: Policy, issuers: Iterable[TrustedIssuer], limits: Limits, now: float
) -> list[Failure]:
    """Decide each case at ``now`` (Unix seconds), and tell those that come out otherwise."""
    stand_in = _StandIn(tuple(issuers), [case.claims for case in cases.cases], now)
    identities: dict[bytes, Headers] = {}

    def encode(headers: Headers, subject: str, kid: str) -> tuple[bytes, bytes]:
        encoded, metadata = encode_identity(headers, subject, kid)
        identities[encoded] = headers
        return encoded, metadata

    authorizer = Authorizer(policy, stand_in, limits, lambda: now, encode)
    found = []
    for number, (case, line) in enumerate(zip(cases.cases, cases.lines, strict=True)):
        decision = authorizer.authorize(_request(number, case), after_refresh=True)
        set_by_it = _headers(decision, identities)
        if expected := list(_unmet(case, decision, set_by_it)):
            found.append(_failure(case, line, decision, set_by_it, expected))
    return found


class _StandIn:
    """In place of the verifier: vouches for the claims of the case that a token stands for.

    :param claims: by the number of the case; what they leave out of a good token's registered claims is filled in.
    """

    def __init__(self, issuers: tuple[TrustedIssuer, ...], claims: list[dict[str, Any] | None], now: float) -> None:
        self._issuers = {issuer.issuer: issuer.rules for issuer in issuers}
        self._first = issuers[0].rules
        self._expires_at = int(now) + LIFETIME_SECONDS
        self._claims = {_token(number): given for number, given in enumerate(claims) if given is not None}

    def verify(self, token: str, now: float) -> VerifiedToken:
        """As the real one, behind the signature; a token that no case stands for has a bad one."""
        if token not in self._claims:
            raise TokenRefused(Reason.SIGNATURE_INVALID, "The access token's signature is not valid.")
        payload = self._completed(self._claims[token])
        rules = self._issuers.get(unverified_issuer(payload))
        if rules is None:
            raise TokenRefused(Reason.ISSUER_MISMATCH, "The access token was not issued by a trusted issuer.")
        return VerifiedToken(verify_claims(payload, rules, now), NO_KEY)

    def vouches(self, _claims: Claims, _key: VerificationKey, _now: float) -> bool:
        """Never: each case is decided on its own."""
        return False

    def _completed(self, given: dict[str, Any]) -> dict[str, Any]:
        issuer = given.get("iss")
        rules = self._issuers.get(issuer, self._first) if isinstance(issuer, str) else self._first
        usual = {"iss": rules.issuer, "aud": min(rules.audiences), "sub": "user-1", "exp": self._expires_at}
        return usual | given


def _token(number: int) -> str:
    return f"case-{number}"


def _request(number: int, case: Case) -> HttpRequest:
    asked = case.request
    bearer = () if case.claims is None else (("authorization", f"Bearer {_token(number)}"),)
    return HttpRequest(asked.method, asked.path, asked.host, (*asked.headers.items(), *bearer))


def _headers(decision: Decision, identities: Mapping[bytes, Headers]) -> dict[str, str]:
    """What the upstream sees for an allow, and the client for a denial."""
    if isinstance(decision, Allow):
        return dict((*identities.get(decision.identity.headers, ()), *decision.set_headers))
    return dict(decision.headers)


def _unmet(case: Case, decision: Decision, headers: Mapping[str, str]) -> Iterator[str]:
    """What was expected and is not so."""
    permitted = decision.reason in PERMITTED
    if not (permitted if case.expect == ALLOW else decision.reason == case.expect):
        yield case.expect
    if case.rule is not None and decision.rule != case.rule:
        yield f"rule {case.rule}"
    if case.mode is not None and decision.mode is not case.mode:
        yield f"mode {case.mode}"
    for name, value in case.headers.items():
        if headers.get(name) != value:
            yield f"{name}: {value}"


def _failure(case: Case, line: int, decision: Decision, headers: Mapping[str, str], expected: list[str]) -> Failure:
    answer = ALLOW if decision.reason in PERMITTED else decision.reason.value
    shadow = " (in shadow mode: let through all the same)" if isinstance(decision, Allow) and answer != ALLOW else ""
    got = [f"{answer}{shadow}, {f'rule {decision.rule}' if decision.rule else 'no rule'}, mode {decision.mode}"]
    got += [f"{name}: {headers[name]}" if name in headers else f"no {name}" for name in case.headers]
    return Failure(case.name, line, _described(case), "; ".join(expected), "; ".join(got), _why(decision))


def _why(decision: Decision) -> str:
    """The sentence that the client reads."""
    return "" if isinstance(decision, Allow) else str(json.loads(decision.body)["message"])


def _described(case: Case) -> str:
    claims = "no token" if case.claims is None else f"claims {case.claims}" if case.claims else "a token without claims"
    return f"{case.request.method} {case.request.path} with {claims}"


