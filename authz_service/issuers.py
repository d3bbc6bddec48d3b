"""Whose tokens are accepted: what the policy file says, completed by the environment."""

from typing import NamedTuple

from authz_service.config import Config
from authz_service.http_url import well_known
from authz_service.policy.loader import IssuerPolicy, Policy
from authz_service.token.claims import ClaimRules


class TrustedIssuer(NamedTuple):
    """One issuer, with all that is needed to verify its tokens."""

    rules: ClaimRules
    keys_url: str
    """Where its key set is; with ``discovery``, where it says so."""
    discovery: bool = False

    @property
    def issuer(self) -> str:
        """Its ``iss``, to the letter."""
        return self.rules.issuer


def trusted_issuers(config: Config, policy: Policy) -> tuple[TrustedIssuer, ...]:
    """Those of the policy; if it names none, the environment's one. At least one, each ``iss`` once."""
    if policy.issuers:
        return tuple(_completed(issuer, config) for issuer in policy.issuers)
    return (TrustedIssuer(_rules(config.issuer, None, config), config.jwks_url),)


def _completed(said: IssuerPolicy, config: Config) -> TrustedIssuer:
    rules = _rules(said.issuer, said.audiences, config)
    if said.discovery:
        return TrustedIssuer(rules, well_known(said.issuer, "openid-configuration"), discovery=True)
    default = config.jwks_url if said.issuer == config.issuer else well_known(said.issuer, "jwks.json")
    return TrustedIssuer(rules, said.jwks_url or default)


def _rules(issuer: str, audiences: frozenset[str] | None, config: Config) -> ClaimRules:
    audiences = frozenset(config.audiences) if audiences is None else audiences
    return ClaimRules(issuer, audiences, config.leeway_seconds)
