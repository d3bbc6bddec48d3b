"""A refusal -> the denial that the client sees: status, ``WWW-Authenticate`` (RFC 6750 section 3), JSON body."""

import json
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted
from typing import Final

from authz_service.errors import AccessRefused, Reason, Refused, Unavailable
from authz_service.model import Claims, Deny, Headers, Mode

REALM: Final = "chat-api"
MAX_REQUEST_ID_LENGTH: Final = 128
KNOWN: Final = 1024
"""Scopes, challenges made of them, messages: they are the policy's words and our own."""

COARSE_DESCRIPTIONS: Final = {
    401: "The access token is not acceptable",
    400: "The request is ambiguous or malformed",
    403: "The access token does not permit this request",
}
"""RFC 6750 section 3: for developers, not for attackers; which check failed is said in the body by a stable word."""

COMMON_HEADERS: Final = (("content-type", "application/json"), ("cache-control", "no-store"))


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
        refused.reason, rule, mode, refused.status, _headers(refused), _body(refused, request_id), claims, kid
    )


def _headers(refused: Refused) -> Headers:
    if isinstance(refused, Unavailable):
        return (*COMMON_HEADERS, ("retry-after", str(refused.retry_after)))
    if refused.oauth_error is None:
        return COMMON_HEADERS
    return _challenge(refused.reason, refused.status, refused.oauth_error, _scope(refused))


@lru_cache(KNOWN)
def _challenge(reason: Reason, status: int, error: str, scope: str) -> Headers:
    if reason is Reason.TOKEN_MISSING:
        # RFC 6750 section 3.1: a request without authentication information gets no error code.
        return (*COMMON_HEADERS, ("www-authenticate", f'Bearer realm="{REALM}"'))
    description = "The access token expired" if reason is Reason.TOKEN_EXPIRED else COARSE_DESCRIPTIONS[status]
    challenge = f'Bearer realm="{REALM}", error="{error}", error_description="{description}"{scope}'
    return (*COMMON_HEADERS, ("www-authenticate", challenge))


def _scope(refused: Refused) -> str:
    if not isinstance(refused, AccessRefused) or not refused.required:
        return ""
    scopes = sorted({scope for group in refused.required.values() for scope in group})
    return f', scope="{" ".join(scopes)}"' if scopes and all(map(_is_scope_token, scopes)) else ""


@lru_cache(KNOWN)
def _is_scope_token(text: str) -> bool:
    """RFC 6749 section 3.3: ``1*( %x21 / %x23-5B / %x5D-7E )``."""
    return bool(text) and text.isascii() and text.isprintable() and not set(text) & set(' "\\')


def _body(refused: Refused, request_id: str) -> str:
    """A JSON object, written by hand: a flood of denials should cost little, and json.dumps would be half of it."""
    told = _told(refused.reason, refused.message)
    if isinstance(refused, AccessRefused) and refused.required:
        told += f', "required": {json.dumps(refused.required)}'
    return f'{{{told}, "request_id": {quoted(request_id if _is_plain(request_id) else "")}}}'


@lru_cache(KNOWN)
def _told(reason: Reason, message: str) -> str:
    return f'"error": {quoted(reason)}, "message": {quoted(message)}'


def _is_plain(request_id: str) -> bool:
    return len(request_id) <= MAX_REQUEST_ID_LENGTH and request_id.isascii() and request_id.isprintable()
