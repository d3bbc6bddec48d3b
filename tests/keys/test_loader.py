"""One load: what the loader remembers, and what it never lets replace that."""

from collections.abc import Callable
from functools import partial

import pytest

from authz_service.errors import KeySetRefused
from authz_service.keys.jwk import KeySet, parse_key_set
from authz_service.keys.loader import KeySetLoader
from authz_service.keys.source import Fetched
from tests.support.tokens import jwks, signing_key

SECRET = {"kty": "oct", "k": "c2VjcmV0", "kid": "a"}
GOOD = jwks(signing_key("a"))
parse = partial(parse_key_set, algorithms=frozenset({"RS256"}))


class Answers:
    """A source that has its answers ready, and keeps the ETags that it was asked with."""

    url = "https://keys.example.com/jwks"

    def __init__(self, *answers: Fetched | KeySetRefused) -> None:
        self._answers = iter(answers)
        self.etags: list[str | None] = []

    async def fetch(self, etag: str | None = None) -> Fetched:
        self.etags.append(etag)
        answer = next(self._answers)
        if isinstance(answer, KeySetRefused):
            raise answer
        return answer


async def cause(loader: KeySetLoader) -> str:
    with pytest.raises(KeySetRefused) as refused:
        await loader.load()
    return refused.value.cause


async def test_a_good_document_is_loaded_with_what_came_beside_it() -> None:
    loaded = await KeySetLoader(Answers(Fetched(GOOD, '"1"', 60)), parse).load()
    assert (list(loaded.key_set.keys), loaded.document, loaded.etag, loaded.max_age_seconds) == (["a"], GOOD, '"1"', 60)


async def test_the_next_load_asks_whether_the_last_good_one_is_still_right() -> None:
    source = Answers(Fetched(GOOD, '"1"', None), Fetched(None, '"1"', None), Fetched(None, '"1"', None))
    loader = KeySetLoader(source, parse)
    first, *others = [await loader.load() for _ in range(3)]
    assert source.etags == [None, '"1"', '"1"']
    assert all(other.key_set is first.key_set for other in others)


@pytest.mark.parametrize(("confirmation", "etag", "max_age"), [
    (Fetched(None, '"1"', None), '"1"', 60),
    (Fetched(None, '"2"', 90), '"2"', 90),
    (Fetched(None, None, 0), '"1"', 0),
])  # fmt: skip
async def test_a_304_renews_the_headers_that_it_carries(
    confirmation: Fetched, etag: str, max_age: float
) -> None:
    loader = KeySetLoader(Answers(Fetched(GOOD, '"1"', 60), confirmation), parse)
    await loader.load()
    loaded = await loader.load()
    assert (loaded.document, loaded.etag, loaded.max_age_seconds) == (GOOD, etag, max_age)


@pytest.mark.parametrize("bad", [
    Fetched(b"<html>", '"bad"', 60), Fetched(jwks(), '"bad"', 60), KeySetRefused("timeout", "late"),
], ids=["html", "empty", "no answer"])  # fmt: skip
async def test_after_a_refusal_the_etag_is_that_of_the_last_good_document(bad: Fetched | KeySetRefused) -> None:
    """Otherwise a 304 would confirm a document that was refused."""
    source = Answers(Fetched(GOOD, '"good"', None), bad, Fetched(None, '"good"', None))
    loader = KeySetLoader(source, parse)
    await loader.load()
    await cause(loader)
    assert (await loader.load()).document == GOOD
    assert source.etags == [None, '"good"', '"good"']


async def test_a_304_when_there_is_nothing_to_confirm_is_refused() -> None:
    assert await cause(KeySetLoader(Answers(Fetched(None, None, None)), parse)) == "http_status"


@pytest.mark.parametrize(("document", "expected"), [
    (b"", "not_json"),
    (b"<!doctype html>", "not_json"),
    (b"[]", "not_json"),
    (b"{}", "not_a_key_set"),
    (b'{"keys": []}', "no_usable_keys"),
    (jwks(SECRET), "no_usable_keys"),
], ids=repr)  # fmt: skip
async def test_a_bad_document_is_refused_with_its_cause(document: bytes, expected: str) -> None:
    assert await cause(KeySetLoader(Answers(Fetched(document, None, None)), parse)) == expected


@pytest.mark.parametrize(("document", "why"), [
    (jwks(), "it is empty"),
    (jwks(SECRET, signing_key("b").jwk(use="enc"), signing_key("c").jwk(use="enc")), "symmetric_key, use_not_sig"),
])  # fmt: skip
def test_a_set_of_no_use_says_why(document: bytes, why: str) -> None:
    with pytest.raises(KeySetRefused, match=f": {why}$"):
        KeySetLoader(Answers(), parse).read(document)


def test_a_document_that_breaks_the_parser_is_refused_and_the_defect_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(document: bytes) -> KeySet:
        raise ZeroDivisionError

    parser: Callable[[bytes], KeySet] = broken
    with pytest.raises(KeySetRefused) as refused:
        KeySetLoader(Answers(), parser).read(GOOD)
    assert refused.value.cause == "internal_error"
    assert "defect" in caplog.text
