"""A JWKS document (RFC 7517 section 5) -> the keys in it that may verify access tokens. No I/O.

Each entry is judged alone: an odd one is skipped, with its cause, and never disables a good neighbour. Two findings
concern more than one entry. A key id that stands for two different keys stands for none of them. A key whose private
half is in the document is known to everybody, so that its public half beside it is not trusted either.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from authz_service.errors import KeySetRefused
from authz_service.token import base64url
from authz_service.token.base64url import NotBase64Url
from authz_service.token.jws import (
    EC_ALGORITHMS,
    RSA_ALGORITHMS,
    UnusableKey,
    VerificationKey,
    ec_key,
    is_key_id,
    rsa_key,
)
from authz_service.token.strict_json import NotStrictJson, parse_object

MAX_DOCUMENT_BYTES = 256 * 1024
MAX_KEYS = 100
RSA_BITS = range(2048, 8192 + 1)
"""RFC 7518 section 3.3 sets the lower end; the upper one bounds the time that a verification takes."""
RSA_EXPONENT = 65537
COORDINATE_BYTES: Mapping[str, int] = MappingProxyType({"P-256": 32, "P-384": 48, "P-521": 66})
"""RFC 7518 section 6.2.1.2: leading zeros belong to it."""

_ALL_ALGORITHMS = RSA_ALGORITHMS | frozenset(EC_ALGORITHMS.values())
# RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1; RFC 8037 section 2.
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})


class DocumentFault(StrEnum):
    """Why a whole document is refused: the closed list of ``KeySetRefused.cause`` of this module."""

    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    NOT_A_KEY_SET = "not_a_key_set"
    TOO_MANY_KEYS = "too_many_keys"


class SkipCause(StrEnum):
    """Why one entry is skipped: the closed list of ``SkippedKey.cause``."""

    NOT_AN_OBJECT = "not_an_object"
    SYMMETRIC_KEY = "symmetric_key"
    """A shared secret, and everybody can read it."""
    PRIVATE_KEY_PUBLISHED = "private_key_published"
    """Everybody can sign with it: replace it at the issuer."""
    KID_MISSING = "kid_missing"
    KID_INVALID = "kid_invalid"
    """No string, too long, or not printable."""
    KID_AMBIGUOUS = "kid_ambiguous"
    """The same id for different keys, or for different algorithms of one."""
    KTY_NOT_SUPPORTED = "kty_not_supported"
    USE_NOT_SIG = "use_not_sig"
    KEY_OPS_WITHOUT_VERIFY = "key_ops_without_verify"
    ALG_NOT_ALLOWED = "alg_not_allowed"
    """Not in JWT_ALGORITHMS, or not for this type of key."""
    CRV_NOT_SUPPORTED = "crv_not_supported"
    RSA_SIZE_NOT_ALLOWED = "rsa_size_not_allowed"
    RSA_EXPONENT_NOT_ALLOWED = "rsa_exponent_not_allowed"
    NOT_A_PUBLIC_KEY = "not_a_public_key"
    """A number is absent, not spelled as RFC 7518 section 2 says, or makes no public key: a point off the curve."""


class SkippedKey(NamedTuple):
    """An entry that is not used."""

    kid: str
    """As the issuer wrote it, unless that is no string; escape it before it is shown."""
    cause: str
    """One of :class:`SkipCause`."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of a document by their ids, perhaps none, and what was left out."""

    keys: Mapping[str, VerificationKey]
    skipped: tuple[SkippedKey, ...] = ()
    leaked: frozenset[str] = frozenset()
    """Thumbprints of the keys whose private halves are in the document."""


class _Skip(Exception):
    """This entry is not used; never leaves this module."""

    def __init__(self, cause: SkipCause) -> None:
        self.cause = cause
        super().__init__(cause)


def parse_key_set(document: bytes, algorithms: frozenset[str]) -> KeySet:
    """Read a JWKS document.

    :param algorithms: allow-list; a key is for those of them that fit its type, its curve and its ``alg``.
    :raises KeySetRefused: the document as a whole is not to be used.
    """
    entries = _entries(document)
    found: dict[str, list[VerificationKey]] = {}
    skipped = []
    for entry in entries:
        try:
            key = _read(entry, algorithms)
        except _Skip as skip:
            skipped.append(SkippedKey(_shown_kid(entry), skip.cause))
        else:
            found.setdefault(key.kid, []).append(key)
    leaked = frozenset(_leaked_thumbprints(entries))
    keys = {}
    for kid, candidates in found.items():
        if cause := _common_fault(candidates, leaked):
            skipped += [SkippedKey(kid, cause)] * len(candidates)
        else:
            keys[kid] = candidates[0]
    return KeySet(MappingProxyType(keys), tuple(skipped), leaked)


def without_leaked(key_set: KeySet, leaked: frozenset[str]) -> KeySet:
    """The same set less the keys with these thumbprints: what was published once, many have."""
    exposed = tuple(kid for kid, key in key_set.keys.items() if key.thumbprint in leaked)
    if not exposed:
        return key_set
    keys = {kid: key for kid, key in key_set.keys.items() if kid not in exposed}
    skipped = (*key_set.skipped, *(SkippedKey(kid, SkipCause.PRIVATE_KEY_PUBLISHED) for kid in exposed))
    return KeySet(MappingProxyType(keys), skipped, key_set.leaked)


def as_used(document: bytes, key_set: KeySet) -> bytes:
    """Of a document what its key set is made of: not what was skipped, and above all nobody's private half."""
    if not key_set.skipped:
        return document
    used = [
        entry for entry in parse_object(document)["keys"]
        if isinstance(entry, dict) and _shown_kid(entry) in key_set.keys and _PRIVATE_MEMBERS.isdisjoint(entry)
    ]  # fmt: skip
    return json.dumps({"keys": used}).encode()


def _entries(document: bytes) -> list[object]:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise KeySetRefused(DocumentFault.TOO_LARGE, f"the document is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        entries = parse_object(document).get("keys")
    except NotStrictJson as error:
        raise KeySetRefused(DocumentFault.NOT_JSON, f"the document is not acceptable as JSON: {error}") from None
    if not isinstance(entries, list):
        raise KeySetRefused(DocumentFault.NOT_A_KEY_SET, 'the document has no "keys" array (RFC 7517 section 5)')
    if len(entries) > MAX_KEYS:
        raise KeySetRefused(DocumentFault.TOO_MANY_KEYS, f"the document holds more than {MAX_KEYS} keys")
    return entries


def _common_fault(candidates: list[VerificationKey], leaked: frozenset[str]) -> SkipCause | None:
    if any(key.thumbprint in leaked for key in candidates):
        return SkipCause.PRIVATE_KEY_PUBLISHED
    if len({(key.thumbprint, key.algorithms) for key in candidates}) > 1:
        return SkipCause.KID_AMBIGUOUS
    return None


def _leaked_thumbprints(entries: Iterable[object]) -> Iterator[str]:
    """What is leaked is leaked, whatever the entry calls itself and however it writes its numbers."""
    for entry in entries:
        if isinstance(entry, dict) and not _PRIVATE_MEMBERS.isdisjoint(entry):
            yield from _possible_thumbprints(entry)


def _possible_thumbprints(entry: Mapping[str, Any]) -> Iterator[str]:
    """Of the keys that are used, those that its numbers may make."""
    n, x, y = (_lenient(entry.get(name)) for name in ("n", "x", "y"))
    if n.bit_length() in RSA_BITS:
        with suppress(UnusableKey):
            yield rsa_key("", _ALL_ALGORITHMS, n, RSA_EXPONENT).thumbprint
    for crv, size in COORDINATE_BYTES.items():
        with suppress(UnusableKey, OverflowError):  # no point of this curve
            yield ec_key("", _ALL_ALGORITHMS, crv, x.to_bytes(size), y.to_bytes(size)).thumbprint


def _lenient(value: object) -> int:
    """The number in any spelling that somebody could read: padded, standard base64, leading zeros; 0: none."""
    text = value.rstrip("=") if isinstance(value, str) else ""
    with suppress(ValueError):
        return int.from_bytes(urlsafe_b64decode(text + "=="), "big")
    return 0


def _read(entry: object, algorithms: frozenset[str]) -> VerificationKey:
    if not isinstance(entry, dict):
        raise _Skip(SkipCause.NOT_AN_OBJECT)
    _check_secrecy(entry)
    kid = _kid(entry)
    _check_purpose(entry)
    if "alg" in entry:
        algorithms = frozenset(algorithm for algorithm in algorithms if algorithm == entry["alg"])
    key = _public_key(kid, entry, algorithms)
    if not key.algorithms:
        raise _Skip(SkipCause.ALG_NOT_ALLOWED)
    return key


def _check_secrecy(entry: Mapping[str, Any]) -> None:
    if entry.get("kty") == "oct":
        raise _Skip(SkipCause.SYMMETRIC_KEY)
    if not _PRIVATE_MEMBERS.isdisjoint(entry):
        raise _Skip(SkipCause.PRIVATE_KEY_PUBLISHED)


def _kid(entry: Mapping[str, Any]) -> str:
    kid = entry.get("kid", "")
    if kid == "":
        raise _Skip(SkipCause.KID_MISSING)
    if not is_key_id(kid):
        raise _Skip(SkipCause.KID_INVALID)
    return str(kid)


def _check_purpose(entry: Mapping[str, Any]) -> None:
    """RFC 7517 sections 4.2 and 4.3: both are optional, and what they say counts."""
    if entry.get("use", "sig") != "sig":
        raise _Skip(SkipCause.USE_NOT_SIG)
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _Skip(SkipCause.KEY_OPS_WITHOUT_VERIFY)


def _public_key(kid: str, entry: Mapping[str, Any], algorithms: frozenset[str]) -> VerificationKey:
    try:
        match entry.get("kty"):
            case "RSA":
                return _rsa_key(kid, entry, algorithms)
            case "EC":
                return _ec_key(kid, entry, algorithms)
    except (NotBase64Url, UnusableKey):
        raise _Skip(SkipCause.NOT_A_PUBLIC_KEY) from None
    raise _Skip(SkipCause.KTY_NOT_SUPPORTED)


def _rsa_key(kid: str, entry: Mapping[str, Any], algorithms: frozenset[str]) -> VerificationKey:
    n, e = _unsigned(entry.get("n")), _unsigned(entry.get("e"))
    if n.bit_length() not in RSA_BITS:
        raise _Skip(SkipCause.RSA_SIZE_NOT_ALLOWED)
    if e != RSA_EXPONENT:
        raise _Skip(SkipCause.RSA_EXPONENT_NOT_ALLOWED)
    if n % 2 == 0:
        raise UnusableKey("an even modulus is no product of two odd primes")
    return rsa_key(kid, algorithms, n, e)


def _ec_key(kid: str, entry: Mapping[str, Any], algorithms: frozenset[str]) -> VerificationKey:
    crv = entry.get("crv")
    if not isinstance(crv, str) or crv not in EC_ALGORITHMS:
        raise _Skip(SkipCause.CRV_NOT_SUPPORTED)
    x, y = _octets(entry.get("x")), _octets(entry.get("y"))
    if len(x) != COORDINATE_BYTES[crv] or len(y) != COORDINATE_BYTES[crv]:
        raise UnusableKey("a coordinate is as long as the field")
    return ec_key(kid, algorithms, crv, x, y)


def _unsigned(value: object) -> int:
    """Base64urlUInt, RFC 7518 section 2: the fewest octets that hold the number."""
    octets = _octets(value)
    if not octets or octets[0] == 0:
        raise UnusableKey("a number is written without leading zeros")
    return int.from_bytes(octets, "big")


def _octets(value: object) -> bytes:
    if not isinstance(value, str):
        raise UnusableKey("a number is a string")
    return base64url.decode(value)


def _shown_kid(entry: object) -> str:
    kid = entry.get("kid") if isinstance(entry, dict) else None
    return kid if isinstance(kid, str) else ""
