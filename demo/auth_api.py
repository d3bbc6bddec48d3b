"""A stand-in for the Auth-API: an RS256 issuer that mints tokens for anybody and rotates its keys on demand."""

import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

AUDIENCE = "chat-api"
LIFETIME_SECONDS = 3600
EXPIRED_SECONDS = 120
"""How long ago the expired token expired: beyond the leeway of 30 s."""
KEYS_ANNOUNCED = 3
"""How many keys the key set holds: the one that signs, and those whose tokens may still be about."""

ALL_PERMISSIONS = ("groups:read", "groups:write", "groups:delete", "messages:read", "messages:write")

USERS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "full": ALL_PERMISSIONS,
    "limited": ("messages:read",),
    "expired": ALL_PERMISSIONS,
})  # fmt: skip
"""What ``/demo/token?user=`` takes, and the permissions in its token."""

Claims = dict[str, Any]


class SigningKey:
    """An RSA key pair with its key id."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwk(self) -> dict[str, str]:
        """The public half as a JWK (RFC 7517, RFC 7518 section 6.3.1)."""
        numbers = self._private.public_key().public_numbers()
        return {
            "kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256",
            "n": _encode(_unsigned(numbers.n)), "e": _encode(_unsigned(numbers.e)),
        }  # fmt: skip

    def sign(self, claims: Claims) -> str:
        """A compact JWS (RFC 7515 section 7.1)."""
        header = {"alg": "RS256", "typ": "at+jwt", "kid": self.kid}
        signing_input = f"{_encode_json(header)}.{_encode_json(claims)}"
        signature = self._private.sign(signing_input.encode(), padding.PKCS1v15(), SHA256())
        return f"{signing_input}.{_encode(signature)}"

    def verifies(self, signing_input: str, signature: bytes) -> bool:
        """Whether this key signed these bytes."""
        try:
            self._private.public_key().verify(signature, signing_input.encode(), padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


class Issuer:
    """Keys and tokens of one issuer.

    :param url: the ``iss`` of its tokens.
    :param clock: Unix seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self._clock = clock
        self._keys = [SigningKey("demo-1")]
        self.next_key = SigningKey("demo-2")
        """Signs after the next rotation; not announced until then."""
        self.broken = False
        """Whether the key set cannot be had."""

    @property
    def key(self) -> SigningKey:
        """The key that signs."""
        return self._keys[-1]

    def rotate(self) -> SigningKey:
        """Announce the next key and sign with it from now on; the keys before it stay for their tokens' sake."""
        self._keys = [*self._keys, self.next_key][-KEYS_ANNOUNCED:]
        self.next_key = SigningKey(f"demo-{int(self.key.kid.removeprefix('demo-')) + 1}")
        return self.key

    def key_set(self) -> dict[str, Any]:
        """The JWKS document (RFC 7517 section 5)."""
        return {"keys": [key.jwk() for key in self._keys]}

    def claims(self, user: str) -> Claims:
        """The claims of a token for one of :data:`USERS`; :raises KeyError: for anybody else."""
        now = int(self._clock())
        expires_at = now - EXPIRED_SECONDS if user == "expired" else now + LIFETIME_SECONDS
        return {
            "iss": self.url, "aud": AUDIENCE, "sub": "user-1", "iat": expires_at - LIFETIME_SECONDS, "exp": expires_at,
            "org_id": "org-1", "roles": ["member"], "permissions": list(USERS[user]),
            "username": "ada", "email": "ada@example.com",
        }  # fmt: skip

    def mint(self, user: str) -> str:
        """An access token, signed by the current key."""
        return self.key.sign(self.claims(user))

    def verified_claims(self, token: str) -> Claims | None:
        """The claims of a token of ours that is still good."""
        try:
            signing_input, _, encoded_signature = token.rpartition(".")
            header, payload = (json.loads(_decode(part)) for part in signing_input.split("."))
            key = next((key for key in self._keys if key.kid == header["kid"]), None)
            good = key is not None and key.verifies(signing_input, _decode(encoded_signature))
            return payload if good and payload["exp"] > self._clock() else None
        except (ValueError, TypeError, KeyError):
            return None


def auth_api(issuer: Issuer) -> web.Application:
    """The HTTP side of it."""

    async def key_set(_request: web.Request) -> web.Response:
        if issuer.broken:
            raise web.HTTPServiceUnavailable(text="broken by /demo/break; /demo/mend mends it\n")
        return web.json_response(issuer.key_set(), headers={"Cache-Control": "max-age=60"})

    async def discovery(_request: web.Request) -> web.Response:
        return web.json_response({
            "issuer": issuer.url,
            "jwks_uri": f"{issuer.url}/.well-known/jwks.json",
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })  # fmt: skip

    async def rotate(_request: web.Request) -> web.Response:
        return web.json_response({"signs_now": issuer.rotate().kid})

    async def set_broken(request: web.Request) -> web.Response:
        issuer.broken = request.path == "/demo/break"
        return web.json_response({"key_set": "broken" if issuer.broken else "well"})

    async def token(request: web.Request) -> web.Response:
        user = request.query.get("user", "full")
        if user not in USERS:
            raise web.HTTPBadRequest(text=f"user is one of {', '.join(USERS)}\n")
        return web.Response(text=issuer.mint(user), headers={"Cache-Control": "no-store"})

    async def permissions(request: web.Request) -> web.Response:
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        claims = issuer.verified_claims(credentials) if scheme.lower() == "bearer" else None
        if claims is None:
            return web.json_response({"error": "unauthorized"}, status=401)
        return web.json_response(claims)

    app = web.Application()
    app.add_routes([
        web.get("/.well-known/jwks.json", key_set),
        web.get("/.well-known/openid-configuration", discovery),
        web.post("/demo/rotate", rotate),
        web.post("/demo/break", set_broken),
        web.post("/demo/mend", set_broken),
        web.get("/demo/token", token),
        web.get("/api/auth/permissions", permissions),
    ])  # fmt: skip
    return app


def _encode_json(value: Mapping[str, Any]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    """RFC 7515 section 2: base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _unsigned(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
