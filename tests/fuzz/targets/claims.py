"""What lies behind a signature: a JOSE header and a claims set, LF between them, vouched for by a key that signs all.

No mutation of a token reaches this far by itself: the signature would have to follow it.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from authz_service.errors import Refused, UnknownKeyId
from authz_service.model import Claims
from authz_service.policy.loader import DEFAULT_IDENTITY_HEADERS
from authz_service.policy.requirement import Requirement
from authz_service.response.identity_headers import IdentityHeaders
from authz_service.token.jws import VerificationKey
from tests.fuzz.issuer import ALGORITHMS, KEY, assert_plain, verifier
from tests.support.static_keys import StaticKeys
from tests.support.tokens import AUDIENCE, ISSUER, NOW, compact

MAX_LENGTH = 4096
LEEWAY_SECONDS = 30


class _VouchesForAll:
    @staticmethod
    def verify(_signing_input: bytes, _signature: bytes) -> bool:
        return True


GULLIBLE = VerificationKey(KEY.kid, ALGORITHMS, "", {"RS256": _VouchesForAll()})
VERIFIER = verifier(StaticKeys({KEY.kid: GULLIBLE}))
IDENTITY = IdentityHeaders(DEFAULT_IDENTITY_HEADERS, max_bytes=2048)
REQUIREMENT = Requirement(
    all_permissions=frozenset({"groups:read"}), any_role=frozenset({"member", "admin"}),
    claim_equals_param=(("org_id", "org_id"),),
)  # fmt: skip
PARAMS = {"org_id": "7"}


def fuzz(data: bytes) -> bool:
    """Accepted are claims that are true of this issuer, this service and this hour."""
    header, _, payload = data.partition(b"\n")
    try:
        claims = VERIFIER.verify(compact(header, payload, b"signature"), NOW).claims
    except UnknownKeyId:
        return False
    except Refused as refused:
        assert_plain(refused)
        return False
    assert_true(claims, json.loads(payload))
    assert_required(claims)
    assert_forwarded(claims)
    return True


def assert_true(claims: Claims, payload: Mapping[str, Any]) -> None:
    """By a second reading of the payload."""
    assert claims.payload == payload
    assert claims.issuer == payload["iss"] == ISSUER
    assert claims.subject == payload["sub"] != ""
    assert payload["aud"] == AUDIENCE or (isinstance(payload["aud"], list) and AUDIENCE in payload["aud"])
    assert claims.expires_at == int(payload["exp"])
    assert payload["exp"] + LEEWAY_SECONDS > NOW
    assert all(0 <= payload.get(name, 0) <= NOW + LEEWAY_SECONDS for name in ("nbf", "iat"))
    for name, read in (("permissions", claims.permissions), ("roles", claims.roles)):
        written = payload.get(name, [])
        assert isinstance(written, list)
        assert read == set(written)


def assert_required(claims: Claims) -> None:
    """The requirement holds exactly when each of its parts does, to the letter."""
    holds = (
        "groups:read" in claims.payload.get("permissions", [])
        and not {"member", "admin"}.isdisjoint(claims.payload.get("roles", []))
        and claims.payload.get("org_id") == "7"
    )
    try:
        REQUIREMENT.check(claims, PARAMS)
    except Refused as refused:
        assert_plain(refused)
        assert not holds
    else:
        assert holds


def assert_forwarded(claims: Claims) -> None:
    """What chat-api reads is what the token says, or the token is refused."""
    try:
        headers = dict(IDENTITY.render(claims))
    except Refused as refused:
        assert_plain(refused)
        return
    assert all(value.isascii() and value.isprintable() and " " not in value for value in headers.values())
    assert unquote(headers["x-auth-sub"]) == claims.subject
    assert headers["x-auth-exp"] == str(claims.expires_at)
    for name in ("permissions", "roles"):
        value = headers.get(f"x-auth-{name}")
        items = None if value is None else [unquote(item) for item in value.split(",") if item]
        assert items == claims.payload.get(name)
