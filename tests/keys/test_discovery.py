"""An issuer says where its keys are, about itself alone, and is believed for one fetch at a time."""

import json
from collections.abc import Mapping

import pytest

from authz_service.errors import KeySetRefused
from authz_service.keys.discovery import DiscoveredSource, read_metadata
from authz_service.keys.fetch import Fetcher
from authz_service.keys.source import Fetched
from tests.support.issuer import Serve, Status, issuer
from tests.support.tokens import compact_json, jwks, signing_key

ISSUER = "https://id.example/tenant"
KEYS = "https://keys.example/jwks"


def metadata(**overrides: object) -> bytes:
    return compact_json({"issuer": ISSUER, "jwks_uri": KEYS, "token_endpoint": f"{ISSUER}/token", **overrides})


class Places:
    """What is to be had at each URL, and which fetches there were."""

    url = f"{ISSUER}/.well-known/openid-configuration"

    def __init__(self, keys: Mapping[str, Fetched]) -> None:
        self.keys = dict(keys)
        self.metadata: bytes | KeySetRefused = metadata()
        self.opened: list[str] = []
        self.asked: list[tuple[str, str | None]] = []
        self.source = DiscoveredSource(ISSUER, self, self.open)

    async def fetch(self, etag: str | None = None) -> Fetched:
        assert etag is None
        if isinstance(self.metadata, KeySetRefused):
            raise self.metadata
        return Fetched(self.metadata, '"metadata"', 5.0)

    def open(self, url: str) -> "Place":
        self.opened.append(url)
        return Place(self, url)


class Place:
    def __init__(self, places: Places, url: str) -> None:
        self._places = places
        self.url = url

    async def fetch(self, etag: str | None = None) -> Fetched:
        self._places.asked.append((self.url, etag))
        there = self._places.keys[self.url]
        return there._replace(document=None) if etag is not None and etag == there.etag else there


def cause_of(document: bytes, issuer: str = ISSUER) -> str:
    with pytest.raises(KeySetRefused) as refused:
        read_metadata(document, issuer)
    assert "evil" not in str(refused.value)
    return refused.value.cause


class TestMetadata:
    def test_they_name_the_place_of_the_keys(self) -> None:
        assert read_metadata(metadata(), ISSUER) == KEYS

    def test_a_plain_issuer_may_have_plain_keys(self) -> None:
        assert read_metadata(metadata(issuer="http://id", jwks_uri="http://id/k"), "http://id") == "http://id/k"

    @pytest.mark.parametrize("document", [b"", b"<html>evil", b"[]", b'{"issuer":"a","issuer":"b"}', b"\xff"])
    def test_what_is_no_json_object_is_refused(self, document: bytes) -> None:
        assert cause_of(document) == "metadata_not_json"

    @pytest.mark.parametrize(
        "said", ["https://evil.example", ISSUER + "/", ISSUER.upper(), ISSUER[:-1], "", None, [ISSUER], {ISSUER: 1}],
    )
    def test_those_of_another_issuer_are_refused(self, said: object) -> None:
        assert cause_of(metadata(issuer=said)) == "metadata_other_issuer"

    @pytest.mark.parametrize(
        "jwks_uri",
        [
            "http://keys.example/evil", "file:///evil", "//evil", "/evil", "https://u:p@evil/", "https://evil/#",
            "https://", "https://evil\n", "", None, 7, [KEYS],
        ],
    )  # fmt: skip
    def test_a_place_that_must_not_be_asked_is_refused(self, jwks_uri: object) -> None:
        assert cause_of(metadata(jwks_uri=jwks_uri)) == "metadata_no_jwks_uri"

    def test_no_place_at_all_is_refused(self) -> None:
        assert cause_of(compact_json({"issuer": ISSUER})) == "metadata_no_jwks_uri"


class TestSource:
    ELSEWHERE = "https://elsewhere.example/"

    def places(self) -> Places:
        return Places({KEYS: Fetched(b"one", '"1"', 60.0), self.ELSEWHERE: Fetched(b"two", '"1"', 60.0)})

    async def test_the_key_set_comes_from_there_with_its_own_cache_age(self) -> None:
        fetched = await self.places().source.fetch()
        assert (fetched.document, fetched.max_age_seconds) == (b"one", 60.0)

    async def test_the_same_place_is_asked_with_the_etag_that_it_gave(self) -> None:
        places = self.places()
        first = await places.source.fetch()
        again = await places.source.fetch(first.etag)
        assert (again.document, again.etag) == (None, first.etag)
        assert places.asked == [(KEYS, None), (KEYS, '"1"')]
        assert places.opened == [KEYS]

    async def test_keys_that_moved_are_followed_at_the_next_fetch_without_the_etag_of_the_old_place(self) -> None:
        places = self.places()
        first = await places.source.fetch()
        places.metadata = metadata(jwks_uri=self.ELSEWHERE)
        moved = await places.source.fetch(first.etag)
        assert moved.document == b"two"
        assert places.asked[-1] == (self.ELSEWHERE, None)
        assert moved.etag != first.etag

    async def test_an_etag_of_the_place_before_last_is_not_sent_either(self) -> None:
        """The set of the second place was of no use, so that the one of the first place is still the good one."""
        places = self.places()
        first = await places.source.fetch()
        places.metadata = metadata(jwks_uri=self.ELSEWHERE)
        for _ in range(2):
            assert (await places.source.fetch(first.etag)).document == b"two"

    async def test_a_set_without_an_etag_has_none_here(self) -> None:
        places = Places({KEYS: Fetched(b"one", None, None)})
        assert (await places.source.fetch()).etag is None

    @pytest.mark.parametrize("bad", [metadata(issuer="https://other"), KeySetRefused("timeout", "no answer")])
    async def test_without_good_metadata_the_keys_are_not_asked_for_where_they_were(
        self, bad: bytes | KeySetRefused
    ) -> None:
        places = self.places()
        await places.source.fetch()
        places.metadata = bad
        with pytest.raises(KeySetRefused):
            await places.source.fetch()
        assert len(places.asked) == 1


async def test_a_real_issuer_is_found_followed_and_refused() -> None:
    async with issuer(b"") as id_provider, issuer(jwks(signing_key("a"))) as keys, issuer(b"the other") as others:
        source = DiscoveredSource(
            id_provider.origin, Fetcher(id_provider.origin, 30), lambda url: Fetcher(url, 30)
        )  # fmt: skip
        id_provider.document = json.dumps({"issuer": id_provider.origin, "jwks_uri": keys.url}).encode()
        keys.behave(Serve(etag='"1"'))
        first = await source.fetch()
        assert first.document == keys.document
        assert (await source.fetch(first.etag)).document is None
        id_provider.document = json.dumps({"issuer": id_provider.origin, "jwks_uri": others.url}).encode()
        assert (await source.fetch(first.etag)).document == b"the other"
        id_provider.behave(Status(503))
        with pytest.raises(KeySetRefused, match="503"):
            await source.fetch(first.etag)


async def test_what_is_asked_is_the_metadata_until_they_name_the_keys() -> None:
    places = Places({KEYS: Fetched(b"{}", None, None)})
    assert places.source.url == places.url
    await places.source.fetch()
    assert places.source.url == KEYS
