"""What a caller must be, have, or be named as. All that a requirement names must hold.

Comparison is literal: no wildcards, no case folding, never a substring.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from authz_service.errors import AccessRefused, Reason
from authz_service.model import Claims


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a rule asks of verified claims.

    :raises ValueError: when it asks for nothing; anyone with a token is ``authenticated=True``, in so many words.
    """

    authenticated: bool = False
    all_permissions: frozenset[str] = frozenset()
    any_permission: frozenset[str] | None = None
    """``None``: not asked for; empty: nobody."""
    all_roles: frozenset[str] = frozenset()
    any_role: frozenset[str] | None = None
    """``None``: not asked for; empty: nobody."""
    claim_equals_param: tuple[tuple[str, str], ...] = ()
    """Pairs of a claim and the path parameter that it must equal."""

    def __post_init__(self) -> None:
        any_of = self.any_permission is not None or self.any_role is not None
        if not (self.authenticated or self.all_permissions or self.all_roles or self.claim_equals_param or any_of):
            raise ValueError("a requirement asks for something")

    def check(self, claims: Claims, params: Mapping[str, str]) -> None:
        """Hold the claims, and the decoded path parameters, against this requirement.

        :raises AccessRefused: ``permission_denied``, ``role_denied`` or ``param_mismatch``, the first of them.
        """
        granted, anything = claims.permissions, self.any_permission
        if not self.all_permissions <= granted or (anything is not None and anything.isdisjoint(granted)):
            raise self._permission_denied()
        held, anything = claims.roles, self.any_role
        if not self.all_roles <= held or (anything is not None and anything.isdisjoint(held)):
            raise self._role_denied()
        pairs = self.claim_equals_param
        if not pairs or all(_equals(claims.payload.get(claim), params.get(name)) for claim, name in pairs):
            return
        raise AccessRefused(Reason.PARAM_MISMATCH, self._mismatch())  # whatever else: no

    def _permission_denied(self) -> AccessRefused:
        required = {"all": sorted(self.all_permissions)} if self.all_permissions else {}
        if self.any_permission is not None:
            required["any"] = sorted(self.any_permission)
        message = _needs("permission", self.all_permissions, self.any_permission)
        return AccessRefused(Reason.PERMISSION_DENIED, message, required=required)

    def _role_denied(self) -> AccessRefused:
        return AccessRefused(Reason.ROLE_DENIED, _needs("role", self.all_roles, self.any_role))

    def _mismatch(self) -> str:
        pairs = (f"the path's {name} must equal the token's {claim}" for claim, name in self.claim_equals_param)
        return f"Here {' and '.join(pairs)}."


def _equals(claim: object, param: str | None) -> bool:
    """Only a string can equal a path parameter: 7, true and ["7"] are not "7"; absent equals nothing."""
    return isinstance(claim, str) and claim == param


def _needs(noun: str, everything: frozenset[str], anything: frozenset[str] | None) -> str:
    """``This needs the permissions a and b, and one of c, d.``"""
    if anything is not None and not anything:
        return f"This is granted to nobody: the rule accepts no {noun}."
    parts = []
    if everything:
        parts.append(f"the {noun}{'s' * (len(everything) > 1)} {' and '.join(sorted(everything))}")
    if anything:
        parts.append(f"one of the {noun}s {', '.join(sorted(anything))}")
    return f"This needs {', and '.join(parts)}."
