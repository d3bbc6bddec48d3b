"""Decisions as values that can be compared."""

from authz_service.kept import Outcome, Unspoken
from authz_service.model import Claims, Decision, Identity, Verdict

FIELDS: dict[type, tuple[str, ...]] = {
    Claims: ("issuer", "subject", "expires_at", "permissions", "roles", "payload"),
    Identity: ("unspoken", "headers", "metadata"),
    Outcome: ("answer", "reason", "mode"),
    Unspoken: ("names",),
    Verdict: ("outcome", "rule_name"),
}


def as_values(decision: Decision) -> tuple[object, ...]:
    """Field by field, also of what it holds."""
    return (type(decision), *(_values(value) for value in decision))


def _values(value: object) -> object:
    for kind, names in FIELDS.items():
        if isinstance(value, kind):  # a caller is as good as the claims, a match as the verdict
            return tuple(_values(getattr(value, name)) for name in names)
    return value
