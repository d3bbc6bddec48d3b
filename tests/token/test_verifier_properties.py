"""What holds for every token: a change of anything in it is seen, and nothing in it breaks the verifier."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import Refused, RequestRefused, TokenRefused, UnknownKeyId
from authz_service.keys.jwk import parse_key_set
from authz_service.token.claims import ClaimRules
from authz_service.token.extractor import bearer_token
from authz_service.token.verifier import TokenVerifier
from tests.support import tokens
from tests.support.static_keys import StaticKeys
from tests.support.tokens import AUDIENCE, ISSUER, NOW, claims, compact_json, jwks, signing_key

ALGORITHMS = frozenset({"RS256", "ES256"})
KEY, EC = signing_key(), signing_key("ec", "ES256")
GOOD = tokens.token()
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


VERIFIER = TokenVerifier(
    StaticKeys(parse_key_set(jwks(KEY, EC), ALGORITHMS).keys),
    {ISSUER: ClaimRules(ISSUER, frozenset({AUDIENCE}), leeway_seconds=30)}, ALGORITHMS,
)  # fmt: skip


def accepted(token: str) -> bool:
    """Whether a request with this token passes; every other outcome is one of ours."""
    try:
        VERIFIER.verify(bearer_token((("authorization", f"Bearer {token}"),), 8192), NOW)
    except (TokenRefused, RequestRefused, UnknownKeyId):
        return False
    return True


def test_the_tokens_that_are_changed_here_are_good_ones() -> None:
    assert accepted(GOOD)
    assert accepted(EC.sign(claims()))


@pytest.mark.parametrize("token", [GOOD, EC.sign(claims())], ids=["RS256", "ES256"])
def test_every_character_counts(token: str) -> None:
    for position, character in enumerate(token):
        number = ALPHABET.find(character)
        for other in {ALPHABET[number ^ 1], ALPHABET[number ^ 32], ".", "="} - {character}:
            assert not accepted(token[:position] + other + token[position + 1 :]), (position, other)


@given(st.integers(0, len(GOOD) - 1), st.characters())
def test_no_other_character_will_do(position: int, character: str) -> None:
    changed = GOOD[:position] + character + GOOD[position + 1 :]
    assert accepted(changed) == (changed == GOOD)


@given(st.integers(0, len(GOOD)), st.sampled_from([*ALPHABET, "=", ".", " ", "\n", "\0"]))
def test_no_character_may_be_added(position: int, character: str) -> None:
    space_before = position == 0 and character == " "  # that one belongs to the scheme, 1*SP
    assert accepted(GOOD[:position] + character + GOOD[position:]) == space_before


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 40))
def test_no_characters_may_be_missing(position: int, length: int) -> None:
    assert not accepted(GOOD[:position] + GOOD[position + length :])


@given(st.permutations(range(3)), st.sampled_from([GOOD, tokens.token(sub="user-2")]))
def test_parts_of_two_tokens_do_not_make_a_third(order: list[int], other: str) -> None:
    pool = [GOOD.split("."), other.split(".")]
    mixed = ".".join(pool[index % 2][part] for index, part in enumerate(order))
    assert accepted(mixed) == (mixed in {GOOD, other})


OCTETS = st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0alg kidtyp.eE-+19', max_size=60).map(str.encode)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=5,
)  # fmt: skip
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c", "zip"]), JSON)
CLAIMS = st.dictionaries(st.sampled_from([*claims(), "nbf", "jti", "scope"]), JSON)


@given(st.text() | st.text(alphabet="eyJ.-_=, \tBearer", max_size=60))
def test_no_text_does_anything_but_get_refused(text: str) -> None:
    assert not accepted(text)


@given(OCTETS, OCTETS)
def test_no_octets_do_anything_but_get_refused_even_well_signed(header: bytes, payload: bytes) -> None:
    assert not accepted(KEY.sign_octets(header, payload))
    assert not accepted(KEY.sign_octets(compact_json({"alg": "RS256", "kid": KEY.kid}), payload))


@given(HEADERS, CLAIMS)
def test_no_json_breaks_the_verifier_even_well_signed(header: dict[str, Any], payload: dict[str, Any]) -> None:
    token = KEY.sign(claims(**payload), **header)
    if accepted(token):
        verified = VERIFIER.verify(token, NOW)
        assert verified.kid == KEY.kid
        assert {"iss": ISSUER, "aud": AUDIENCE}.items() <= verified.claims.payload.items()


def test_a_refusal_repeats_nothing_of_the_token() -> None:
    canary = "c4n4ry"
    for token in (
        canary, f"{canary}.{canary}.{canary}", KEY.sign(claims(), alg=canary), KEY.sign(claims(), typ=canary),
        KEY.sign(claims(), kid=[canary]), KEY.sign(claims(), crit=[canary]), tokens.token(iss=canary),
        tokens.token(aud=canary), tokens.token(sub=[canary]), tokens.token(roles=canary), tokens.token(exp=canary),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            VERIFIER.verify(token, NOW)
        assert canary not in str(caught.value)
