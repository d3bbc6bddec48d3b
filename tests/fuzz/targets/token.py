"""The value of an ``Authorization`` header, byte by byte: extractor, compact JWS, signature, claims."""

import json
from base64 import urlsafe_b64decode

from authz_service.errors import RequestRefused, TokenRefused, UnknownKeyId
from authz_service.token.extractor import bearer_token
from authz_service.token.jws import UnverifiedJws, is_key_id, parse_compact
from tests.fuzz.issuer import ALGORITHMS, GOOD_TOKEN, assert_plain, verifier
from tests.support.tokens import NOW, b64

MAX_TOKEN_BYTES = 2048
MAX_LENGTH = MAX_TOKEN_BYTES + 64

VERIFIER = verifier()


def fuzz(data: bytes) -> bool:
    """Accepted is the one token that was signed, in its one spelling."""
    try:
        token = bearer_token((("Authorization", data.decode("latin-1")),), MAX_TOKEN_BYTES)
        assert_one_spelling(token, parse_compact(token, ALGORITHMS))
        verified = VERIFIER.verify(token, NOW)
    except UnknownKeyId:
        return False
    except (TokenRefused, RequestRefused) as refused:
        assert_plain(refused)
        return False
    assert token == GOOD_TOKEN, "a token that nobody signed, or a second spelling of the one that was"
    assert verified.claims.subject == "user-1"
    return True


def assert_one_spelling(token: str, unverified: UnverifiedJws) -> None:
    """What was read, written again, is the same token; a second reader reads the same in it."""
    header, payload, signature = token.split(".")
    assert len(token) <= MAX_TOKEN_BYTES
    assert all(b64(_decoded(part)) == part for part in (header, payload, signature))
    assert unverified.signing_input == f"{header}.{payload}".encode()
    assert unverified.signature == _decoded(signature)
    assert unverified.unverified_payload == json.loads(_decoded(payload))
    parameters = json.loads(_decoded(header))
    assert (unverified.algorithm, unverified.kid) == (parameters["alg"], parameters["kid"])
    assert unverified.algorithm in ALGORITHMS
    assert is_key_id(unverified.kid)


def _decoded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
