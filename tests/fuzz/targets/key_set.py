"""A JWKS document."""

import json
from base64 import urlsafe_b64decode
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from authz_service.errors import KeySetRefused
from authz_service.keys.jwk import MAX_KEYS, DocumentFault, KeySet, SkipCause, parse_key_set
from authz_service.token.jws import UnverifiedJws
from tests.support.tokens import b64

MAX_LENGTH = 8192

ALGORITHMS = frozenset({"RS256", "ES256", "ES384", "ES512"})
CURVES: dict[str, tuple[str, ec.EllipticCurve, int]] = {
    "P-256": ("ES256", ec.SECP256R1(), 32),
    "P-384": ("ES384", ec.SECP384R1(), 48),
    "P-521": ("ES512", ec.SECP521R1(), 66),
}
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})


def fuzz(data: bytes) -> bool:
    """Accepted is a document with a usable key; each usable key is one that a second reader would use, and no other."""
    try:
        key_set = parse_key_set(data, ALGORITHMS)
    except KeySetRefused as refused:
        assert_told(refused)
        return False
    entries = json.loads(data)["keys"]
    assert_all_told(key_set, entries)
    for kid, key in key_set.keys.items():
        fit = [entry for entry in entries if is_fit(entry, kid)]
        assert {(numbers(entry), algorithms(entry)) for entry in fit} == {(numbers(fit[0]), key.algorithms)}
        assert key.kid == kid
        assert not any(numbers(entry) == numbers(fit[0]) for entry in entries if is_private(entry))
        assert not any(key.verify(UnverifiedJws(name, kid, {}, b"a.b", b"\x01" * 256)) for name in ALGORITHMS)
    return bool(key_set.keys)


def assert_told(refused: KeySetRefused) -> None:
    """By a cause of the closed list, and one plain line."""
    assert refused.cause in set(DocumentFault)
    assert str(refused).isascii()
    assert str(refused).isprintable()


def assert_all_told(key_set: KeySet, entries: list[Any]) -> None:
    """An entry is used or its cause is told; equal ones are used once."""
    assert len(entries) <= MAX_KEYS
    assert len(key_set.skipped) + len(key_set.keys) <= len(entries)
    assert bool(entries) == bool(key_set.skipped or key_set.keys)
    assert all(cause in set(SkipCause) for _, cause in key_set.skipped)


def is_fit(entry: Any, kid: str) -> bool:
    """Whether a public key of this id, for signatures and for one of our algorithms, can be made of this entry."""
    if not isinstance(entry, dict) or is_private(entry) or entry.get("kid") != kid or entry.get("use", "sig") != "sig":
        return False
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations or not algorithms(entry):
        return False
    return is_rsa_key(entry) if entry["kty"] == "RSA" else is_point(entry)


def is_private(entry: Any) -> bool:
    """Whether everybody could sign with it."""
    return isinstance(entry, dict) and not PRIVATE.isdisjoint(entry)


def numbers(entry: dict[str, Any]) -> tuple[str, ...]:
    """What tells two keys apart."""
    return tuple(repr(entry.get(name)) for name in (("n", "e") if entry.get("kty") == "RSA" else ("crv", "x", "y")))


def algorithms(entry: dict[str, Any]) -> frozenset[str]:
    """Those that fit the type and the curve, and what the entry says itself."""
    fitting = {"RS256"} if entry.get("kty") == "RSA" else set()
    if entry.get("kty") == "EC" and isinstance(entry.get("crv"), str):
        fitting = {CURVES[entry["crv"]][0]} if entry["crv"] in CURVES else set()
    return frozenset(name for name in fitting if entry.get("alg", name) == name)


def is_rsa_key(entry: dict[str, Any]) -> bool:
    """2048 to 8192 bits, odd; 65537."""
    written = octets(entry.get("n"))
    modulus = int.from_bytes(written, "big")
    return entry.get("e") == "AQAB" and written[0] > 0 and modulus % 2 == 1 and 2**2047 < modulus < 2**8192


def is_point(entry: dict[str, Any]) -> bool:
    """On its curve, as ``cryptography`` sees it."""
    _, curve, size = CURVES[entry["crv"]]
    x, y = octets(entry.get("x")), octets(entry.get("y"))
    if len(x) != size or len(y) != size:
        return False
    try:
        ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()
    except ValueError:
        return False
    return True


def octets(value: object) -> bytes:
    """Of base64url in its one spelling; for everything else, one octet that makes no key."""
    try:
        decoded = urlsafe_b64decode(value + "=" * (-len(value) % 4)) if isinstance(value, str) else b""
    except ValueError:
        return b"\0"
    return decoded if decoded and b64(decoded) == value else b"\0"
