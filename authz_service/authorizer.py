"""The whole story of one request. Synchronous, without I/O and without a clock of its own."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from authz_service.errors import (
    AccessRefused,
    Reason,
    Refused,
    RequestRefused,
    TokenRefused,
    UnknownKeyId,
)
from authz_service.model import Allow, Decision, Deny, HttpRequest, Mode, VerifiedToken
from authz_service.policy.loader import Policy
from authz_service.policy.path import split_target
from authz_service.policy.rollout import effective_mode
from authz_service.policy.routes import Match, Rule
from authz_service.response.challenge import deny
from authz_service.response.identity_headers import CONTRACT_HEADER, SHADOW_HEADER, IdentityHeaders, is_identity_header
from authz_service.token.extractor import bearer_token


class Verifier(Protocol):
    """Turns a bearer token into a verified one; see :class:`authz_service.token.verifier.TokenVerifier`."""

    def verify(self, token: str, now: float) -> VerifiedToken: ...  # noqa: D102


class Limits(NamedTuple):
    """What the configuration says about sizes and forwarding."""

    max_token_bytes: int = 8192
    max_injected_bytes: int = 8192
    forward_authorization: bool = False


class _Findings:
    """What is known about a request so far; a refusal half-way is answered with as much."""

    __slots__ = ("rule", "token")

    def __init__(self) -> None:
        self.rule: Rule | None = None
        self.token: VerifiedToken | None = None


class Authorizer:
    """Decides requests by a policy and verified tokens.

    :param clock: Unix seconds.
    """

    def __init__(self, policy: Policy, verifier: Verifier, limits: Limits, clock: Callable[[], float]) -> None:
        self._verifier = verifier
        self._limits = limits
        self._clock = clock
        self.use_policy(policy)

    def use_policy(self, policy: Policy) -> None:
        """Decide by this policy from the next request on."""
        self.policy = policy
        self._identity = IdentityHeaders(policy.identity_headers, self._limits.max_injected_bytes)

    def authorize(self, request: HttpRequest, *, after_refresh: bool = False) -> Decision:
        """Allow or deny.

        :param after_refresh: a key that is still unknown is now the token's fault.
        :raises UnknownKeyId: unless ``after_refresh``: refresh the issuer's keys once and ask again.
        """
        findings = _Findings()
        try:
            return self._decide(request, findings)
        except UnknownKeyId:
            if not after_refresh:
                raise
            refused: Refused = TokenRefused(Reason.KEY_NOT_FOUND, "The access token's key is not known.")
        except Refused as refusal:
            refused = refusal
        if self._mode(findings) is Mode.SHADOW:
            return self._would_deny(refused, request, findings)
        return self._deny(refused, request, findings)

    def _decide(self, request: HttpRequest, findings: _Findings) -> Allow:
        segments = split_target(request.path)
        if not self.policy.hosts.permits(request.host):
            raise RequestRefused(Reason.HOST_NOT_ALLOWED, "This host is not served here.")
        if _is_preflight(request) and (preflight := self.policy.routes.match_preflight(segments)):
            findings.rule = preflight.rule
            return self._allow(Reason.CORS_PREFLIGHT, request, findings)
        match = self._match(request, segments)
        findings.rule = match.rule
        if match.rule.public:
            return self._allow(Reason.PUBLIC, request, findings)
        token = bearer_token(request.headers, self._limits.max_token_bytes)
        findings.token = self._verifier.verify(token, self._clock())
        if match.rule.requirement is not None:
            match.rule.requirement.check(findings.token.claims, match.params)
            return self._allow(Reason.ALLOWED, request, findings, self._identity.render(findings.token.claims))
        raise AccessRefused(Reason.NO_MATCHING_RULE, "No rule permits this request.")

    def _match(self, request: HttpRequest, segments: tuple[str, ...]) -> Match:
        match = self.policy.routes.match(request.method, segments)
        if match is None:
            raise AccessRefused(Reason.NO_MATCHING_RULE, "No rule permits this request.")
        return match

    def _mode(self, findings: _Findings) -> Mode:
        rule, token = findings.rule, findings.token
        if rule is None:
            return self.policy.default_mode
        return effective_mode(rule.mode, rule.enforce_percent, token.claims.subject if token else "")

    def _allow(
        self, reason: Reason, request: HttpRequest, findings: _Findings, identity: tuple[tuple[str, str], ...] = (),
    ) -> Allow:
        """Every allow sets the contract header and removes each identity header that it does not set."""
        spoofed = [name.lower() for name, _ in request.headers if is_identity_header(name)]
        set_headers = (*identity, CONTRACT_HEADER)
        unspoken = {*spoofed, *self._identity.reserved}.difference(name for name, _ in set_headers)
        if not self._limits.forward_authorization:
            unspoken.add("authorization")
        rule, token = findings.rule, findings.token
        return Allow(
            reason=reason, rule=rule.name if rule else "", mode=self._mode(findings), set_headers=set_headers,
            remove_headers=tuple(sorted(unspoken)), spoofed_headers=len(spoofed),
            subject=token.claims.subject if token else "", kid=token.kid if token else "",
        )  # fmt: skip

    def _would_deny(self, refused: Refused, request: HttpRequest, findings: _Findings) -> Allow:
        """Shadow: let through what would be denied, say so, and inject a valid identity all the same."""
        warning = (SHADOW_HEADER, f"would-deny; reason={refused.reason}")
        return self._allow(refused.reason, request, findings, (*self._identity_if_any(findings.token), warning))

    def _identity_if_any(self, token: VerifiedToken | None) -> tuple[tuple[str, str], ...]:
        try:
            return self._identity.render(token.claims) if token else ()
        except Refused:
            return ()  # what no header can carry is left out whole

    def _deny(self, refused: Refused, request: HttpRequest, findings: _Findings) -> Deny:
        rule, token = findings.rule, findings.token
        return deny(
            refused, rule=rule.name if rule else "", mode=Mode.ENFORCE, request_id=request.request_id,
            subject=token.claims.subject if token else "", kid=token.kid if token else "",
        )  # fmt: skip


def _is_preflight(request: HttpRequest) -> bool:
    """Fetch standard, CORS preflight: OPTIONS with ``Origin`` and ``Access-Control-Request-Method``."""
    if request.method != "OPTIONS":
        return False
    names = {name.lower() for name, value in request.headers if value}
    return "origin" in names and "access-control-request-method" in names
