"""Compact JWS (RFC 7515 section 7.1), and the keys that verify their signatures.

python-jose is used for one thing: does this key vouch for these octets. Everything that is to be read, is read here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from authz_service.errors import AlgorithmNotAllowed, Reason, TokenRefused
from authz_service.token import base64url
from authz_service.token.base64url import NotBase64Url
from authz_service.token.jose_library import jwk as jose_jwk
from authz_service.token.strict_json import NotStrictJson, parse_object

new_tuple: Final = tuple.__new__
"""The constructor of a named tuple is a function in Python."""
MAX_KID_LENGTH: Final = 256
"""Characters."""
KNOWN_HEADERS: Final = 1024
KNOWN_HEADER_LENGTH: Final = 512
"""An issuer writes the same header into each token. As many are kept, none of them longer: half a megabyte at most."""

# RFC 7518 section 3.1, less what is symmetric and what python-jose does not support.
RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512"})
EC_ALGORITHMS: Mapping[str, str] = MappingProxyType({"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"})
"""RFC 7518 section 3.4: each curve has its algorithm."""

# RFC 7519 section 5.1 and RFC 9068 section 2.1; "application/" may be left out, RFC 7515 section 4.1.9.
_TYPES: Final = frozenset({"jwt", "at+jwt"})
# crit (RFC 7515 section 4.1.11) and b64 (RFC 7797) ask for extensions; zip (RFC 7516 section 4.1.3) and cty (a nested
# token, RFC 7519 section 5.2) ask to open something more. Nothing of it is done here, so none of it is agreed to.
_REFUSED_PARAMETERS: Final = frozenset({"crit", "b64", "zip", "cty"})


class UnverifiedJws(NamedTuple):
    """A token that could be read. Nobody has vouched for any of it yet."""

    algorithm: str
    """In the allow-list."""
    kid: str
    unverified_payload: dict[str, Any]
    signing_input: bytes
    signature: bytes


class UnusableKey(ValueError):
    """The numbers are no public key."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of an issuer, ready for use. Made by :func:`rsa_key` and :func:`ec_key`."""

    kid: str
    algorithms: frozenset[str]
    thumbprint: str
    """RFC 7638, SHA-256, base64url: the same numbers have the same thumbprint."""
    _verifiers: Mapping[str, Any] = field(repr=False, compare=False)

    def verify(self, unverified: UnverifiedJws) -> bool:
        """Whether this key signed these octets with one of its algorithms; never raises.

        An RSA signature has one spelling. An ECDSA signature (r, s) has a twin (r, -s) that anyone can compute and that
        is as valid (RFC 7518 section 3.4 asks for neither); the claims that it vouches for are the same.
        """
        verifier = self._verifiers.get(unverified.algorithm)
        if verifier is None:
            return False
        try:
            return verifier.verify(unverified.signing_input, unverified.signature) is True
        except Exception:  # noqa: BLE001 - whatever a hostile signature provokes in the libraries, it is not valid
            return False


NO_KEY: Final = VerificationKey("", frozenset(), "", {})
"""Verifies nothing: for tokens that no key vouches for, but somebody who was asked, or the log, or a case."""


def parse_compact(token: str, algorithms: frozenset[str]) -> UnverifiedJws:
    """Read a token, verify nothing.

    ``jku``, ``x5u``, ``jwk`` and ``x5c`` are ignored like every other header parameter that has no meaning here: a
    token does not say which key to trust. The header is judged in this order: its JSON, ``alg``, refused parameters,
    ``typ``, ``kid``; then the payload's JSON, then the signature's spelling.

    :param algorithms: allow-list, compared to the letter (RFC 7515 section 4.1.1).
    :raises TokenRefused: AlgorithmNotAllowed also for an ``alg`` that is absent or no string; ``key_id_missing`` for a
        ``kid`` that is absent or empty, ``token_malformed`` for one that is no short printable string.
    """
    parts = token.split(".", 3)
    if len(parts) != 3:  # noqa: PLR2004 - five would be a JWE, RFC 7516 section 7.1
        raise _malformed("The access token is not a signed JWT.")
    encoded_header, encoded_payload, encoded_signature = parts
    read_header = _known_header if len(encoded_header) <= KNOWN_HEADER_LENGTH else _read_header
    algorithm, kid = read_header(encoded_header, algorithms)
    payload = _json_object(encoded_payload)
    signing_input = token[: len(encoded_header) + 1 + len(encoded_payload)].encode("ascii")
    return new_tuple(UnverifiedJws, (algorithm, kid, payload, signing_input, _octets(encoded_signature)))


def is_key_id(value: object) -> bool:
    """Whether this can name a key. RFC 7515 section 4.1.4 leaves the structure open; logs and labels do not."""
    return isinstance(value, str) and 0 < len(value) <= MAX_KID_LENGTH and value.isprintable()


def _read_header(encoded: str, algorithms: frozenset[str]) -> tuple[str, str]:
    """``alg`` and ``kid``."""
    header = _json_object(encoded)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise AlgorithmNotAllowed(algorithm, "The access token's signature algorithm is not allowed.")
    if not _REFUSED_PARAMETERS.isdisjoint(header):
        raise _malformed("The access token's header asks for what is not supported.")
    if "typ" in header and not _is_access_token_type(header["typ"]):
        raise TokenRefused(Reason.TOKEN_TYPE_NOT_ALLOWED, "This type of token is not accepted as an access token.")
    kid = header.get("kid", "")
    if kid == "":
        raise TokenRefused(Reason.KEY_ID_MISSING, "The access token does not name its key.")
    if not is_key_id(kid):
        raise _malformed("The access token does not name its key properly.")
    return algorithm, kid


_known_header: Final = lru_cache(KNOWN_HEADERS)(_read_header)


def _is_access_token_type(typ: object) -> bool:
    return isinstance(typ, str) and typ.lower().removeprefix("application/") in _TYPES


def _json_object(encoded: str) -> dict[str, Any]:
    try:
        return parse_object(_octets(encoded))
    except NotStrictJson:
        raise _malformed("The access token is not made of JSON objects.") from None


def _octets(encoded: str) -> bytes:
    try:
        return base64url.decode(encoded)
    except NotBase64Url:
        raise _malformed("The access token is not encoded as base64url.") from None


def _malformed(message: str) -> TokenRefused:
    return TokenRefused(Reason.TOKEN_MALFORMED, message)


def rsa_key(kid: str, algorithms: frozenset[str], n: int, e: int) -> VerificationKey:
    """A key from its modulus and public exponent (RFC 7518 section 6.3.1); :raises UnusableKey:."""
    members = {"e": _unsigned(e), "kty": "RSA", "n": _unsigned(n)}
    return _key(kid, algorithms & RSA_ALGORITHMS, members)


def ec_key(kid: str, algorithms: frozenset[str], crv: str, x: bytes, y: bytes) -> VerificationKey:
    """A key from a point of one of :data:`EC_ALGORITHMS`' curves (RFC 7518 section 6.2.1).

    :param x: and ``y``: big-endian, as long as the field.
    :raises UnusableKey: the point is not on the curve.
    """
    members = {"crv": crv, "kty": "EC", "x": base64url.encode(x), "y": base64url.encode(y)}
    return _key(kid, algorithms & {EC_ALGORITHMS[crv]}, members)


def _key(kid: str, algorithms: frozenset[str], members: dict[str, str]) -> VerificationKey:
    """``members``: those that RFC 7638 section 3.2 requires, in its order, which are those that make the key."""
    try:
        verifiers = {algorithm: jose_jwk.construct(members, algorithm) for algorithm in algorithms}
    except Exception:  # noqa: BLE001 - python-jose lets several kinds of errors of its backend through
        raise UnusableKey("the numbers are no public key") from None
    canonical = json.dumps(members, separators=(",", ":")).encode()
    return VerificationKey(kid, algorithms, base64url.encode(sha256(canonical).digest()), MappingProxyType(verifiers))


def _unsigned(number: int) -> str:
    """Base64urlUInt, RFC 7518 section 2, but for zero, which makes no key."""
    return base64url.encode(number.to_bytes((number.bit_length() + 7) // 8))
