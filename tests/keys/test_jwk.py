import json
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import KeySetRefused
from authz_service.keys.jwk import (
    MAX_DOCUMENT_BYTES,
    MAX_KEYS,
    DocumentFault,
    KeySet,
    SkipCause,
    SkippedKey,
    as_used,
    parse_key_set,
)
from authz_service.token.jws import MAX_KID_LENGTH
from tests.support.tokens import ABSENT, b64, compact_json, jwks, signing_key, unsigned

RS256 = frozenset({"RS256"})
ALL = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512"})
GOOD = signing_key("good")
KEY = signing_key("key")


def read(*entries: Any, algorithms: frozenset[str] = RS256) -> KeySet:
    return parse_key_set(jwks(*entries), algorithms)


def cause(entry: object, algorithms: frozenset[str] = RS256) -> str:
    """Why an entry is skipped; checks that its good neighbour is not."""
    key_set = parse_key_set(compact_json({"keys": [entry, GOOD.jwk()]}), algorithms)
    assert set(key_set.keys) == {"good"}
    (skipped,) = key_set.skipped
    return skipped.cause


def fault(document: bytes) -> str:
    with pytest.raises(KeySetRefused) as caught:
        parse_key_set(document, RS256)
    assert caught.value.__cause__ is None
    return caught.value.cause


# --- good keys -----------------------------------------------------------------------------------------------------


def test_the_keys_of_a_set_are_found_by_their_ids() -> None:
    key_set = read(KEY, GOOD)
    assert set(key_set.keys) == {"key", "good"}
    assert key_set.keys["key"].kid == "key"
    assert key_set.skipped == ()


def test_a_key_set_is_read_only() -> None:
    with pytest.raises(TypeError):
        read(KEY).keys["evil"] = read(GOOD).keys["good"]  # type: ignore[index]


@pytest.mark.parametrize("algorithm", sorted(ALL))
def test_each_configurable_algorithm_has_its_keys(algorithm: str) -> None:
    assert read(signing_key("key", algorithm), algorithms=ALL).keys["key"].algorithms == {algorithm}


@pytest.mark.parametrize(("algorithm", "fitting"), [
    ("RS256", {"RS256", "RS384", "RS512"}), ("ES256", {"ES256"}), ("ES384", {"ES384"}), ("ES512", {"ES512"}),
])  # fmt: skip
def test_a_key_that_names_no_algorithm_is_for_those_that_fit_it(algorithm: str, fitting: set[str]) -> None:
    entry = signing_key("key", algorithm).jwk(alg=ABSENT)
    assert read(entry, algorithms=ALL).keys["key"].algorithms == fitting


def test_a_key_is_for_no_algorithm_outside_the_allow_list() -> None:
    assert read(KEY.jwk(alg=ABSENT)).keys["key"].algorithms == RS256


BENIGN: dict[str, dict[str, object]] = {
    "no use": {"use": ABSENT}, "key_ops": {"key_ops": ["verify"]}, "more key_ops": {"key_ops": ["sign", "verify"]},
    "certificate": {"x5c": ["MII="], "x5t": "AA", "x5t#S256": "AA", "x5u": "http://evil.example/"},
    "unknown members": {"exp": 0, "nbf": "x", "status": None, "ext": True, "\u00e9": []},
    "longest kid": {"kid": "k" * MAX_KID_LENGTH}, "odd kid": {"kid": "../ '\"\u00e9"},
}  # fmt: skip


@pytest.mark.parametrize("overrides", BENIGN.values(), ids=BENIGN.keys())
def test_a_good_key_is_used_whatever_else_it_says(overrides: dict[str, object]) -> None:
    assert set(read(KEY.jwk(**overrides)).keys) == {overrides.get("kid", "key")}


def test_members_beside_the_keys_are_ignored() -> None:
    document = compact_json({"issuer": "x", "keys": [KEY.jwk()], "revoked": ["key"]})
    assert set(parse_key_set(document, RS256).keys) == {"key"}


@pytest.mark.parametrize("bits", [2048, 2049, 3072, 4096, 8192])
def test_rsa_from_2048_to_8192_bits_is_used(bits: int) -> None:
    assert set(read(KEY.jwk(n=b64(unsigned(2 ** (bits - 1) + 2**900 + 1)))).keys) == {"key"}


def test_an_empty_set_is_a_set() -> None:
    assert read() == KeySet({}, ())


# --- odd entries beside good ones ----------------------------------------------------------------------------------

PRIVATE = KEY.private.private_numbers()
assert isinstance(PRIVATE, rsa.RSAPrivateNumbers)
PRIVATE_MEMBERS = {
    "d": b64(unsigned(PRIVATE.d)), "p": b64(unsigned(PRIVATE.p)), "q": b64(unsigned(PRIVATE.q)),
    "dp": b64(unsigned(PRIVATE.dmp1)), "dq": b64(unsigned(PRIVATE.dmq1)), "qi": b64(unsigned(PRIVATE.iqmp)),
}  # fmt: skip
EC = signing_key("key", "ES256")
RSA_N, EC_X, EC_Y = KEY.numbers()["n"], EC.numbers()["x"], EC.numbers()["y"]
JSON_VALUES: list[Any] = [None, True, 0, 1.5, [], {}, ["x"]]

SKIPPED: list[tuple[SkipCause, list[dict[str, Any]]]] = [
    (SkipCause.SYMMETRIC_KEY, [
        {"kty": "oct", "kid": "key", "alg": "HS256", "k": "c2VjcmV0"},
        {"kty": "oct", "kid": "key", "alg": "RS256", "k": KEY.public_pem().decode()},
        {"kty": "oct"},
    ]),
    (SkipCause.PRIVATE_KEY_PUBLISHED, [
        KEY.jwk(**PRIVATE_MEMBERS), *(KEY.jwk(**{name: value}) for name, value in PRIVATE_MEMBERS.items()),
        KEY.jwk(d=None), KEY.jwk(oth=[]), KEY.jwk(k="c2VjcmV0"), EC.jwk(d="AA"), KEY.jwk(d="AA", use="enc", kid=ABSENT),
    ]),
    (SkipCause.KID_MISSING, [KEY.jwk(kid=ABSENT), KEY.jwk(kid="")]),
    (SkipCause.KID_INVALID, [
        *(KEY.jwk(kid=value) for value in JSON_VALUES), KEY.jwk(kid="k" * (MAX_KID_LENGTH + 1)), KEY.jwk(kid="a\nb"),
        KEY.jwk(kid="\0"), KEY.jwk(kid="\x1b[31m"),
    ]),
    (SkipCause.KTY_NOT_SUPPORTED, [
        *(KEY.jwk(kty=value) for value in [ABSENT, "", "rsa", "RSA ", "AKP", *JSON_VALUES]),
        {"kty": "OKP", "kid": "key", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    ]),
    (SkipCause.USE_NOT_SIG, [KEY.jwk(use=value) for value in ["enc", "", "SIG", "sig ", "tls", *JSON_VALUES]]),
    (SkipCause.KEY_OPS_WITHOUT_VERIFY, [
        KEY.jwk(key_ops=value) for value in
        [[], ["sign"], ["encrypt", "wrapKey"], ["Verify"], "verify", None, {"verify": 1}, [["verify"]], 1, True]
    ]),
    (SkipCause.ALG_NOT_ALLOWED, [
        KEY.jwk(alg=value) for value in
        ["", "none", "HS256", "RS512", "PS256", "RSA-OAEP", "RS1", "rs256", "ES256", ["RS256"], *JSON_VALUES]
    ] + [EC.jwk(), EC.jwk(alg="RS256"), EC.jwk(alg=ABSENT)]),
    (SkipCause.RSA_SIZE_NOT_ALLOWED, [
        KEY.jwk(n=b64(unsigned(2**(bits - 1) + 1))) for bits in (8, 512, 1024, 2047, 8193, 16384, 65536)
    ]),
    (SkipCause.RSA_EXPONENT_NOT_ALLOWED, [
        KEY.jwk(e=b64(unsigned(e))) for e in (1, 2, 3, 17, 257, 65536, 65539, 2**32 + 1, 2**2047 + 1)
    ]),
    (SkipCause.NOT_A_PUBLIC_KEY, [
        *(KEY.jwk(**{name: value}) for name in ("n", "e") for value in [ABSENT, "", *JSON_VALUES]),
        KEY.jwk(n=f"{RSA_N}="), KEY.jwk(n=f" {RSA_N}"), KEY.jwk(n=f"{RSA_N}\n"), KEY.jwk(n=f"AA{RSA_N}"),
        KEY.jwk(n=b64(b"\0" + unsigned(2**2047 + 1))), KEY.jwk(n=b64(unsigned(2**2047))), KEY.jwk(n="+/+/" * 90),
        KEY.jwk(n=RSA_N[:-1] + "B"), KEY.jwk(n="\u00e9" * 344),
        KEY.jwk(e="AAEAAQ"), KEY.jwk(e="AQAB="), KEY.jwk(e="65537"), KEY.jwk(e="AA"),
    ]),
]  # fmt: skip

SKIPPED_EC: list[tuple[SkipCause, list[dict[str, Any]]]] = [
    (SkipCause.CRV_NOT_SUPPORTED, [
        EC.jwk(crv=value) for value in
        [ABSENT, "", "P-192", "P-224", "secp256k1", "p-256", "P256", "Ed25519", "sect113r1", *JSON_VALUES]
    ]),
    (SkipCause.ALG_NOT_ALLOWED, [
        EC.jwk(alg="ES384"), EC.jwk(alg="RS256"), EC.jwk(alg="ECDH-ES"), KEY.jwk(alg="ES256"),
    ]),
    (SkipCause.NOT_A_PUBLIC_KEY, [
        *(EC.jwk(**{name: value}) for name in ("x", "y") for value in [ABSENT, "", "AA", *JSON_VALUES]),
        EC.jwk(x=EC_Y, y=EC_X), EC.jwk(x=b64(bytes(32)), y=b64(bytes(32))), EC.jwk(x=b64(b"\xff" * 32)),
        EC.jwk(x=b64(b"\0" * 34), y=b64(b"\0" * 34)), EC.jwk(x=f"{EC_X}="), EC.jwk(crv="P-384"), EC.jwk(crv="P-521"),
        EC.jwk(y=b64(bytes(31) + b"\1")),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("expected", "entry"), [(expected, entry) for expected, entries in SKIPPED for entry in entries]
)
def test_an_odd_entry_is_skipped_with_its_cause_and_its_good_neighbour_stays(
    expected: SkipCause, entry: dict[str, Any]
) -> None:
    assert cause(entry) == expected


@pytest.mark.parametrize(
    ("expected", "entry"), [(expected, entry) for expected, entries in SKIPPED_EC for entry in entries]
)
def test_an_odd_elliptic_curve_entry_is_skipped_with_its_cause(expected: SkipCause, entry: dict[str, Any]) -> None:
    assert cause(entry, ALL) == expected


@pytest.mark.parametrize("entry", [None, True, 0, 1.5, "key", [], ["kty"], [GOOD.jwk()]])
def test_an_entry_that_is_no_object_is_skipped(entry: object) -> None:
    assert cause(entry) == SkipCause.NOT_AN_OBJECT


def test_every_cause_has_been_seen() -> None:
    elsewhere = {SkipCause.NOT_AN_OBJECT, SkipCause.KID_AMBIGUOUS}
    assert {expected for expected, _ in SKIPPED + SKIPPED_EC} | elsewhere == set(SkipCause)


@pytest.mark.parametrize(("kid", "shown"), [("a\nb", "a\nb"), (ABSENT, ""), (7, ""), ("k", "k")])
def test_a_skipped_entry_is_named_as_the_issuer_named_it(kid: object, shown: str) -> None:
    (skipped,) = read(KEY.jwk(kid=kid, d="AA")).skipped
    assert skipped == SkippedKey(shown, SkipCause.PRIVATE_KEY_PUBLISHED)


# --- entries that concern each other -------------------------------------------------------------------------------


def test_the_same_key_twice_is_one_key() -> None:
    key_set = read(KEY, KEY.jwk(x5c=["MII="]), KEY.jwk(alg=ABSENT))
    assert (set(key_set.keys), key_set.skipped) == ({"key"}, ())


def test_one_id_for_different_keys_stands_for_none_of_them() -> None:
    other = signing_key("other")._replace(kid="key")
    for entries in ([KEY, other, GOOD], [other, GOOD, KEY], [KEY, other, KEY, GOOD]):
        key_set = read(*entries)
        assert set(key_set.keys) == {"good"}
        assert set(key_set.skipped) == {SkippedKey("key", SkipCause.KID_AMBIGUOUS)}
        assert len(key_set.skipped) == len(entries) - 1


def test_one_id_for_two_types_of_key_stands_for_none_of_them() -> None:
    assert read(KEY, EC, algorithms=ALL).keys == {}


def test_one_id_for_two_algorithms_stands_for_none_of_them() -> None:
    assert read(KEY, KEY.jwk(alg="RS512"), algorithms=ALL).keys == {}


@pytest.mark.parametrize("odd", [
    {"kty": "oct", "kid": "key", "k": "AA"}, signing_key("other").jwk(kid="key", use="enc"), KEY.jwk(e="Aw"),
    signing_key("other").jwk(kid="key", d="AA"), EC.jwk(), {"kid": "key"},
])  # fmt: skip
def test_an_unusable_entry_with_the_same_id_disables_nothing(odd: dict[str, Any]) -> None:
    assert set(read(odd, KEY, odd).keys) == {"key"}


def test_ids_are_compared_to_the_letter() -> None:
    assert set(read(KEY, signing_key("other")._replace(kid="KEY")).keys) == {"key", "KEY"}


@pytest.mark.parametrize("overrides", [{}, {"kid": "other"}, {"use": "enc"}, {"alg": "RS512"}, {"kid": ABSENT}])
def test_a_key_whose_private_half_is_published_is_not_trusted_by_its_public_half(overrides: dict[str, Any]) -> None:
    key_set = read(KEY, KEY.jwk(**PRIVATE_MEMBERS, **overrides), GOOD)
    assert set(key_set.keys) == {"good"}
    assert {skipped.cause for skipped in key_set.skipped} == {SkipCause.PRIVATE_KEY_PUBLISHED}


def padded(number: str) -> str:
    return number + "=" * (-len(number) % 4)


def standard(number: str) -> str:
    return padded(number.replace("-", "+").replace("_", "/"))


def with_leading_zero(number: str) -> str:
    return b64(b"\0" + urlsafe_b64decode(padded(number)))


RESPELLED = [padded, standard, with_leading_zero]


@pytest.mark.parametrize("respelled", RESPELLED)
def test_however_its_private_half_writes_the_modulus(respelled: Callable[[str], str]) -> None:
    private = KEY.jwk(**PRIVATE_MEMBERS, kid="old")
    assert set(read(KEY, private | {"n": respelled(private["n"])}, GOOD).keys) == {"good"}


@pytest.mark.parametrize("exponent", [{"e": "AAEAAQ"}, {"e": 65537}, {"e": ABSENT}])
def test_however_its_private_half_writes_the_exponent(exponent: dict[str, Any]) -> None:
    assert set(read(KEY, KEY.jwk(**PRIVATE_MEMBERS, **{"kid": "old"} | exponent), GOOD).keys) == {"good"}


@pytest.mark.parametrize("respelled", RESPELLED)
def test_however_its_private_half_writes_the_coordinates(respelled: Callable[[str], str]) -> None:
    private = EC.jwk(d="AA", kid="old", crv=ABSENT, kty=ABSENT)
    private |= {name: respelled(private[name]) for name in ("x", "y")}
    assert set(read(EC, private, GOOD, algorithms=ALL).keys) == {"good"}


@pytest.mark.parametrize("numbers", [
    {"n": 7, "x": None, "y": []}, {"n": "é", "x": "é", "y": "A"}, {"n": "", "x": "", "y": ""}, {"n": "A" * 60_000},
    {"n": ABSENT}, {"x": "_" * 200, "y": "AA"},
])  # fmt: skip
def test_a_private_half_of_nothing_concerns_nobody(numbers: dict[str, Any]) -> None:
    assert set(read(KEY.jwk(**PRIVATE_MEMBERS, **numbers), GOOD).keys) == {"good"}


@pytest.mark.parametrize("octets", [128, 1025])
def test_a_private_half_of_a_size_that_is_not_used_concerns_nobody(octets: int) -> None:
    assert not read(KEY.jwk(**PRIVATE_MEMBERS, n=b64(b"\xff" * octets)), GOOD).leaked


def test_of_a_document_with_nothing_odd_in_it_all_is_used() -> None:
    assert as_used(jwks(KEY, GOOD), read(KEY, GOOD)) == jwks(KEY, GOOD)


def test_of_a_document_nothing_is_used_that_was_skipped() -> None:
    odd: list[Any] = [
        KEY.jwk(**PRIVATE_MEMBERS), KEY, None, GOOD.jwk(kid=["good"]), signing_key("other").jwk(kid="good", d="AA"),
        GOOD,
    ]  # fmt: skip
    assert json.loads(as_used(jwks(*odd), read(*odd))) == {"keys": [GOOD.jwk()]}


# --- whole documents -----------------------------------------------------------------------------------------------

DOCUMENTS: dict[str, tuple[bytes, DocumentFault]] = {
    "empty": (b"", DocumentFault.NOT_JSON),
    "HTML": (b"<!doctype html><html><body>Sign in</body></html>", DocumentFault.NOT_JSON),
    "cut off": (jwks(KEY)[:-2], DocumentFault.NOT_JSON),
    "PEM": (KEY.public_pem(), DocumentFault.NOT_JSON),
    "gzip": (b"\x1f\x8b\x08\x00", DocumentFault.NOT_JSON),
    "BOM": (b"\xef\xbb\xbf" + jwks(KEY), DocumentFault.NOT_JSON),
    "UTF-16": (jwks(KEY).decode().encode("utf-16"), DocumentFault.NOT_JSON),
    "two key arrays": (b'{"keys":[],"keys":[]}', DocumentFault.NOT_JSON),
    "duplicate member of a key": (b'{"keys":[{"kty":"RSA","kty":"oct"}]}', DocumentFault.NOT_JSON),
    "too deep": (b'{"keys":' + b"[" * 100_000, DocumentFault.NOT_JSON),
    "huge number": (b'{"keys":[' + b"9" * 100_000 + b"]}", DocumentFault.NOT_JSON),
    "array": (b"[]", DocumentFault.NOT_JSON),
    "null": (b"null", DocumentFault.NOT_JSON),
    "a key instead of a set": (compact_json(KEY.jwk()), DocumentFault.NOT_A_KEY_SET),
    "no keys": (b"{}", DocumentFault.NOT_A_KEY_SET),
    "an error": (b'{"error":"not found"}', DocumentFault.NOT_A_KEY_SET),
    "discovery document": (b'{"issuer":"x","jwks_uri":"y"}', DocumentFault.NOT_A_KEY_SET),
    "keys by id": (compact_json({"keys": {"key": KEY.jwk()}}), DocumentFault.NOT_A_KEY_SET),
    "keys null": (b'{"keys":null}', DocumentFault.NOT_A_KEY_SET),
    "keys a string": (b'{"keys":"[]"}', DocumentFault.NOT_A_KEY_SET),
    "Keys": (b'{"Keys":[]}', DocumentFault.NOT_A_KEY_SET),
    "too many keys": (jwks(*[KEY] * (MAX_KEYS + 1)), DocumentFault.TOO_MANY_KEYS),
    "too many of anything": (b'{"keys":[' + b"0," * MAX_KEYS + b"0]}", DocumentFault.TOO_MANY_KEYS),
    "too large": (jwks(KEY).ljust(MAX_DOCUMENT_BYTES + 1), DocumentFault.TOO_LARGE),
    "too large and no JSON": (b"[" * (MAX_DOCUMENT_BYTES + 1), DocumentFault.TOO_LARGE),
}


@pytest.mark.parametrize(("document", "expected"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_that_is_no_key_set_is_refused_whole(document: bytes, expected: DocumentFault) -> None:
    assert fault(document) == expected


def test_the_largest_document_with_the_most_keys_is_read() -> None:
    entries = [signing_key("key")._replace(kid=f"key-{number}") for number in range(MAX_KEYS)]
    assert len(parse_key_set(jwks(*entries).ljust(MAX_DOCUMENT_BYTES), RS256).keys) == MAX_KEYS


def test_a_refusal_repeats_nothing_of_the_document() -> None:
    for document in (b'{"keys":[], "secret', b'{"keys":"secret"}', b'{"secret":1,"secret":2}'):
        with pytest.raises(KeySetRefused) as caught:
            parse_key_set(document, RS256)
        assert "secret" not in str(caught.value)


MEMBERS = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=4), max_size=3)


NAMES = st.sampled_from([*KEY.jwk(), *EC.jwk(), "d", "k", "key_ops", "x5c"])


@given(st.lists(st.dictionaries(NAMES, MEMBERS), max_size=4))
def test_no_members_raise_anything_or_disable_a_good_key(changes: list[dict[str, Any]]) -> None:
    entries = [(KEY if index % 2 else EC).jwk(**changed) for index, changed in enumerate(changes)]
    key_set = parse_key_set(compact_json({"keys": [*entries, GOOD.jwk()]}), ALL)
    assert "good" in key_set.keys
    assert len(key_set.keys) + len(key_set.skipped) <= len(entries) + 1


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,keys', max_size=40).map(str.encode))
def test_no_octets_raise_anything_but_a_refusal(document: bytes) -> None:
    try:
        parse_key_set(document, RS256)
    except KeySetRefused as refused:
        cause = refused.cause
    else:
        return
    assert cause in set(DocumentFault)


def test_a_set_of_json_null_members_is_read_to_the_end() -> None:
    document = json.dumps({"keys": [dict.fromkeys(KEY.jwk()), GOOD.jwk()]}).encode()
    assert set(parse_key_set(document, RS256).keys) == {"good"}
