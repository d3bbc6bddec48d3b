"""Policy text in, a compiled :class:`Policy` out, or every mistake at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain, islice
from typing import NamedTuple

from pydantic import ValidationError

from authz_service.errors import ConfigurationError
from authz_service.model import Mode
from authz_service.policy.document import (
    DefaultsDocument,
    IssuerDocument,
    PolicyDocument,
    Requiring,
    RuleDocument,
    policy_json_schema,
)
from authz_service.policy.hosts import HostList
from authz_service.policy.mistakes import describe, shown, shown_key
from authz_service.policy.requirement import Requirement
from authz_service.policy.routes import COMMON_METHODS, RouteTable, Rule
from authz_service.policy.yaml_reader import Unclear, read_yaml

__all__ = ["DEFAULT_IDENTITY_HEADERS", "MAX_POLICY_BYTES", "TOO_LARGE", "Policy", "parse_policy", "policy_json_schema"]

MAX_POLICY_BYTES = 1 << 20
"""A ConfigMap of Kubernetes holds no more."""
TOO_LARGE = f"must be at most {MAX_POLICY_BYTES} bytes long"
MAX_PROBLEMS = 1000

DEFAULT_IDENTITY_HEADERS = tuple(
    (claim, f"x-auth-{claim.replace('_', '-')}")
    for claim in ("sub", "org_id", "roles", "permissions", "username", "email", "exp")
)


ClaimsToHeaders = tuple[tuple[str, str], ...]
"""Pairs of claim and header."""


class IssuerPolicy(NamedTuple):
    """What the policy says about one issuer. What it leaves open (None) is for the environment to say."""

    issuer: str
    jwks_url: str | None
    discovery: bool
    audiences: frozenset[str] | None
    identity_headers: ClaimsToHeaders


@dataclass(frozen=True, slots=True)
class Policy:
    """What one policy file says."""

    routes: RouteTable
    hosts: HostList
    default_mode: Mode
    """For requests that no rule is known to be about."""
    identity_headers: ClaimsToHeaders
    digest: str
    """The beginning of the text's SHA-256, to tell which policy is in use."""
    issuers: tuple[IssuerPolicy, ...] = ()
    """All whose tokens are accepted; none: that of the environment."""


def parse_policy(text: str) -> Policy:
    """Compile a policy.

    :raises ConfigurationError: with one line per mistake: where it is, and what would be right.
    """
    encoded = _encode(text)
    given, problems = read_yaml(text)
    document = _validate(given, problems)
    asked: dict[Requirement, Requirement] = {}
    routes = RouteTable(_rule(rule, document.defaults, asked) for rule in document.rules)
    headers = _pairs(document.claims_to_headers, DEFAULT_IDENTITY_HEADERS)
    return Policy(
        routes=routes, hosts=HostList(document.hosts), default_mode=document.defaults.mode,
        identity_headers=headers, digest=sha256(encoded).hexdigest()[:12],
        issuers=tuple(_issuer(issuer, headers) for issuer in document.issuers or ()),
    )  # fmt: skip


def _encode(text: str) -> bytes:
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigurationError(["must be Unicode text; it contains a lone surrogate"]) from None
    if len(encoded) > MAX_POLICY_BYTES:
        raise ConfigurationError([TOO_LARGE])
    return encoded


def _validate(given: object, problems: Iterable[str]) -> PolicyDocument:
    if not isinstance(given, dict):
        raise ConfigurationError([*problems, _no_policy(given)])
    across = [
        *_used_twice("rules", "name", given), *_used_twice("issuers", "issuer", given), *_headers_used_twice("", given),
        *chain.from_iterable(_headers_used_twice(f"issuers[{at}].", issuer) for at, issuer in _items("issuers", given)),
    ]  # fmt: skip
    try:
        document = PolicyDocument.model_validate(given)
    except ValidationError as error:
        in_fields = describe(error.errors(include_url=False), given)
        raise ConfigurationError(_readable(chain(problems, in_fields, across))) from None
    if problems or across:
        raise ConfigurationError(_readable(chain(problems, across)))
    return document


def _readable(problems: Iterator[str]) -> Iterator[str]:
    """A file that is something else altogether does not fill the log."""
    yield from islice(problems, MAX_PROBLEMS)
    if next(problems, None) is not None:
        yield f"these are the first {MAX_PROBLEMS} mistakes; there are more"


def _no_policy(given: object) -> str:
    if given == Unclear(""):
        return "is empty; a policy has at least version: 1 and rules: [], which denies everything"
    return f"must be a mapping with the keys version and rules, not {shown(given)}"


def _items(key: str, given: dict[str, object]) -> Iterator[tuple[int, dict[str, object]]]:
    items = given.get(key)
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict):
            yield index, item


def _used_twice(items: str, key: str, given: dict[str, object]) -> Iterator[str]:
    """What tells one item from another, in two of them."""
    first: dict[str, int] = {}
    for index, item in _items(items, given):
        name = item.get(key)
        if isinstance(name, str) and first.setdefault(name, index) != index:
            there = f"the {key} of {items}[{first[name]}]"
            yield f"{items}[{index}].{key}: {shown(name)} is {there} already; give it its own"


def _headers_used_twice(place: str, given: dict[str, object]) -> Iterator[str]:
    first: dict[str, str] = {}
    headers = given.get("claims_to_headers")
    for claim, header in headers.items() if isinstance(headers, dict) else ():
        if isinstance(header, str) and first.setdefault(header, claim) != claim:
            there = shown_key(first[header])
            at = f"{place}claims_to_headers.{shown_key(claim)}"
            yield f"{at}: {shown(header)} carries {there} already; give it its own"


def _issuer(document: IssuerDocument, headers: ClaimsToHeaders) -> IssuerPolicy:
    return IssuerPolicy(
        document.issuer, document.jwks_url, document.discovery is not None,
        None if document.audiences is None else frozenset(document.audiences),
        _pairs(document.claims_to_headers, headers),
    )  # fmt: skip


def _pairs(given: dict[str, str] | None, otherwise: ClaimsToHeaders) -> ClaimsToHeaders:
    return otherwise if given is None else tuple(given.items())


def _rule(document: RuleDocument, defaults: DefaultsDocument, asked: dict[Requirement, Requirement]) -> Rule:
    """:param asked: by the rules before. Those that ask the same share it: what many rules touch is soon at hand."""
    requirement = None if document.require is None else _requirement(document.require)
    own_rollout = document.mode is not None or document.enforce_percent is not None
    return Rule(
        name=document.name,
        pattern=document.match.pattern,
        methods=COMMON_METHODS if document.match.methods is None else frozenset(document.match.methods),
        public=document.public is not None,
        requirement=requirement and asked.setdefault(requirement, requirement),
        mode=document.mode or defaults.mode,
        # A rule that says "enforce" means everyone, whatever share of callers the defaults begin with.
        enforce_percent=document.enforce_percent if own_rollout else defaults.enforce_percent,
        cors_preflight=defaults.cors_preflight if document.cors_preflight is None else document.cors_preflight,
    )


def _requirement(document: Requiring) -> Requirement:
    return Requirement(
        authenticated=document.authenticated is not None,
        all_permissions=_together(document.permission, document.all_permissions),
        any_permission=None if document.any_permission is None else frozenset(document.any_permission),
        all_roles=_together(document.role, None),
        any_role=None if document.any_role is None else frozenset(document.any_role),
        claim_equals_param=tuple((document.claim_equals_param or {}).items()),
    )


def _together(one: str | None, several: Iterable[str] | None) -> frozenset[str]:
    return frozenset(several or ()) | (frozenset() if one is None else {one})
