"""A worker's keys are those that it is told, for as long as they were good where they were fetched."""

import asyncio
from functools import partial

import pytest

from authz_service.errors import KeySetRefused, Unavailable, UnknownKeyId
from authz_service.keys import followed as room
from authz_service.keys.followed import MAX_SOUGHT_AT_ONCE, FollowedRing
from authz_service.keys.jwk import parse_key_set
from authz_service.keys.jwks import HOLD_SECONDS
from authz_service.keys.served import KeyState
from tests.support.tokens import ISSUER, jwks, signing_key

PARSE = partial(parse_key_set, algorithms=frozenset({"RS256"}))
MAX_STALE = 100.0


class Following:
    """A ring at a time that stands still, and what it asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[list[str]] = []
        self._question = asyncio.Event()
        self.ring = FollowedRing(ISSUER, PARSE, MAX_STALE, self._ask, monotonic=lambda: self.now)

    def _ask(self, _issuer: str, kids: list[str]) -> None:
        self.asked.append(kids)
        self._question.set()

    async def until_asked_again(self) -> None:
        self._question.clear()
        await self._question.wait()

    def hear(
        self, *kids: str, good_at: float = 1000.0, error: KeySetRefused | None = None, seek_from: float = 0
    ) -> None:
        document = jwks(*map(signing_key, kids)) if kids else None
        self.ring.follow(KeyState(ISSUER, document, good_at if kids else None, good_at + 30, error, seek_from))

    def seek(self, *kids: str) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.ring.refresh_for_unknown_kid(kid)) for kid in kids]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives up waiting."""
    monkeypatch.setattr(room, "HOLD_SECONDS", 3600.0)


def test_keys_that_were_told_are_used_and_others_are_unknown() -> None:
    following = Following()
    with pytest.raises(Unavailable):
        following.ring.key("a")
    following.hear("a")
    assert following.ring.key("a").kid == "a"
    with pytest.raises(UnknownKeyId):
        following.ring.key("b")


def test_a_withdrawn_key_ends_when_that_is_told() -> None:
    following = Following()
    following.hear("a", "b")
    following.hear("b")
    with pytest.raises(UnknownKeyId):
        following.ring.key("a")


def test_keys_that_must_not_be_used_any_more_end_when_that_is_told() -> None:
    following = Following()
    following.hear("a")
    following.hear()
    with pytest.raises(Unavailable):
        following.ring.key("a")


def test_a_key_that_leaked_is_left_out_of_what_is_told() -> None:
    following = Following()
    leaked = frozenset({PARSE(jwks(signing_key("a"))).keys["a"].thumbprint})
    document = jwks(signing_key("a"), signing_key("b"))
    following.ring.follow(KeyState(ISSUER, document, 1000.0, 1030.0, None, leaked=leaked))
    assert list(following.ring.kids) == ["b"]


def test_a_key_that_stays_is_the_same_object_so_that_remembered_tokens_stay() -> None:
    following = Following()
    following.hear("a")
    before = following.ring.key("a")
    following.hear("a", "b", good_at=1001)
    assert following.ring.key("a") is before


def test_keys_are_as_old_here_as_where_they_were_fetched() -> None:
    following = Following()
    following.hear("a", good_at=1000 - MAX_STALE + 1)
    assert following.ring.age_seconds == MAX_STALE - 1
    assert following.ring.ready
    following.now += 1
    assert not following.ring.ready


def test_a_failed_fetch_leaves_the_keys_and_their_age() -> None:
    following = Following()
    following.hear("a", good_at=950)
    refused = KeySetRefused("timeout", "no answer")
    following.hear("a", good_at=950, error=refused)
    assert following.ring.last_error is refused
    assert (following.ring.key("a").kid, following.ring.age_seconds) == ("a", 50)


async def test_a_known_key_id_asks_nobody() -> None:
    following = Following()
    following.hear("a")
    await following.ring.refresh_for_unknown_kid("a")
    assert following.asked == []


async def test_while_the_budget_is_spent_nobody_is_asked_and_nobody_waits() -> None:
    following = Following()
    following.hear("a", seek_from=1030)
    with pytest.raises(UnknownKeyId) as unknown:
        following.ring.key("x")
    assert not unknown.value.may_come
    await following.ring.refresh_for_unknown_kid("x")
    assert following.asked == []
    following.now = 1030
    with pytest.raises(UnknownKeyId) as unknown:
        following.ring.key("x")
    assert unknown.value.may_come


@pytest.mark.usefixtures("patient")
async def test_one_question_at_a_time_and_what_gathers_meanwhile_goes_together() -> None:
    following = Following()
    first = following.seek("x")
    await asyncio.sleep(0)
    others = following.seek("z", "y", "y")
    await asyncio.sleep(0)
    assert following.asked == [["x"]]
    following.ring.answered()
    await asyncio.gather(*first)
    await following.until_asked_again()
    assert following.asked == [["x"], ["y", "z"]]
    assert not any(task.done() for task in others)
    following.ring.answered()
    await asyncio.gather(*others)


@pytest.mark.usefixtures("patient")
async def test_whoever_waits_looks_again_when_keys_come_whoever_asked_for_them() -> None:
    following = Following()
    waiting = following.seek("x")
    await asyncio.sleep(0)
    waiting += following.seek("y")
    await asyncio.sleep(0)
    following.hear("x", "y")
    await asyncio.gather(*waiting)


async def test_whoever_waits_for_an_answer_that_does_not_come_waits_for_a_bounded_time() -> None:
    waited: list[float] = []

    async def give_up(_: asyncio.Event, seconds: float) -> bool:
        waited.append(seconds)
        return False

    ring = FollowedRing(ISSUER, PARSE, MAX_STALE, lambda *_: None, wait=give_up)
    await ring.refresh_for_unknown_kid("x")
    assert waited == [HOLD_SECONDS]


@pytest.mark.usefixtures("patient")
async def test_a_flood_of_key_ids_is_a_question_of_bounded_size() -> None:
    following = Following()
    tasks = following.seek("x", *map(str, range(10 * MAX_SOUGHT_AT_ONCE)))
    await asyncio.sleep(0)
    following.ring.answered()
    await following.until_asked_again()
    assert [len(kids) for kids in following.asked] == [1, MAX_SOUGHT_AT_ONCE]
    following.ring.answered()
    await asyncio.gather(*tasks)
