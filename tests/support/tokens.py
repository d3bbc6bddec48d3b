"""Keys, key sets and tokens for tests: good ones in one call, and the parts to build bad ones of.

Signing is done with ``cryptography`` alone: what the service verifies was not made by what it verifies with.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authz_service.model import Claims

ISSUER = "http://auth-api:8000"
AUDIENCE = "chat-api"
KID = "key-1"
NOW = 1_750_000_000
"""Unix seconds; what :func:`claims` is good at."""
LIFETIME_SECONDS = 3600

ABSENT: Final = object()
"""As the value of a claim or header parameter: leave it out."""

_HASHES: Mapping[str, HashAlgorithm] = {"256": SHA256(), "384": SHA384(), "512": SHA512()}
_CURVES: Mapping[str, tuple[ec.EllipticCurve, str, int]] = {
    "ES256": (ec.SECP256R1(), "P-256", 32),
    "ES384": (ec.SECP384R1(), "P-384", 48),
    "ES512": (ec.SECP521R1(), "P-521", 66),
}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class SigningKey(NamedTuple):
    """A key pair with its id and its one algorithm. Make it by :func:`signing_key`."""

    kid: str
    algorithm: str
    private: PrivateKey

    def jwk(self, **overrides: object) -> dict[str, Any]:
        """The public half as a JWK (RFC 7517); ``overrides`` change, add or (:data:`ABSENT`) remove members."""
        members = {"kid": self.kid, "use": "sig", "alg": self.algorithm, **self.numbers()}
        return _overridden(members, overrides)

    def numbers(self) -> dict[str, str]:
        """The members of the JWK that make the key."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            public = self.private.public_key().public_numbers()
            return {"kty": "RSA", "n": b64(unsigned(public.n)), "e": b64(unsigned(public.e))}
        point = self.private.public_key().public_numbers()
        _, crv, size = _CURVES[self.algorithm]
        return {"kty": "EC", "crv": crv, "x": b64(point.x.to_bytes(size)), "y": b64(point.y.to_bytes(size))}

    def sign(self, payload: Mapping[str, Any], /, **header: object) -> str:
        """A token; ``header`` changes, adds or (:data:`ABSENT`) removes parameters, whatever they then claim."""
        parameters = _overridden({"alg": self.algorithm, "typ": "at+jwt", "kid": self.kid}, header)
        return self.sign_octets(compact_json(parameters), compact_json(payload))

    def sign_octets(self, header: bytes, payload: bytes) -> str:
        """A token of any octets, with a good signature over them."""
        return compact(header, payload, self.signature(f"{b64(header)}.{b64(payload)}".encode()))

    def signature(self, signing_input: bytes) -> bytes:
        """RFC 7518 section 3.3 or 3.4."""
        digest = _HASHES[self.algorithm[2:]]
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(signing_input, padding.PKCS1v15(), digest)
        r, s = decode_dss_signature(self.private.sign(signing_input, ec.ECDSA(digest)))
        size = _CURVES[self.algorithm][2]
        return r.to_bytes(size) + s.to_bytes(size)

    def public_pem(self) -> bytes:
        """The public half as libraries hand it about (SubjectPublicKeyInfo)."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def public_der(self) -> bytes:
        """The same, binary."""
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def signing_key(kid: str = KID, algorithm: str = "RS256") -> SigningKey:
    """The key of this name, the same one each time: RSA-2048, or on the curve of the algorithm."""
    return _generated(kid, algorithm)


@lru_cache
def _generated(kid: str, algorithm: str) -> SigningKey:
    if algorithm in _CURVES:
        return SigningKey(kid, algorithm, ec.generate_private_key(_CURVES[algorithm][0]))
    return SigningKey(kid, algorithm, rsa.generate_private_key(public_exponent=65537, key_size=2048))


def jwks(*keys: SigningKey | Mapping[str, Any]) -> bytes:
    """A JWKS document of keys, or of JWKs as they are."""
    return compact_json({"keys": [key.jwk() if isinstance(key, SigningKey) else key for key in keys]})


def claims(**overrides: object) -> dict[str, Any]:
    """A full claims set that is good at :data:`NOW`; ``overrides`` change, add or (:data:`ABSENT`) remove claims."""
    good = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "user-1", "iat": NOW - 60, "exp": NOW - 60 + LIFETIME_SECONDS,
        "org_id": "org-1", "roles": ["member"], "permissions": ["groups:read", "messages:read"],
        "username": "ada", "email": "ada@example.com",
    }  # fmt: skip
    return _overridden(good, overrides)


def claims_of(subject: str) -> Claims:
    """What was verified of a caller who has nothing but a name."""
    return Claims(ISSUER, subject, NOW + LIFETIME_SECONDS, frozenset(), frozenset(), MappingProxyType({}))


def token(kid: str = KID, /, **overrides: object) -> str:
    """A token of :func:`claims` that ``signing_key(kid)`` signed."""
    return signing_key(kid).sign(claims(**overrides))


def compact(header: bytes, payload: bytes, signature: bytes) -> str:
    """Three parts as a compact JWS (RFC 7515 section 7.1), whatever they are."""
    return f"{b64(header)}.{b64(payload)}.{b64(signature)}"


def compact_json(value: object) -> bytes:
    """JSON without spaces, ASCII only."""
    return json.dumps(value, separators=(",", ":")).encode()


def b64(octets: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def unsigned(number: int) -> bytes:
    """Big-endian, without leading zeros."""
    return number.to_bytes((number.bit_length() + 7) // 8)


def _overridden(members: Mapping[str, Any], overrides: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in {**members, **overrides}.items() if value is not ABSENT}
