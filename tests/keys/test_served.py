"""The keys as decisions see them: what is found, what is not, and from when on nothing is."""

from dataclasses import replace

import pytest

from authz_service.errors import Reason, Unavailable, UnknownKeyId
from authz_service.keys.jwk import KeySet, parse_key_set
from authz_service.keys.served import LONGEST_RETRY_AFTER_SECONDS, ServedKeys
from tests.support.clock import Clock
from tests.support.tokens import ISSUER, NOW, SigningKey, jwks, signing_key

MAX_STALE = 100.0


def key_set(*keys: SigningKey, algorithms: frozenset[str] = frozenset({"RS256"})) -> KeySet:
    return parse_key_set(jwks(*(key.jwk(alg=key.algorithm) for key in keys)), algorithms)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def served(clock: Clock) -> ServedKeys:
    return ServedKeys(ISSUER, MAX_STALE, monotonic=clock, wall_clock=lambda: NOW)


class TestLookUp:
    def test_a_key_of_the_set_is_found_and_counted(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        assert served.key("a").kid == "a"
        assert served.hits_and_misses() == (1, 0)

    def test_another_one_is_unknown_and_counted(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        with pytest.raises(UnknownKeyId) as unknown:
            served.key("b")
        assert (unknown.value.issuer, unknown.value.kid) == (ISSUER, "b")
        assert served.hits_and_misses() == (0, 1)

    def test_without_any_set_it_is_unavailable_and_the_client_is_not_blamed(self, served: ServedKeys) -> None:
        with pytest.raises(Unavailable) as unavailable:
            served.key("a")
        assert unavailable.value.reason is Reason.KEYS_UNAVAILABLE


class TestAges:
    def test_before_the_first_set(self, served: ServedKeys) -> None:
        assert (served.ready, served.age_seconds, list(served.kids)) == (False, None, [])

    def test_age_counts_from_when_the_set_was_good(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), good_at=clock.now - 5)
        clock.now += 10
        assert served.age_seconds == 15

    def test_stale_keys_are_served_until_the_last_moment(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        clock.now += MAX_STALE - 0.001
        assert served.ready
        assert served.key("a")

    def test_then_known_and_unknown_key_ids_alike_are_unavailable(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        clock.now += MAX_STALE
        assert not served.ready
        for kid in ("a", "b"):
            with pytest.raises(Unavailable):
                served.key(kid)

    def test_a_good_set_brings_them_back(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        clock.now += MAX_STALE * 10
        served._serve(key_set(signing_key("a")), clock.now)
        assert served.key("a")

    @pytest.mark.parametrize(("due_in", "seconds"), [
        (-5, 1), (0, 1), (0.2, 1), (7.5, 8), (1e6, LONGEST_RETRY_AFTER_SECONDS),
    ])  # fmt: skip
    def test_retry_after_is_the_next_fetch_within_reason(
        self, served: ServedKeys, clock: Clock, due_in: float, seconds: int
    ) -> None:
        served._due = clock.now + due_in
        with pytest.raises(Unavailable) as unavailable:
            served.key("a")
        assert unavailable.value.retry_after == seconds


class TestReplacement:
    @pytest.mark.parametrize(("before", "after", "withdrawn"), [
        ("", "a", ""),
        ("a", "a", ""),
        ("a", "ab", ""),
        ("ab", "b", "a"),
        ("ab", "cd", "ab"),
    ])  # fmt: skip
    def test_what_is_gone_is_told(
        self, served: ServedKeys, clock: Clock, before: str, after: str, withdrawn: str
    ) -> None:
        served._serve(key_set(*map(signing_key, before)), clock.now)
        assert served._serve(key_set(*map(signing_key, after)), clock.now) == set(withdrawn)
        assert set(served.kids) == set(after)

    def test_the_same_id_with_new_material_is_withdrawn_and_serves_the_new_one(
        self, served: ServedKeys, clock: Clock
    ) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        impostor = signing_key("other")._replace(kid="a")
        new = key_set(impostor)
        assert served._serve(new, clock.now) == {"a"}
        assert served.key("a").thumbprint == new.keys["a"].thumbprint

    def test_the_same_key_for_another_algorithm_is_withdrawn(self, served: ServedKeys, clock: Clock) -> None:
        both = frozenset({"RS256", "RS512"})
        served._serve(key_set(signing_key("a"), algorithms=both), clock.now)
        assert served._serve(key_set(signing_key("a")._replace(algorithm="RS512"), algorithms=both), clock.now) == {"a"}


class TestVouching:
    """For a token that was verified before, the key that did it is asked for, not its id."""

    def test_to_ask_whether_a_key_is_held_counts_as_nothing(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        key = served.key("a")
        before = served.hits_and_misses()
        assert served.holds(key)
        assert not served.holds(replace(key))
        assert (served.hits_and_misses(), served.last_used("a")) == (before, None)

    def test_a_key_of_the_set_vouches_and_counts_as_used(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        key, (hits, misses) = served.key("a"), served.hits_and_misses()
        assert served.current.vouches(key, NOW + 7)
        assert served.last_used("a") == NOW + 7
        assert served.hits_and_misses() == (hits + 1, misses)

    def test_a_key_that_was_removed_or_replaced_does_not(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a"), signing_key("b")), clock.now)
        removed, replaced = served.key("a"), served.key("b")
        served._serve(key_set(signing_key("other")._replace(kid="b")), clock.now)
        assert not served.current.vouches(removed, NOW)
        assert not served.current.vouches(replaced, NOW)
        assert served.last_used("b") is None

    def test_none_does_beyond_the_greatest_age(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        key = served.key("a")
        clock.now += MAX_STALE
        with pytest.raises(Unavailable):
            served.current.vouches(key, NOW)


class TestLastUse:
    def test_it_is_told_by_the_wall_clock(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        served.mark_used("a")
        assert served.last_used("a") == NOW

    def test_a_look_up_is_no_use(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a")), clock.now)
        served.key("a")
        assert served.last_used("a") is None

    def test_ids_outside_the_set_are_not_remembered(self, served: ServedKeys) -> None:
        served.mark_used("a")
        assert served.last_used("a") is None

    def test_it_ends_with_the_key_and_outlives_a_refresh(self, served: ServedKeys, clock: Clock) -> None:
        served._serve(key_set(signing_key("a"), signing_key("b")), clock.now)
        served.mark_used("a")
        served.mark_used("b")
        served._serve(key_set(signing_key("a")), clock.now)
        assert (served.last_used("a"), served.last_used("b")) == (NOW, None)

    def test_of_several_processes_the_one_that_used_it_last_counts(self, served: ServedKeys, clock: Clock) -> None:
        """Each tells by and by of what it did, so older news may come last."""
        served._serve(key_set(signing_key("a")), clock.now)
        served.used_elsewhere("a", NOW + 5)
        served.used_elsewhere("a", NOW)
        assert served.last_used("a") == NOW + 5

    def test_ids_outside_the_set_are_not_remembered_of_other_processes_either(self, served: ServedKeys) -> None:
        served.used_elsewhere("a", NOW)
        assert served.last_used("a") is None
