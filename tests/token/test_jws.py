import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import SIGNATURE_ALGORITHMS, AlgorithmNotAllowed, Reason, Refused, TokenRefused
from authz_service.token import jws
from authz_service.token.base64url import decode
from authz_service.token.jws import (
    KNOWN_HEADER_LENGTH,
    MAX_KID_LENGTH,
    UnusableKey,
    UnverifiedJws,
    VerificationKey,
    ec_key,
    is_key_id,
    parse_compact,
    rsa_key,
)
from tests.support import tokens
from tests.support.tokens import ABSENT, KID, b64, claims, compact, compact_json, jwks, signing_key

RS256 = frozenset({"RS256"})
ALL = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"})
HEADER = {"alg": "RS256", "typ": "at+jwt", "kid": KID}
PAYLOAD = compact_json(claims())
SIGNATURE = bytes(256)
GOOD = compact(compact_json(HEADER), PAYLOAD, SIGNATURE)

JSON_TYPES: dict[str, Any] = {
    "null": None, "true": True, "false": False, "zero": 0, "number": 1.5, "array": ["RS256"], "empty array": [],
    "object": {"RS256": 1}, "empty object": {},
}  # fmt: skip


def refusal(token: str, algorithms: frozenset[str] = RS256) -> Reason:
    with pytest.raises(TokenRefused) as caught:
        parse_compact(token, algorithms)
    assert caught.value.__cause__ is None
    return caught.value.reason


def with_header(**overrides: object) -> str:
    parameters = {name: value for name, value in {**HEADER, **overrides}.items() if value is not ABSENT}
    return compact(compact_json(parameters), PAYLOAD, SIGNATURE)


def with_header_octets(octets: bytes) -> str:
    return compact(octets, PAYLOAD, SIGNATURE)


def test_a_token_is_read_into_its_parts() -> None:
    unverified = parse_compact(GOOD, RS256)
    assert unverified == UnverifiedJws("RS256", KID, claims(), GOOD.rpartition(".")[0].encode(), SIGNATURE)


def test_a_header_of_the_usual_length_is_kept_and_no_longer_one() -> None:
    for parameters in ({}, {}, {"x": "x" * KNOWN_HEADER_LENGTH}):
        assert parse_compact(with_header(**parameters), RS256).kid == KID
    assert jws._known_header.cache_info()[:2] == (1, 1), "hits and misses"


# --- the shape -----------------------------------------------------------------------------------------------------

H, P, S = GOOD.split(".")

SHAPES = {
    "empty": "", "opaque": "c0ffee", "one dot": f"{H}.{P}", "three dots": f"{GOOD}.{S}",
    "five-part JWE": f"{H}.{P}.{S}.{S}.{S}",
    "only dots": "..", "many dots": "." * 8000, "leading dot": f".{GOOD}", "trailing dot": f"{GOOD}.",
    "no header": f".{P}.{S}", "no payload": f"{H}..{S}", "detached payload": f"{H}..{S}",
    "flattened JSON serialisation": json.dumps({"payload": P, "protected": H, "signature": S}),
    "general JSON serialisation": json.dumps({"payload": P, "signatures": [{"protected": H, "signature": S}]}),
    "padded header": f"{b64(b'{ }')}==.{P}.{S}", "padded payload": f"{H}.{P}=.{S}",
    "padded signature": f"{H}.{P}.{S}==",
    "space before": f" {GOOD}", "space after": f"{GOOD} ", "line feed": f"{H}.{P}.\n{S}", "NUL": f"{H}\0.{P}.{S}",
    "standard alphabet": f"{H}.{P}.{S[:-4]}+/{S[-2:]}", "non-ASCII": f"{H}.{P}.{S}\u00e9",
    "lone surrogate": f"{H}.{P}\ud800.{S}",
    "trailing bits in the signature": f"{H}.{P}.{S[:-1]}B", "impossible length": f"{H}.{P}.{S}AAA",
    "payload that is no JSON": compact(compact_json(HEADER), b"hello", SIGNATURE),
    "payload that is an array": compact(compact_json(HEADER), b"[]", SIGNATURE),
    "payload that is a nested token": compact(compact_json(HEADER), GOOD.encode(), SIGNATURE),
    "compressed payload": compact(compact_json(HEADER), b"\x78\x9c\xab\xae\x05\x00\x01\x75\x00\xf9", SIGNATURE),
    "payload with a duplicate name": compact(compact_json(HEADER), b'{"iss":"a","iss":"b"}', SIGNATURE),
    "payload too deep": compact(compact_json(HEADER), b'{"a":' + b"[" * 3000, SIGNATURE),
}  # fmt: skip


@pytest.mark.parametrize("token", SHAPES.values(), ids=SHAPES.keys())
def test_what_is_no_compact_jws_of_json_objects_is_malformed(token: str) -> None:
    assert refusal(token) is Reason.TOKEN_MALFORMED


# --- the header ----------------------------------------------------------------------------------------------------

HEADER_OCTETS = {
    "duplicate alg": b'{"alg":"RS256","alg":"none","kid":"key-1"}',
    "duplicate alg, escaped": rb'{"alg":"RS256","\u0061lg":"none","kid":"key-1"}',
    "duplicate kid": b'{"alg":"RS256","kid":"key-1","kid":"key-2"}',
    "duplicate in an ignored parameter": b'{"alg":"RS256","kid":"key-1","jwk":{"kty":"RSA","kty":"oct"}}',
    "BOM": b"\xef\xbb\xbf" + compact_json(HEADER), "UTF-16": json.dumps(HEADER).encode("utf-16"),
    "UTF-32": json.dumps(HEADER).encode("utf-32"), "bad UTF-8": b'{"alg":"RS256","kid":"\xff"}',
    "overlong UTF-8": b'{"alg":"RS256","kid":"\xc0\xaf"}', "lone surrogate": rb'{"alg":"RS256","kid":"\ud800"}',
    "too deep": b'{"alg":"RS256","kid":"key-1","x":' + b"[" * 99 + b"]" * 99 + b"}",
    "huge integer": b'{"alg":"RS256","kid":"key-1","x":1' + b"0" * 5000 + b"}",
    "NaN": b'{"alg":"RS256","kid":"key-1","x":NaN}', "infinity": b'{"alg":"RS256","kid":"key-1","x":Infinity}',
    "minus infinity": b'{"alg":"RS256","kid":"key-1","x":-Infinity}',
    "overflow": b'{"alg":"RS256","kid":"key-1","x":1e999}',
    "array": b'[{"alg":"RS256","kid":"key-1"}]', "string": b'"RS256"', "null": b"null", "cut off": b'{"alg":"RS256"',
    "trailing text": b'{"alg":"RS256","kid":"key-1"}x', "XML": b"<alg>RS256</alg>",
}  # fmt: skip


@pytest.mark.parametrize("octets", HEADER_OCTETS.values(), ids=HEADER_OCTETS.keys())
def test_a_header_that_is_not_strict_json_is_malformed(octets: bytes) -> None:
    assert refusal(with_header_octets(octets)) is Reason.TOKEN_MALFORMED


ALGORITHMS = [
    "none", "None", "NONE", "nOnE", "", " ", "HS256", "HS384", "HS512", "hs256", "PS256", "PS384", "PS512",
    "RS384", "RS512", "RS1", "ES256", "ES384", "ES512", "ES256K", "EdDSA", "Ed25519",
    "rs256", "Rs256", " RS256", "RS256 ", "RS256\0", "RS256,none", "RS25", "S256",
    "R\u017f256", "\uff32S256", "A256KW", "RSA-OAEP", "dir", "alg",
]  # fmt: skip


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, *JSON_TYPES.values(), ABSENT])
def test_an_algorithm_outside_the_allow_list_is_refused_whatever_it_is(algorithm: object) -> None:
    assert refusal(with_header(alg=algorithm)) is Reason.ALGORITHM_NOT_ALLOWED


@pytest.mark.parametrize(("algorithm", "told"), [
    *((known, known) for known in sorted(SIGNATURE_ALGORITHMS - {"RS256"})),
    *((other, "other") for other in ("None", "hs256", "HS256 ", "ES256K", "", "x" * 5000)),
    *((other, "other") for other in (*JSON_TYPES.values(), ABSENT)),
])  # fmt: skip
def test_the_refusal_tells_the_algorithm_only_if_it_is_a_known_one(algorithm: object, told: str) -> None:
    with pytest.raises(AlgorithmNotAllowed) as caught:
        parse_compact(with_header(alg=algorithm), RS256)
    assert caught.value.algorithm == told


@pytest.mark.parametrize("signature", [b"", SIGNATURE])
def test_an_unsecured_token_is_refused_for_its_algorithm(signature: bytes) -> None:
    assert refusal(compact(b'{"alg":"none"}', PAYLOAD, signature), ALL) is Reason.ALGORITHM_NOT_ALLOWED


def test_the_algorithm_comes_from_the_allow_list() -> None:
    assert parse_compact(with_header(alg="ES384"), ALL).algorithm == "ES384"


PUBLIC_KEY_AS_SECRET = {
    "PEM": signing_key().public_pem(), "PEM without the last line feed": signing_key().public_pem().strip(),
    "DER": signing_key().public_der(), "JWK": compact_json(signing_key().jwk()), "JWKS": jwks(signing_key()),
    "modulus": signing_key().jwk()["n"].encode(), "empty": b"",
}  # fmt: skip


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("secret", PUBLIC_KEY_AS_SECRET.values(), ids=PUBLIC_KEY_AS_SECRET.keys())
def test_an_hmac_with_the_public_key_as_secret_is_refused(secret: bytes, algorithm: str) -> None:
    signing_input = f"{b64(compact_json({**HEADER, 'alg': algorithm}))}.{b64(PAYLOAD)}"
    mac = hmac.digest(secret, signing_input.encode(), f"sha{algorithm[2:]}")
    assert refusal(f"{signing_input}.{b64(mac)}", ALL) is Reason.ALGORITHM_NOT_ALLOWED
    claimed = UnverifiedJws(algorithm, KID, claims(), signing_input.encode(), mac)
    assert not verification_key().verify(claimed)
    assert not verification_key().verify(claimed._replace(algorithm="RS256"))


@pytest.mark.parametrize("typ", [ABSENT, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/JWT"])
def test_types_of_access_tokens_are_accepted(typ: object) -> None:
    assert parse_compact(with_header(typ=typ), RS256).kid == KID


TYPES = [
    "", "JWS", "JOSE", "JOSE+JSON", "id+jwt", "logout+jwt", "secevent+jwt", "dpop+jwt", "jwt+at", "at+jwt ", " JWT",
    "J\u2060WT", "application/", "application/application/jwt",
    "text/jwt", "application/at+jwt; charset=utf-8", "at\uff0bjwt", "JWT\0",
]  # fmt: skip


@pytest.mark.parametrize("typ", [*TYPES, *JSON_TYPES.values()])
def test_any_other_type_is_refused(typ: object) -> None:
    assert refusal(with_header(typ=typ)) is Reason.TOKEN_TYPE_NOT_ALLOWED


@pytest.mark.parametrize("kid", [ABSENT, ""])
def test_a_token_must_name_its_key(kid: object) -> None:
    assert refusal(with_header(kid=kid)) is Reason.KEY_ID_MISSING


BAD_KEY_IDS = ["k" * (MAX_KID_LENGTH + 1), "a\nb", "a\0", "\x7f", "a\u2028b", "\u200b"]


@pytest.mark.parametrize("kid", [*JSON_TYPES.values(), *BAD_KEY_IDS])
def test_a_key_id_that_is_no_short_printable_string_is_malformed(kid: object) -> None:
    assert refusal(with_header(kid=kid)) is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("kid", ["k" * MAX_KID_LENGTH, "../../etc/passwd", "' OR 1=1 --", "\u00e9", " "])
def test_a_key_id_is_only_compared(kid: str) -> None:
    assert parse_compact(with_header(kid=kid), RS256).kid == kid


@pytest.mark.parametrize("name", ["", *BAD_KEY_IDS, None, 1, ["key-1"]])
def test_what_is_no_key_id_of_a_token_is_none_of_a_key_either(name: object) -> None:
    assert not is_key_id(name)


@pytest.mark.parametrize("name", ["crit", "b64", "zip", "cty"])
@pytest.mark.parametrize("value", [["exp"], ["b64"], [], "DEF", "JWT", True, False, None, {}])
def test_a_header_that_asks_for_more_than_a_signature_is_refused(name: str, value: object) -> None:
    assert refusal(with_header(**{name: value})) is Reason.TOKEN_MALFORMED


IGNORED = {
    "jku": "https://evil.example/jwks.json", "x5u": "file:///etc/passwd", "jwk": signing_key("evil").jwk(),
    "x5c": ["MII="],
    "x5t": "AA", "x5t#S256": "AA", "epk": {}, "foo": None, "ALG": "none", "Kid": "other", "": "",
}  # fmt: skip


@pytest.mark.parametrize("name", IGNORED)
def test_a_header_cannot_bring_or_choose_another_key(name: str) -> None:
    assert parse_compact(with_header(**{name: IGNORED[name]}), RS256)[:2] == ("RS256", KID)


def test_a_token_signed_by_the_key_that_it_brings_is_not_verified_by_ours() -> None:
    evil = signing_key("evil")
    token = evil.sign(claims(), kid=KID, jwk=evil.jwk())
    assert not verification_key().verify(parse_compact(token, RS256))


TOLD = {
    "The access token is not a signed JWT.": "c0ffee",
    "The access token is not encoded as base64url.": f"{GOOD}==",
    "The access token is not made of JSON objects.": compact(compact_json(HEADER), b"[]", SIGNATURE),
    "The access token's signature algorithm is not allowed.": with_header(alg="none"),
    "The access token's header asks for what is not supported.": with_header(crit=["exp"]),
    "This type of token is not accepted as an access token.": with_header(typ="JOSE"),
    "The access token does not name its key.": with_header(kid=ABSENT),
    "The access token does not name its key properly.": with_header(kid="a\nb"),
}


@pytest.mark.parametrize(("message", "token"), TOLD.items())
def test_the_client_reads_what_is_wrong(message: str, token: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        parse_compact(token, RS256)
    assert caught.value.message == message


# --- the signature -------------------------------------------------------------------------------------------------


MODULUS = int.from_bytes(decode(signing_key().numbers()["n"]))


def verification_key(algorithms: frozenset[str] = RS256) -> VerificationKey:
    return rsa_key(KID, algorithms, MODULUS, 65537)


def good() -> UnverifiedJws:
    return parse_compact(tokens.token(), RS256)


def test_a_key_verifies_what_it_signed() -> None:
    assert verification_key().verify(good())


SIGNATURES = {
    "empty": b"", "one octet": b"\0", "zeros": bytes(256), "ones": b"\xff" * 256, "too short": good().signature[:-1],
    "too long": good().signature + b"\0", "leading zero": b"\0" + good().signature, "twice": good().signature * 2,
    "reversed": good().signature[::-1], "huge": bytes(6000),
    "the modulus added": (int.from_bytes(good().signature) + MODULUS).to_bytes(257),
}  # fmt: skip


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES.keys())
def test_any_other_signature_is_not_valid(signature: bytes) -> None:
    assert not verification_key().verify(good()._replace(signature=signature))


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "ES256", "HS256", "none", ""])
def test_a_key_verifies_by_no_other_algorithm(algorithm: str) -> None:
    assert not verification_key().verify(good()._replace(algorithm=algorithm))


def test_a_key_for_two_algorithms_keeps_them_apart() -> None:
    key = verification_key(frozenset({"RS256", "RS384"}))
    assert key.algorithms == {"RS256", "RS384"}
    assert key.verify(good())
    assert not key.verify(good()._replace(algorithm="RS384"))


ECDSA_SIGNATURES = [b"", bytes(64), b"\xff" * 64, bytes(63), bytes(65), bytes(132), bytes.fromhex("3006020101020101")]


@pytest.mark.parametrize("signature", ECDSA_SIGNATURES)
def test_an_ecdsa_signature_of_zeros_or_of_another_size_is_not_valid(signature: bytes) -> None:
    numbers = signing_key("ec", "ES256").numbers()
    key = ec_key("ec", ALL, "P-256", decode(numbers["x"]), decode(numbers["y"]))
    token = parse_compact(signing_key("ec", "ES256").sign(claims()), ALL)
    assert key.verify(token)
    assert not key.verify(token._replace(signature=signature))


class BrokenLibrary:
    """What python-jose would be if it raised, or answered with something else than a verdict."""

    def verify(self, _signing_input: bytes, signature: bytes) -> object:
        if not signature:
            raise OverflowError
        return signature


@pytest.mark.parametrize("signature", [b"", b"truthy"])
def test_only_a_clear_yes_of_the_library_counts(signature: bytes) -> None:
    key = VerificationKey(KID, RS256, "", {"RS256": BrokenLibrary()})
    assert key.verify(good()._replace(signature=signature)) is False


def test_a_point_off_the_curve_is_no_key() -> None:
    with pytest.raises(UnusableKey) as caught:
        ec_key("ec", ALL, "P-256", bytes(32), bytes(32))
    assert str(caught.value) == "the numbers are no public key"


@pytest.mark.parametrize(("n", "e"), [(0, 65537), (MODULUS, 0), (0, 0)])
def test_zero_makes_no_key(n: int, e: int) -> None:
    with pytest.raises(UnusableKey):
        rsa_key(KID, RS256, n, e)


def test_a_key_shows_who_it_is_and_nothing_else() -> None:
    key = verification_key()
    assert repr(key) == f"VerificationKey(kid='{KID}', algorithms={RS256}, thumbprint='{key.thumbprint}')"


def test_keys_of_the_same_numbers_are_equal() -> None:
    assert verification_key() == verification_key()
    assert verification_key() != rsa_key(KID, RS256, MODULUS - 2, 65537)


def test_keys_of_the_same_numbers_have_the_same_thumbprint() -> None:
    assert verification_key().thumbprint == verification_key(frozenset({"RS512"})).thumbprint
    canonical = json.dumps(signing_key().numbers(), sort_keys=True, separators=(",", ":")).encode()
    assert verification_key().thumbprint == b64(hashlib.sha256(canonical).digest())


def test_a_key_on_a_curve_has_the_thumbprint_of_its_numbers() -> None:
    numbers = signing_key("ec", "ES256").numbers()
    key = ec_key("ec", ALL, "P-256", decode(numbers["x"]), decode(numbers["y"]))
    canonical = json.dumps(numbers, sort_keys=True, separators=(",", ":")).encode()
    assert key.thumbprint == b64(hashlib.sha256(canonical).digest())


THREE_PARTS = st.builds(compact, st.binary(), st.binary(), st.binary())


@given(st.text() | st.text(alphabet=".=-_AZaz09eyJ", max_size=40) | THREE_PARTS)
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    try:
        parse_compact(text, ALL)
    except Refused as refused:
        assert isinstance(refused, TokenRefused)  # noqa: PT017 - most texts are refused; none must be


@given(st.binary(max_size=600), st.sampled_from(sorted(ALL)), st.binary(max_size=40))
def test_no_signature_raises_or_passes(signature: bytes, algorithm: str, signing_input: bytes) -> None:
    assert not verification_key(ALL).verify(UnverifiedJws(algorithm, KID, {}, signing_input, signature))
