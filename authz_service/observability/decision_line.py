"""One decision as a line of JSON, with all that is needed to decide it again; ``docs/decision-log.md`` describes it.

What a client sent stands here as far as it decides: no query, no header. Whatever looks like a token is left out of
that, and so is what is too long to match anything.
"""

import json
import re
from typing import Any, NamedTuple

from authz_service.authorizer import is_preflight
from authz_service.errors import Reason
from authz_service.model import Allow, Claims, Decision, HttpRequest, Mode
from authz_service.observability.logs import utc
from authz_service.policy.path import MAX_PATH_BYTES
from authz_service.policy.rollout import fingerprint
from authz_service.token.extractor import authorization

VERSION = 1

MAX_METHOD_LENGTH = 32
"""No rule names a longer one."""
MAX_HOST_LENGTH = 512
"""A name has 253 characters, a port hardly more than five."""
MAX_REQUEST_ID_LENGTH = 128
TOO_LONG = "…"
"""In place of what is: not ASCII, so it is no method, host or path either."""

_DOT = r"(?:\.|%2[Ee])"
_TOKEN = re.compile(
    rf"(?<![\w-])(?=[\w-]*?e[wy][\w-]{{14}})[\w-]++{_DOT}{_DOT}?[\w-]{{10,}}+(?:{_DOT}[\w-]*+)*+", re.ASCII
)
"""A compact JWS or JWE (RFC 7515 and 7516, section 7.1 of each): first base64url of a JSON object, so of ``{"`` or of
``{`` and white space. The second part of a JWE can be empty.

A client chooses the text: each run of characters is entered at its beginning alone, and never given back, so that the
time grows with the length and not with its square."""

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Decided(NamedTuple):
    """What there is to tell of a decision, kept until it is written: small, and without the request's headers."""

    time: float
    method: str
    path: str
    host: str
    request_id: str
    preflight: bool
    credentials: bool
    """Whether the request has any; not looked at where claims are known."""
    allowed: bool
    reason: Reason
    rule: str
    mode: Mode
    claims: Claims | None
    kid: str
    other_reason: Reason | None


def decided(request: HttpRequest, decision: Decision, now: float, other_reason: Reason | None = None) -> Decided:
    """Stands in the request's path, so it does what cannot wait.

    :param other_reason: what a comparison with the other way came to, where that disagrees.
    """
    claims = decision.claims
    return Decided(
        now, _bounded(request.method, MAX_METHOD_LENGTH), _bounded(request.path.partition("?")[0], MAX_PATH_BYTES),
        _bounded(request.host, MAX_HOST_LENGTH), _bounded(request.request_id, MAX_REQUEST_ID_LENGTH),
        is_preflight(request.method, request.headers), claims is None and bool(authorization(request.headers)),
        isinstance(decision, Allow), decision.reason, decision.rule, decision.mode, claims, decision.kid, other_reason,
    )  # fmt: skip


def write_line(seen: Decided, *, plain_subject: bool) -> bytes:
    """The line, with its end. Always ASCII: JSON's escapes keep everything else out."""
    line: dict[str, Any] = {
        "v": VERSION, "time": utc(seen.time), "request_id": _redacted(seen.request_id),
        "decision": "allow" if seen.allowed else "deny", "reason": seen.reason, "rule": seen.rule, "mode": seen.mode,
        "method": _redacted(seen.method), "path": _redacted(seen.path), "host": _redacted(seen.host),
    }  # fmt: skip
    if seen.preflight:
        line["preflight"] = True
    if seen.claims is None:
        line["credentials"] = seen.credentials
    else:
        line["caller"] = _caller(seen.claims, seen.kid, plain_subject=plain_subject)
    if seen.other_reason is not None:
        line["other_reason"] = seen.other_reason
    return _encode(line).encode("ascii") + b"\n"


def pseudonym(subject: str) -> str:
    """What stands for a ``sub``: the same one each time, and picked by the same percentages."""
    return fingerprint(subject).hex()


def _caller(claims: Claims, kid: str, *, plain_subject: bool) -> dict[str, Any]:
    name = {"sub": claims.subject} if plain_subject else {"sub_hash": pseudonym(claims.subject)}
    return {
        "issuer": claims.issuer, "kid": kid, **name, "permissions": _listed(claims.permissions),
        "roles": _listed(claims.roles), "claims": _compared(claims),
    }  # fmt: skip


def _compared(claims: Claims) -> dict[str, str | None]:
    """The claims that rules compare with the path; None: the token has none that could equal a part of a path."""
    return {
        name: value if isinstance(value, str) else None
        for name, value in claims.payload.items() if name != "sub"  # told already, or not to be told
    }  # fmt: skip


def _listed(texts: frozenset[str]) -> list[str]:
    return sorted(texts)


def _bounded(text: str, length: int) -> str:
    return text if len(text) <= length else TOO_LONG


def _redacted(text: str) -> str:
    return _TOKEN.sub("(token)", text)
