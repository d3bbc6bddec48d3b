"""What a worker is told of an issuer's keys holds until it is told that the issuer is gone, and no longer."""

import pytest

from authz_service.config import load_config
from authz_service.errors import Unavailable
from authz_service.issuers import TrustedIssuer
from authz_service.keys.served import KeyState
from authz_service.token.claims import ClaimRules
from authz_service.workers.feed import Feed
from authz_service.workers.link import key_message
from authz_service.workers.worker import Worker
from tests.support.recording_link import RecordingLink
from tests.support.tokens import ISSUER, jwks, signing_key

TRUSTED = TrustedIssuer(ClaimRules(ISSUER, frozenset({"chat-api"}), 30), f"{ISSUER}/keys")


def told() -> KeyState:
    """A key set that is good for longer than any test takes."""
    return KeyState(ISSUER, jwks(signing_key("a")), good_at=float("inf"), due=float("inf"), error=None)


@pytest.fixture
def feed() -> Feed:
    feed = Feed(load_config({}), RecordingLink())
    feed.hear(told())
    return feed


def test_keys_that_were_told_before_there_was_a_ring_are_used(feed: Feed) -> None:
    rings = feed.key_rings()
    rings.use([TRUSTED])
    assert rings.key(ISSUER, "a").kid == "a"


def test_an_issuer_that_comes_back_has_no_key_of_before(feed: Feed) -> None:
    rings = feed.key_rings()
    rings.use([TRUSTED])
    feed.forget(ISSUER)
    rings.use([])
    rings.use([TRUSTED])
    with pytest.raises(Unavailable):
        rings.key(ISSUER, "a")


def test_when_keys_of_an_issuer_that_is_gone_were_used_is_told_no_more(feed: Feed) -> None:
    rings = feed.key_rings()
    rings.use([TRUSTED])
    rings.mark_used(ISSUER, "a")
    assert [(issuer, kid) for issuer, kid, _ in feed.last_used()] == [(ISSUER, "a")]
    feed.forget(ISSUER)
    assert feed.last_used() == []


def test_a_worker_that_is_told_of_an_issuer_that_is_gone_forgets_its_keys() -> None:
    worker = Worker(load_config({}), RecordingLink())
    worker._hear({"what": "keys", **key_message(told())})
    worker._hear({"what": "gone", "issuer": ISSUER})
    rings = worker._feed.key_rings()
    rings.use([TRUSTED])
    assert not rings.ready
