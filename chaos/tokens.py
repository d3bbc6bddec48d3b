"""Tokens that are good now, and the requests that carry them."""

import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count, cycle

from tests.support.check_requests import check_request
from tests.support.tokens import SigningKey, b64, claims, compact_json, signing_key

ISSUER = "http://issuer.test"
PATH = "/api/chat/groups"
ANYBODY = "user-1"
LIFETIME_SECONDS = 3600


def mint(key: SigningKey | None = None, subject: str = ANYBODY, *, issued: float = -60, lifetime: float = 3600) -> str:
    """A token that may read groups.

    :param issued: seconds from now.
    :param lifetime: seconds from then.
    """
    issued_at = int(time.time() + issued)
    payload = claims(iss=ISSUER, sub=subject, iat=issued_at, exp=int(issued_at + lifetime))
    return (key or signing_key()).sign(payload)


def mint_many(key: SigningKey | None = None, count: int = 100) -> list[str]:
    """Tokens of different people."""
    return [mint(key, f"user-{number}") for number in range(count)]


@lru_cache(maxsize=16)
def _template(length: int, path: str) -> bytes:
    return check_request(path=path, headers=[("authorization", "Bearer " + "T" * length)])


def check_message(token: str | None, path: str = PATH) -> bytes:
    """An encoded ``CheckRequest``. Envoy-data-plane encodes one of each length; the others differ in the token only."""
    if token is None:
        return check_request(path=path)
    return _template(len(token), path).replace(b"T" * len(token), token.encode())


def in_turn(tokens: Sequence[str]) -> Iterator[bytes]:
    """Check messages, without end."""
    return cycle([check_message(token) for token in tokens])


def forged_with_unknown_kids() -> Iterator[bytes]:
    """Check messages, each with another key id that nobody ever published; for ever.

    Quickly made: the processor is needed by those who have to answer them. All that takes longer is done before the
    first one is asked for, since whoever sends them at a rate has begun to count the time by then.
    """
    now = int(time.time())
    payload = b64(compact_json(claims(iss=ISSUER, iat=now - 60, exp=now + LIFETIME_SECONDS)))

    def header(number: int) -> bytes:
        return b64encode(b'{"alg":"RS256","typ":"at+jwt","kid":"unknown-%016d"}' % number)  # needs no padding

    first = header(0)
    before, _, after = check_message(f"{first.decode()}.{payload}.{'A' * 342}").partition(first)
    return (before + header(number) + after for number in count())
