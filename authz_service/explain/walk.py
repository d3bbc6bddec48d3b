"""Why a request is allowed or denied: each step of the decision, taken in the rooms that the service takes it in.

The verdict is the real :class:`.Authorizer`'s. The steps ask the same rooms once more, one by one, and say what each of
them said. Nothing of what is said here repeats a token or its signature.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from authz_service.authorizer import Authorizer, Limits
from authz_service.caller import Introduction
from authz_service.errors import AlgorithmNotAllowed, Reason, Refused, RequestRefused, UnknownKeyId
from authz_service.explain.key_sets import KeySets, known
from authz_service.explain.step import Outcome, Step
from authz_service.explain.words import ambiguity, claim_lines, printable, requirement_lines
from authz_service.issuers import TrustedIssuer
from authz_service.model import Allow, Decision, Deny, Headers, HttpRequest
from authz_service.policy.loader import Policy
from authz_service.policy.path import split_target
from authz_service.policy.rollout import effective_mode
from authz_service.policy.routes import Match, RouteTable, Rule
from authz_service.token.claims import unverified_issuer
from authz_service.token.extractor import bearer_token
from authz_service.token.jws import parse_compact
from authz_service.token.verifier import TokenVerifier, VerifiedToken
from authz_service.transport.check import encode_identity


class Explanation(NamedTuple):
    """A decision, and how it came about."""

    decision: Decision
    headers: Headers
    """Set on the request of an allow, or on the answer of a denial."""
    steps: tuple[Step, ...]
    target: str
    """The path of the request, without its query, as a terminal may show it."""


class Explainer:
    """Explains decisions of one policy at one time.

    :param now: Unix seconds.
    """

    def __init__(
        self, policy: Policy, issuers: Iterable[TrustedIssuer], keys: KeySets, *, algorithms: frozenset[str],
        limits: Limits, now: float,
    ) -> None:  # fmt: skip
        self.policy, self.algorithms, self.limits, self.keys, self.now = policy, algorithms, limits, keys, now
        self.rules = {issuer.issuer: issuer.rules for issuer in issuers}
        self.verifier = TokenVerifier(keys, self.rules, algorithms)
        self.identities: dict[bytes, Headers] = {}
        self.introduction = Introduction(
            policy, limits.max_injected_bytes, self._encode, forward_authorization=limits.forward_authorization
        )
        self._authorizer = Authorizer(policy, self.verifier, limits, lambda: now, self._encode)

    def explain(self, request: HttpRequest, *, after_refresh: bool = False) -> Explanation:
        """The decision and its steps; :raises UnknownKeyId: as :meth:`.Authorizer.authorize`."""
        decision = self._authorizer.authorize(request, after_refresh=after_refresh)
        if isinstance(decision, Deny):
            headers = decision.headers
        else:
            headers = (*self.identities.get(decision.identity.headers, ()), *decision.set_headers)
        target = printable(request.path.partition("?")[0])
        return Explanation(decision, headers, tuple(_Walk(self, request, decision).steps), target)

    def _encode(self, headers: Headers, subject: str, kid: str) -> tuple[bytes, bytes]:
        encoded, metadata = encode_identity(headers, subject, kid)
        self.identities[encoded] = headers
        return encoded, metadata


class _Walk:
    """One request on its way through the rooms; ends where the first of them refuses."""

    def __init__(self, explainer: Explainer, request: HttpRequest, decision: Decision) -> None:
        self._explainer = explainer
        self._policy = explainer.policy
        self._request = request
        self._decision = decision
        self._at = "path"
        self._details: tuple[str, ...] = ()
        """For the step that is being taken, should it be refused."""
        self.steps: list[Step] = []
        try:
            self._go()
        except UnknownKeyId:
            self._refused(Reason.KEY_NOT_FOUND, "The access token's key is not known.")
        except Refused as refused:
            self._refused(refused.reason, refused.message)

    def _go(self) -> None:
        segments = self._path()
        self._host()
        if self._preflight():
            return
        match = self._rule(segments)
        if match is None or self._public(match.rule):
            return
        verified = self._token(self._credentials())
        self._requirement(match, segments, verified)
        self._identity(verified)
        self._mode(match.rule, verified.claims.subject)

    def _path(self) -> tuple[str, ...]:
        target = self._request.path
        self._details = ambiguity(target)
        segments = split_target(target)
        self._passed("path", f"{printable(target.partition('?')[0])} has one meaning")
        return segments

    def _host(self) -> None:
        self._begin("host")
        if not self._policy.hosts.permits(self._request.host):
            given = "" if self._request.host else "; none was given: see --host"
            raise RequestRefused(Reason.HOST_NOT_ALLOWED, f"This host is not among the policy's hosts{given}.")
        self._passed("host", f"{printable(self._request.host) or 'any host'} is served")

    def _preflight(self) -> bool:
        if self._decision.reason is Reason.CORS_PREFLIGHT:
            self._passed("preflight", f"a CORS preflight, which rule {self._decision.rule} lets pass without a token")
            return True
        if self._request.method == "OPTIONS":
            self._noted("preflight", (
                "not one that passes: that takes the headers Origin and Access-Control-Request-Method, and a rule for "
                "the path with cors_preflight"
            ))  # fmt: skip
        return False

    def _rule(self, segments: tuple[str, ...]) -> Match | None:
        looks = [f"{rule.name}: {_look(rule, self._request.method, segments)}" for rule in self._policy.routes.rules]
        self._begin("rule", *looks)
        match = self._policy.routes.match(self._request.method, segments)
        if match is None:
            self._refused(Reason.NO_MATCHING_RULE, "No rule permits this request.")
            return None
        bound = [f"{{{name}}} is {printable(value)}" for name, value in match.params(segments).items()]
        self._passed("rule", f"{match.rule.name} decides, the first that matches", *looks[: match.place + 1], *bound)
        return match

    def _public(self, rule: Rule) -> bool:
        if rule.public:
            self._passed("public", "everyone may; no token is looked at")
            self._mode(rule, "")
        return rule.public

    def _credentials(self) -> str:
        self._begin("credentials")
        token = bearer_token(self._request.headers, self._explainer.limits.max_token_bytes)
        self._passed("credentials", f"one bearer token of {len(token)} bytes")
        return token

    def _token(self, token: str) -> VerifiedToken:
        explainer = self._explainer
        self._begin("header", f"allowed: {', '.join(sorted(explainer.algorithms))}")
        try:
            unverified = parse_compact(token, explainer.algorithms)
        except AlgorithmNotAllowed as refused:
            self._details = (f"the token names {refused.algorithm}", *self._details)
            raise
        except Refused:
            self._details = ()
            raise
        kid = printable(unverified.kid)
        self._passed("header", f"a signed JWT: alg {unverified.algorithm}, kid {kid}")
        self._begin("issuer", *(f"trusted: {issuer}" for issuer in explainer.rules))
        issuer = unverified_issuer(unverified.unverified_payload)
        if issuer in explainer.rules:
            self._passed("issuer", f"{issuer} is trusted")
            self._begin("key", *known(explainer.keys.of(issuer)))
            explainer.keys.key(issuer, unverified.kid)
            self._passed("key", f"{kid} is in the issuer's key set")
        return self._verified(token, unverified.unverified_payload)

    def _verified(self, token: str, unverified_payload: Mapping[str, object]) -> VerifiedToken:
        explainer = self._explainer
        try:
            verified = explainer.verifier.verify(token, explainer.now)
        except Refused as refused:
            if refused.reason is Reason.SIGNATURE_INVALID:
                self._begin("signature")
            elif self._at == "key" and not isinstance(refused, AlgorithmNotAllowed):
                self._signed_claims(unverified_payload)
            raise
        self._signed_claims(unverified_payload)
        self._passed("claims", "the token is meant for this service, and valid now", *self._details)
        return verified

    def _signed_claims(self, payload: Mapping[str, object]) -> None:
        self._passed("signature", "good")
        rules = self._explainer.rules[str(payload["iss"])]
        self._begin("claims", *claim_lines(payload, rules, self._explainer.now))

    def _requirement(self, match: Match, segments: tuple[str, ...], verified: VerifiedToken) -> None:
        requirement = match.rule.requirement
        if requirement is None:
            raise ValueError("a rule is public, or it requires something")
        params = match.params(segments)
        self._begin("requirement", *requirement_lines(requirement, verified.claims, params))
        requirement.check(verified.claims, params)
        self._passed("requirement", "all that the rule names holds", *self._details)

    def _identity(self, verified: VerifiedToken) -> None:
        self._begin("identity")
        self._explainer.introduction.of(verified).identity()
        self._passed("identity", "the headers can carry it")

    def _mode(self, rule: Rule, subject: str) -> None:
        mode = effective_mode(rule.mode, rule.enforce_percent, subject)
        share = "" if rule.enforce_percent is None else f", which enforces for {rule.enforce_percent} % of callers"
        self._noted("mode", f"{mode}, by rule {rule.name}{share}")

    def _begin(self, name: str, *details: str) -> None:
        self._at, self._details = name, details

    def _passed(self, name: str, text: str, *details: str) -> None:
        self.steps.append(Step(name, Outcome.PASSED, text, details))

    def _noted(self, name: str, text: str) -> None:
        self.steps.append(Step(name, Outcome.NOTED, text))

    def _refused(self, reason: Reason, message: str) -> None:
        self.steps.append(Step(self._at, Outcome.REFUSED, message, self._details, reason))
        if isinstance(self._decision, Allow):
            self._noted("mode", f"{self._decision.mode}: let through all the same, with x-auth-shadow")


def _look(rule: Rule, method: str, segments: tuple[str, ...]) -> str:
    """What one rule alone says to a request, asked of a table of its own."""
    alone = RouteTable([replace(rule, cors_preflight=True)])
    try:
        if alone.match_preflight(segments) is None:
            return f"another path ({rule.pattern})"
        if alone.match(method, segments) is None:
            return f"another method ({', '.join(sorted(rule.methods))})"
    except RequestRefused:
        return f"this path once decoded, and paths are not decoded ({rule.pattern})"
    return f"matches ({rule.pattern})"
