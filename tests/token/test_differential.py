"""Whatever is accepted here, PyJWT and joserfc accept as well, with the same claims: no door of our own making."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Self

import joserfc.errors
import jwt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from joserfc.jwt import decode as joserfc_decode

from authz_service.errors import TokenRefused, UnknownKeyId
from authz_service.keys.jwk import parse_key_set
from authz_service.token.claims import ClaimRules
from authz_service.token.verifier import TokenVerifier
from tests.support.static_keys import StaticKeys
from tests.support.tokens import ABSENT, AUDIENCE, ISSUER, NOW, SigningKey, claims, compact_json, jwks, signing_key

LEEWAY = 30
ALGORITHMS = ("RS256", "ES256")
KEYS = {"RS256": signing_key(), "ES256": signing_key("ec", "ES256")}


VERIFIER = TokenVerifier(
    StaticKeys(parse_key_set(jwks(*KEYS.values()), frozenset(ALGORITHMS)).keys),
    {ISSUER: ClaimRules(ISSUER, frozenset({AUDIENCE}), LEEWAY)}, frozenset(ALGORITHMS),
)  # fmt: skip


def ours(token: str) -> Mapping[str, Any] | None:
    try:
        return VERIFIER.verify(token, NOW).claims.payload
    except (TokenRefused, UnknownKeyId):
        return None


class StoppedClock(datetime):
    """PyJWT has no parameter for the time."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(NOW, tz or UTC)


def by_pyjwt(token: str, key: SigningKey) -> Mapping[str, Any] | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jwt.api_jwt.datetime", StoppedClock)
        try:
            return jwt.decode(
                token, key.private.public_key(), algorithms=list(ALGORITHMS), audience=AUDIENCE, issuer=ISSUER,
                leeway=LEEWAY, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.PyJWTError:
            return None


JOSERFC_CLAIMS = JWTClaimsRegistry(
    now=NOW, leeway=LEEWAY, iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": AUDIENCE},
    exp={"essential": True}, sub={"essential": True},
)  # fmt: skip
JOSERFC_HEADERS = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
JOSERFC_HEADERS.max_header_length = 8192  # ours; its own bound of 512 bytes is no opinion on what is in them


def by_joserfc(token: str, key: SigningKey) -> Mapping[str, Any] | None:
    imported = (RSAKey if key.algorithm == "RS256" else ECKey).import_key(key.jwk())
    try:
        decoded = joserfc_decode(token, imported, algorithms=list(ALGORITHMS), registry=JOSERFC_HEADERS)
        JOSERFC_CLAIMS.validate(decoded.claims)
    except (joserfc.errors.JoseError, ValueError):
        return None
    return decoded.claims


def check(token: str, key: SigningKey) -> None:
    payload = ours(token)
    if payload is not None:
        assert by_pyjwt(token, key) == payload
        assert by_joserfc(token, key) == payload


TEXTS = st.sampled_from(["", "x", "user-1", ISSUER, AUDIENCE, "at+jwt", "\u00e9", "a,b", "\x00"])
TIMES = st.sampled_from([0, -1, 1.5, NOW, NOW - 30, NOW - 29, NOW + 30, NOW + 31, NOW + 99.5, 2**53, 2**60, 10**400])
ANYTHING = TEXTS | TIMES | st.none() | st.booleans() | st.lists(TEXTS, max_size=2) | st.just({}) | st.just(ABSENT)
PAYLOADS = st.fixed_dictionaries({}, optional={
    "iss": ANYTHING, "sub": ANYTHING, "aud": ANYTHING, "exp": TIMES | ANYTHING, "nbf": TIMES | ANYTHING,
    "jti": ANYTHING,
    "iat": TIMES | ANYTHING, "permissions": ANYTHING, "roles": ANYTHING, "scope": ANYTHING, "at_hash": ANYTHING,
})  # fmt: skip
HEADERS = st.fixed_dictionaries({}, optional={
    "alg": st.sampled_from(["none", "HS256", "RS512", "ES256", "RS256", "PS256", ABSENT]), "typ": TEXTS | ANYTHING,
    "kid": st.just(ABSENT), "crit": st.lists(st.sampled_from(["exp", "b64", "x"])), "b64": st.booleans(), "zip": TEXTS,
    "cty": TEXTS, "jku": st.just("https://evil.example"), "x5c": st.just(["MII="]), "foo": ANYTHING,
})  # fmt: skip


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
@pytest.mark.parametrize("overrides", [
    {}, {"aud": ["x", AUDIENCE]}, {"exp": NOW - 29}, {"nbf": NOW + 30}, {"iat": ABSENT}, {"jti": "x"}, {"at_hash": "x"},
], ids=str)  # fmt: skip
def test_all_three_agree_on_good_tokens(key: SigningKey, overrides: dict[str, Any]) -> None:
    token = key.sign(claims(**overrides))
    assert ours(token) == by_pyjwt(token, key) == by_joserfc(token, key) == claims(**overrides)


@given(st.sampled_from(sorted(KEYS)), HEADERS, PAYLOADS)
@example("RS256", {}, {})
@example("RS256", {"foo": 10**400}, {})
@example("ES256", {"typ": "JWT"}, {"nbf": NOW})
def test_whatever_well_signed_token_we_accept_both_accept(algorithm: str, header: Any, payload: Any) -> None:
    key = KEYS[algorithm]
    check(key.sign(claims(**payload), **header), key)


FRAGMENTS = st.sampled_from([
    '"exp":0', '"exp":1e999', '"exp":NaN', '"aud":"x"', '"iss":"x"', '"a":"\\ud800"', '"a":01', '"a":' + "9" * 5000,
    " ", "", '"a":' + "[" * 40 + "]" * 40, '"permissions":"x"', '"a":1,"a":2', "\n", "\ufeff", '"a":"\\u0000"', "}{",
])  # fmt: skip


@given(FRAGMENTS, FRAGMENTS, st.booleans())
def test_whatever_odd_json_we_accept_both_accept(first: str, second: str, in_header: bool) -> None:
    key = KEYS["RS256"]
    parts = [compact_json({"alg": "RS256", "kid": key.kid}), compact_json(claims())]
    text = parts[not in_header].decode()
    parts[not in_header] = f"{first}{{{second}{',' if second.strip() else ''}{text[1:]}".encode()
    check(key.sign_octets(*parts), key)


@given(st.integers(0, 900), st.text(alphabet="AQg-_.=+/ \n", max_size=3), st.integers(0, 3))
def test_whatever_odd_spelling_we_accept_both_accept(position: int, inserted: str, removed: int) -> None:
    key = KEYS["RS256"]
    token = key.sign(claims())
    check(token[:position] + inserted + token[position + removed :], key)
