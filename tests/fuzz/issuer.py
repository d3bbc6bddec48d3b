"""An issuer whose private key everybody knows: its primes are the two largest of 1024 bits.

So the same token is made on each run, and the inputs in ``corpus/`` can carry one without keeping a secret.
"""


from cryptography.hazmat.primitives.asymmetric import rsa

from authz_service.errors import Refused
from authz_service.keys.jwk import parse_key_set
from authz_service.token.claims import ClaimRules
from authz_service.token.verifier import KeySource, TokenVerifier
from tests.support.static_keys import StaticKeys
from tests.support.tokens import AUDIENCE, ISSUER, NOW, SigningKey, jwks

ALGORITHMS = frozenset({"RS256"})
E = 65537
P, Q = 2**1024 - 105, 2**1024 - 179


def _private_key() -> rsa.RSAPrivateKey:
    d = pow(E, -1, (P - 1) * (Q - 1))
    public = rsa.RSAPublicNumbers(E, P * Q)
    return rsa.RSAPrivateNumbers(P, Q, d, d % (P - 1), d % (Q - 1), pow(Q, -1, P), public).private_key()


KEY = SigningKey("fuzz-1", "RS256", _private_key())
CLAIMS = {
    "iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "iat": NOW - 60, "exp": NOW + 3600, "org_id": "org-1",
    "roles": ["member"], "permissions": ["groups:read", "messages:read"], "username": "Zoë, 100 %",
}  # fmt: skip
GOOD_TOKEN = KEY.sign(CLAIMS)
"""The only token that :func:`verifier` accepts: whatever else it accepts is forged."""


def verifier(keys: KeySource | None = None) -> TokenVerifier:
    """One that trusts this issuer, by its own key unless told otherwise."""
    keys = keys or StaticKeys(parse_key_set(jwks(KEY), ALGORITHMS).keys)
    return TokenVerifier(keys, {ISSUER: ClaimRules(ISSUER, frozenset({AUDIENCE}), leeway_seconds=30)}, ALGORITHMS)


def assert_plain(refused: Refused) -> None:
    """What a refusal says is one short line, so it repeats nothing of the input that could do harm."""
    assert refused.reason in refused.reasons
    assert refused.message.isascii()
    assert refused.message.isprintable()
    assert 0 < len(refused.message) <= 200
