"""A refusal -> the denial that the client sees: status, ``WWW-Authenticate`` (RFC 6750 section 3), JSON body."""

import json
from functools import lru_cache
from typing import Any

from authz_service.errors import AccessRefused, Reason, Refused, TokenRefused, Unavailable
from authz_service.model import Claims, Deny, Mode

REALM = "chat-api"
MAX_REQUEST_ID_LENGTH = 128
KNOWN_SCOPES = 1024
"""They are the policy's own words."""

COARSE_DESCRIPTIONS = {
    401: "The access token is not acceptable",
    400: "The request is ambiguous or malformed",
    403: "The access token does not permit this request",
}
"""RFC 6750 section 3: for developers, not for attackers; which check failed is said in the body by a stable word."""

COMMON_HEADERS = (("content-type", "application/json"), ("cache-control", "no-store"))


def deny(
    refused: Refused,
    *,
    rule: str = "",
    mode: Mode = Mode.ENFORCE,
    request_id: str = "",
    claims: Claims | None = None,
    kid: str = "",
) -> Deny:
    """Render a refusal; nothing that the client sent, but a plain request id in the body, is repeated."""
    return Deny(
        reason=refused.reason, rule=rule, mode=mode, status=refused.status, headers=_headers(refused),
        body=_body(refused, request_id), claims=claims, kid=kid,
    )  # fmt: skip


def _headers(refused: Refused) -> tuple[tuple[str, str], ...]:
    if isinstance(refused, Unavailable):
        return (*COMMON_HEADERS, ("retry-after", str(refused.retry_after)))
    challenge = _challenge(refused)
    return (*COMMON_HEADERS, ("www-authenticate", challenge)) if challenge else COMMON_HEADERS


def _challenge(refused: Refused) -> str:
    if refused.reason is Reason.TOKEN_MISSING:
        # RFC 6750 section 3.1: a request without authentication information gets no error code.
        return f'Bearer realm="{REALM}"'
    if refused.oauth_error is None:
        return ""
    description = COARSE_DESCRIPTIONS[refused.status]
    if isinstance(refused, TokenRefused) and refused.reason is Reason.TOKEN_EXPIRED:
        description = "The access token expired"
    challenge = f'Bearer realm="{REALM}", error="{refused.oauth_error}", error_description="{description}"'
    return challenge + _scope(refused)


def _scope(refused: Refused) -> str:
    if not isinstance(refused, AccessRefused) or not refused.required:
        return ""
    scopes = sorted({scope for group in refused.required.values() for scope in group})
    return f', scope="{" ".join(scopes)}"' if all(_is_scope_token(scope) for scope in scopes) else ""


@lru_cache(KNOWN_SCOPES)
def _is_scope_token(text: str) -> bool:
    """RFC 6749 section 3.3: ``1*( %x21 / %x23-5B / %x5D-7E )``."""
    return bool(text) and text.isascii() and text.isprintable() and not set(text) & set(' "\\')


def _body(refused: Refused, request_id: str) -> str:
    content: dict[str, Any] = {"error": refused.reason.value, "message": refused.message}
    if isinstance(refused, AccessRefused) and refused.required:
        content["required"] = refused.required
    content["request_id"] = request_id if _is_plain(request_id) else ""
    return json.dumps(content)


def _is_plain(request_id: str) -> bool:
    return len(request_id) <= MAX_REQUEST_ID_LENGTH and request_id.isascii() and request_id.isprintable()
