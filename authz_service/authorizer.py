"""The whole story of one request. Synchronous, without I/O and without a clock of its own."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from authz_service.caller import Caller, Encode, Introduction
from authz_service.errors import (
    AccessRefused,
    Reason,
    Refused,
    RequestRefused,
    TokenRefused,
    UnknownKeyId,
)
from authz_service.model import Allow, Claims, Decision, Deny, Headers, HttpRequest, Identity, Mode, Verdict, verdict_of
from authz_service.policy.loader import Policy
from authz_service.policy.path import split_target
from authz_service.policy.rollout import effective_mode
from authz_service.policy.routes import Match
from authz_service.response.challenge import deny
from authz_service.response.identity_headers import EVERY_ALLOW, SHADOW_HEADER, identity_headers_in
from authz_service.token.extractor import authorization, single_token, usual_spelling
from authz_service.token.jws import VerificationKey
from authz_service.token.verified import VerifiedTokens, digest
from authz_service.token.verifier import VerifiedToken

new_tuple: Final = tuple.__new__
_ALLOWED: Final = Reason.ALLOWED
"""Spares each request the look-up, which on an Enum costs four times that of a name."""


class Verifier(Protocol):
    """Turns a bearer token into a verified one; see :class:`authz_service.token.verifier.TokenVerifier`."""

    def verify(self, token: str, now: float) -> VerifiedToken: ...  # noqa: D102
    def vouches(self, claims: Claims, key: VerificationKey, now: float) -> bool: ...  # noqa: D102


class Limits(NamedTuple):
    """What the configuration says about sizes and forwarding."""

    max_token_bytes: int
    max_injected_bytes: int
    forward_authorization: bool
    cache_entries: int
    cache_bytes: int


class _Findings:
    """What is known about a request so far; a refusal half-way is answered with as much."""

    match: Match | None = None
    caller: Caller | None = None


class Authorizer:
    """Decides requests by a policy and verified tokens.

    :param encode: renders an identity once, for all the answers that will carry it.
    :param clock: Unix seconds.
    """

    def __init__(
        self, policy: Policy, verifier: Verifier, limits: Limits, clock: Callable[[], float], encode: Encode
    ) -> None:
        self._verifier = verifier
        self._limits = limits
        self._clock = clock
        self._encode = encode
        self.remembered: VerifiedTokens[Caller] = VerifiedTokens(limits.cache_entries, limits.cache_bytes)
        self._introduction = self._introduce(policy)
        self._decide_by(policy)

    def use_policy(self, policy: Policy) -> None:
        """Decide by this policy from the next request on."""
        introduction = self._introduce(policy)
        if introduction.says != self._introduction.says:
            self.remembered.clear()  # who was introduced by the old one
        self._introduction = introduction
        self._decide_by(policy)

    def _decide_by(self, policy: Policy) -> None:
        self.policy = policy
        self._hosts, self._routes = policy.hosts, policy.routes  # at hand, for each request

    def authorize(self, request: HttpRequest, *, after_refresh: bool = False) -> Decision:
        """Allow or deny.

        :param after_refresh: a key that is still unknown is now the token's fault.
        :raises UnknownKeyId: a key that may come: refresh the issuer's keys once and ask again, ``after_refresh``.
        :raises NoVerdictYet: of other kinds, as the verifier does.
        """
        findings = _Findings()
        try:
            return self._decide(request, findings)
        except UnknownKeyId as unknown:
            if unknown.may_come and not after_refresh:
                raise
            refused: Refused = TokenRefused(Reason.KEY_NOT_FOUND, "The access token's key is not known.")
        except Refused as refusal:
            refused = refusal.with_traceback(None)  # which leads back to here: a circle that only gc could open
        if self._mode(findings) is Mode.SHADOW:
            return self._would_deny(refused, request, findings)
        return self._deny(refused, request, findings)

    def _decide(self, request: HttpRequest, findings: _Findings) -> Allow:
        method, path, host, headers, _ = request
        segments = split_target(path)
        routes = self._routes
        if not self._hosts.permits(host):
            raise RequestRefused(Reason.HOST_NOT_ALLOWED, "This host is not served here.")
        if is_preflight(method, headers) and (preflight := routes.match_preflight(segments)):
            findings.match = preflight
            return self._allow(Reason.CORS_PREFLIGHT, headers, findings)
        if (match := routes.match(method, segments)) is not None:
            findings.match = match
            terms = match.terms
            if terms.public:
                return self._allow(Reason.PUBLIC, headers, findings)
            findings.caller = caller = self._caller(headers)
            if terms.requirement is not None:
                terms.requirement.check(caller, match.params(segments))
                return self._allow(_ALLOWED, headers, findings, caller.identity())
        raise AccessRefused(Reason.NO_MATCHING_RULE, "No rule permits this request.")

    def _caller(self, headers: Headers) -> Caller:
        """Whom the credentials speak for: remembered, if they would be accepted again now, or verified."""
        now = self._clock()
        credentials = authorization(headers)
        # Only those that were found to be exactly one token ever are; one token is once, however its header is spelled.
        remembered_by = digest(usual_spelling(credentials[0])) if len(credentials) == 1 else b""
        caller = self.remembered.get(remembered_by) if remembered_by else None
        if caller is not None:
            if self._verifier.vouches(caller, caller.key, now):
                return caller
            self.remembered.forget(remembered_by)
        token = single_token(credentials, self._limits.max_token_bytes)
        caller = self._introduction.of(self._verifier.verify(token, now))
        self.remembered.put(remembered_by, caller)
        return caller

    def _mode(self, findings: _Findings) -> Mode:
        match, caller = findings.match, findings.caller
        if match is None:
            return self.policy.default_mode
        rule = match.rule
        if rule.enforce_percent is None:
            return rule.mode
        return effective_mode(rule.mode, rule.enforce_percent, caller.subject if caller else "")

    def _allow(
        self, reason: Reason, headers: Headers, findings: _Findings, identity: Identity | None = None,
        shadow: Headers = (),
    ) -> Allow:
        """Every allow sets the contract header and removes each identity header that it does not set."""
        identity = identity or self._introduction.nobody
        spoofed = identity_headers_in(headers)
        remove = identity.unspoken.names if not spoofed and not shadow else self._unspoken(identity, spoofed, shadow)
        match, caller = findings.match, findings.caller
        verdict: Verdict
        if match is not None and match.terms.same_for_all and match.outcome.reason is reason:
            verdict = match
        else:
            verdict = verdict_of("allow", reason, match.rule.name if match else "", self._mode(findings))
        kid = caller.key.kid if caller is not None else ""
        return new_tuple(Allow, (
            verdict, EVERY_ALLOW + shadow if shadow else EVERY_ALLOW, remove, len(spoofed), caller, kid, identity,
        ))  # fmt: skip

    def _unspoken(self, identity: Identity, spoofed: list[str], shadow: Headers) -> tuple[str, ...]:
        spoken = self._introduction.reserved.difference(identity.unspoken.names).union(name for name, _ in shadow)
        return tuple(sorted({*identity.unspoken.names, *spoofed} - spoken))

    def _would_deny(self, refused: Refused, request: HttpRequest, findings: _Findings) -> Allow:
        """Shadow: let through what would be denied, say so, and inject a valid identity all the same."""
        warning = ((SHADOW_HEADER, f"would-deny; reason={refused.reason}"),)
        identity = findings.caller.identity_if_any if findings.caller else None
        return self._allow(refused.reason, request.headers, findings, identity, warning)

    def _deny(self, refused: Refused, request: HttpRequest, findings: _Findings) -> Deny:
        match, caller = findings.match, findings.caller
        return deny(
            refused, rule=match.rule.name if match else "", mode=Mode.ENFORCE, request_id=request.request_id,
            claims=caller, kid=caller.key.kid if caller else "",
        )  # fmt: skip

    def _introduce(self, policy: Policy) -> Introduction:
        limits = self._limits
        return Introduction(
            policy, limits.max_injected_bytes, self._encode, forward_authorization=limits.forward_authorization
        )


def is_preflight(method: str, headers: Headers) -> bool:
    """Fetch standard, CORS preflight: OPTIONS with ``Origin`` and ``Access-Control-Request-Method``."""
    if method != "OPTIONS":
        return False
    names = {name.lower() for name, value in headers if value}
    return "origin" in names and "access-control-request-method" in names
