"""What the claims of an access token must say (RFC 7519 section 4.1, RFC 9068 section 2.2).

The claims that this service decides by are judged here: their presence, their types, their values. Which other claims
become headers, and what a header can carry, is known to :mod:`authz_service.response.identity_headers` alone.
"""

from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NoReturn

from authz_service.errors import Reason, TokenRefused
from authz_service.model import Claims

LATEST_NUMERIC_DATE: Final = 2**53
"""Beyond it the numbers of JSON are not the same everywhere (RFC 8259 section 6)."""


_BEGINS: Final = (("nbf", "is not valid yet"), ("iat", "was issued in the future"))


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What a token of one issuer must claim."""

    issuer: str
    """Compared to the letter."""
    audiences: frozenset[str]
    """Any one of them will do."""
    leeway_seconds: float
    """For ``exp``, ``nbf`` and ``iat``: clocks differ."""


def unverified_issuer(payload: dict[str, Any]) -> str:
    """Who a token says that it is from, so that the key can be looked for; :raises TokenRefused: ``claims_invalid``."""
    return _text(payload, "iss")


def verify_claims(payload: dict[str, Any], rules: ClaimRules, now: float) -> Claims:
    """The claims, if they are right at ``now`` (Unix seconds).

    Judged in this order, each claim's type right before its value: whose (``iss``), for whom (``aud``), when (``exp``,
    ``nbf``, ``iat``), about whom (``sub``, ``jti``, ``permissions``, ``roles``). The first that fails is the reason.

    :raises TokenRefused: ``claims_invalid`` for a claim that is required and absent, or of a type or range that it
        cannot have; otherwise the reason that names the claim.
    """
    if _text(payload, "iss") != rules.issuer:
        raise TokenRefused(Reason.ISSUER_MISMATCH, "The access token was not issued by a trusted issuer.")
    if rules.audiences.isdisjoint(_audiences(payload)):
        raise TokenRefused(Reason.AUDIENCE_MISMATCH, "The access token is not meant for this service.")
    expires_at = _check_times(payload, rules.leeway_seconds, now)
    subject = _text(payload, "sub")
    if "jti" in payload:
        _text(payload, "jti")
    return Claims(
        issuer=rules.issuer, subject=subject, expires_at=int(expires_at), permissions=_texts(payload, "permissions"),
        roles=_texts(payload, "roles"), payload=MappingProxyType(payload),
    )  # fmt: skip


def vouched_claims(payload: dict[str, Any], issuer: str) -> Claims:
    """The claims that somebody whom we trust vouches for, so that no signature and no time is judged here.

    ``sub`` is required; ``exp``, ``permissions`` and ``roles`` may be absent.

    :param issuer: whose they are, if they do not say.
    :raises TokenRefused: ``claims_invalid`` for a claim of a type or range that it cannot have.
    """
    return Claims(
        issuer=_text(payload, "iss") if "iss" in payload else issuer, subject=_text(payload, "sub"),
        expires_at=int(_numeric_date(payload, "exp") or 0), permissions=_texts(payload, "permissions"),
        roles=_texts(payload, "roles"), payload=MappingProxyType(payload),
    )  # fmt: skip


def _check_times(payload: dict[str, Any], leeway: float, now: float) -> float:
    expires_at = _numeric_date(payload, "exp")
    if expires_at is None:
        _invalid("exp")
    if now >= expires_at + leeway:  # "on or after", RFC 7519 section 4.1.4
        raise TokenRefused(Reason.TOKEN_EXPIRED, f"The access token expired {int(now - expires_at)} s ago.")
    for name, begins in _BEGINS:
        begins_at = _numeric_date(payload, name)
        if begins_at is not None and now < begins_at - leeway:
            raise TokenRefused(Reason.TOKEN_NOT_YET_VALID, f"The access token {begins}.")
    return expires_at


def _numeric_date(payload: dict[str, Any], name: str) -> float | None:
    """RFC 7519 section 2: seconds since 1970, fractions allowed; absent is None."""
    if name not in payload:
        return None
    value = payload[name]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= LATEST_NUMERIC_DATE:
        _invalid(name)
    return value


def _audiences(payload: dict[str, Any]) -> Collection[str]:
    """RFC 7519 section 4.1.3: one string, or an array of them."""
    if isinstance(payload.get("aud"), str):
        return (_text(payload, "aud"),)
    return _texts(payload, "aud") or _invalid("aud")


def _texts(payload: dict[str, Any], name: str) -> frozenset[str]:
    """An array of strings; absent is empty. A single string is no array: nothing is searched for in it."""
    values = payload.get(name, [])
    if not isinstance(values, list):
        _invalid(name)
    for value in values:
        if not isinstance(value, str):
            _invalid(name)
    return frozenset(values)


def _text(payload: dict[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        _invalid(name)
    return value


def _invalid(name: str) -> NoReturn:
    """``name``: one of ours; nothing of the token is repeated."""
    raise TokenRefused(Reason.CLAIMS_INVALID, f"The access token's {name} claim is absent or not what it must be.")
