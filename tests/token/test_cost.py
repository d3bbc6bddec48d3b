"""A bad token is cheap, measured by RSA-2048 verifications on the same machine: one takes 21 us, 1 ms is promised."""

from collections.abc import Callable
from time import perf_counter

import pytest

from authz_service.errors import TokenRefused
from authz_service.token.base64url import decode
from authz_service.token.claims import ClaimRules, verify_claims
from authz_service.token.extractor import bearer_token
from authz_service.token.jws import parse_compact, rsa_key
from tests.support import tokens
from tests.support.tokens import AUDIENCE, ISSUER, NOW, b64, claims, compact_json, signing_key

RS256 = frozenset({"RS256"})
RULES = ClaimRules(ISSUER, frozenset({AUDIENCE}), leeway_seconds=30)
MAX_BYTES = 8192
MOST_VERIFICATIONS = 32
"""Two thirds of a millisecond."""

HEADER = b64(compact_json({"alg": "RS256", "kid": "key-1"}))
FILLING = {
    "open brackets": b"[", "brackets": b"[],", "objects": b'{"a":[]},', "integers": b"1,", "floats": b"1e9,",
    "strings": b'"",',
    "long numbers": b"9" * 500 + b",", "escapes": rb'"\u00e9",', "names": b'{"a":1,"b":2},', "backslashes": rb'"\\\\",',
    "nested": b"[" * 12 + b"]" * 12 + b",", "quotes": b'"', "digits": b"7", "white space": b" ",
    "non-ASCII": "\u00e9".encode(),
}  # fmt: skip


def payload(filling: bytes, size: int) -> bytes:
    opening, closing = b'{"permissions":[', b"0]}"
    return opening + filling * ((size - len(opening) - len(closing)) // len(filling)) + closing


def bad_tokens(max_bytes: int) -> dict[str, str]:
    """As large as may be, each with as much of one thing as fits."""
    size = max_bytes * 3 // 4 - 100
    in_payload = {name: f"{HEADER}.{b64(payload(filling, size))}.AA" for name, filling in FILLING.items()}
    in_header = {f"{name} in the header": f"{b64(payload(filling, size))}.e30.AA" for name, filling in FILLING.items()}
    signature = "A" * (max_bytes - 100)
    odd = {"dots": "." * max_bytes, "no dots": "A" * max_bytes, "long signature": f"{HEADER}.e30.{signature}"}
    return {**in_payload, **in_header, **odd}


def refuse(token: str) -> None:
    with pytest.raises(TokenRefused):
        verify_claims(parse_compact(bearer_token((("authorization", f"Bearer {token}"),), 65536), RS256)[2], RULES, NOW)


def verification() -> Callable[[], object]:
    key = rsa_key("key-1", RS256, int.from_bytes(decode(signing_key().numbers()["n"])), 65537)
    good = parse_compact(tokens.token(), RS256)
    return lambda: key.verify(good)


def seconds(action: Callable[[], object], rounds: int = 5) -> float:
    """The best of a few: what it costs when nobody else wants the processor."""

    def once() -> float:
        started = perf_counter()
        action()
        return perf_counter() - started

    return min(once() for _ in range(rounds))


def cheaper(action: Callable[[], object], times: float, other: Callable[[], object], fixed: float = 0) -> bool:
    """Whether an action costs less than so many of another, tried side by side until a quiet moment shows it."""
    return any(seconds(action) < times * (seconds(other) + fixed) for _ in range(40))


@pytest.mark.parametrize("kind", bad_tokens(MAX_BYTES))
def test_a_bad_token_of_8_kib_costs_a_few_signatures(kind: str) -> None:
    token = bad_tokens(MAX_BYTES)[kind]
    assert MAX_BYTES - 1200 < len(token) <= MAX_BYTES
    assert cheaper(lambda: refuse(token), MOST_VERIFICATIONS, verification())


@pytest.mark.parametrize("kind", bad_tokens(MAX_BYTES))
def test_the_cost_grows_no_faster_than_the_token(kind: str) -> None:
    small, large = bad_tokens(MAX_BYTES)[kind], bad_tokens(8 * MAX_BYTES)[kind]
    fixed = 100e-6  # what each refusal costs whatever its size, and some noise
    assert cheaper(lambda: refuse(large), 3 * 8, lambda: refuse(small), fixed)


def test_a_token_that_is_too_large_costs_nothing() -> None:
    headers = (("authorization", "Bearer " + "a" * 60_000),)

    def refused() -> None:
        with pytest.raises(TokenRefused):
            bearer_token(headers, MAX_BYTES)

    assert cheaper(refused, 2, verification())


def test_a_good_token_costs_little_beside_its_signature() -> None:
    token = signing_key().sign(claims())
    assert cheaper(lambda: verify_claims(parse_compact(token, RS256)[2], RULES, NOW), 4, verification())
