"""The memory of verified tokens is bounded, and keeps what is asked for."""

import itertools
from dataclasses import dataclass
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.token import verified
from authz_service.token.verified import LEAVING_AT_ONCE, TIDIED_AT_ONCE, VerifiedTokens


@dataclass(frozen=True)
class Value:
    size: int = 1


def digest(number: int) -> bytes:
    return number.to_bytes(32)


def filled(count: int, *, max_entries: int = 10, max_bytes: int = 1000, size: int = 1) -> VerifiedTokens[Value]:
    memory: VerifiedTokens[Value] = VerifiedTokens(max_entries, max_bytes)
    for number in range(count):
        memory.put(digest(number), Value(size))
    return memory


def test_what_was_put_is_found_and_what_was_not_is_not() -> None:
    memory = filled(3)
    assert [memory.get(digest(number)) for number in (1, 2, 7, 8, 9)] == [Value(), Value(), None, None, None]
    assert (memory.hits, memory.misses) == (2, 3)


def test_it_never_holds_more_than_it_may() -> None:
    memory = filled(1000)
    assert len(memory) <= 10
    assert memory.evictions == 1000 - len(memory)


def test_nor_more_bytes() -> None:
    memory = filled(1000, max_entries=1_000_000, max_bytes=100, size=7)
    assert memory.size <= 100
    assert memory.size == 7 * len(memory)


@pytest.mark.parametrize("max_entries", range(2, 12))
def test_it_holds_as_much_as_it_may_and_not_one_more(max_entries: int) -> None:
    sizes = [len(filled(count, max_entries=max_entries)) for count in range(4 * max_entries)]
    assert max(sizes) == max_entries // 2 * 2


def test_a_generation_is_full_when_not_one_byte_is_left() -> None:
    assert len(filled(4, max_bytes=100, size=25)) == 4
    assert len(filled(5, max_bytes=100, size=25)) == 3
    assert len(filled(1, max_bytes=100, size=50)) == 1


@pytest.mark.parametrize("max_entries", [0, 1])
def test_there_may_be_no_room_at_all(max_entries: int) -> None:
    assert len(filled(10, max_entries=max_entries)) == 0


def test_what_leaves_does_so_bit_by_bit_and_is_found_no_more() -> None:
    memory = filled(20, max_entries=20)
    memory.put(digest(20), Value())
    assert len(memory._leaving) == 10 - LEAVING_AT_ONCE
    assert memory.get(digest(0)) is None
    for number in range(21, 26):
        memory.put(digest(number), Value())
    assert not memory._leaving


def test_as_many_bytes_leave_as_come_and_no_more() -> None:
    memory = filled(41, max_entries=1000, max_bytes=200, size=5)
    before = len(memory._leaving)
    memory.put(digest(99), Value(20))
    assert before - len(memory._leaving) == 4


@given(st.lists(st.integers(1, 60), max_size=200))
def test_what_is_on_its_way_out_counts_as_well(sizes: list[int]) -> None:
    memory = filled(0, max_entries=1000, max_bytes=120)
    for number, size in enumerate(sizes):
        memory.put(digest(number), Value(size))
        assert memory.size + sum(value.size for value in memory._leaving.values()) <= 120


def test_what_is_larger_than_a_generation_is_not_remembered() -> None:
    memory = filled(3, max_bytes=100)
    memory.put(digest(9), Value(51))
    assert memory.get(digest(9)) is None
    assert len(memory) == 3


def test_what_is_asked_for_stays() -> None:
    memory = filled(1)
    for number in range(1, 100):
        memory.put(digest(number), Value())
        assert memory.get(digest(0)) is not None


def test_what_is_forgotten_is_gone_from_both_generations() -> None:
    memory = filled(8)  # the first five are the old generation
    for number in (0, 7, 7, 42):
        memory.forget(digest(number))
        assert memory.get(digest(number)) is None
    assert (len(memory), memory.size) == (6, 6)


def test_clear_forgets_everything() -> None:
    memory = filled(8)
    memory.clear()
    assert (len(memory), memory.size, memory.get(digest(1))) == (0, 0, None)


def test_a_memory_of_nothing_is_no_memory() -> None:
    memory = filled(5, max_entries=0, max_bytes=0)
    assert len(memory) == 0


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "forget"]), st.integers(0, 20), st.integers(0, 30))))
def test_the_sizes_add_up_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    memory: VerifiedTokens[Value] = VerifiedTokens(8, 100)
    for step, number, size in steps:
        if step == "put" and memory.get(digest(number)) is None:
            memory.put(digest(number), Value(size))
        elif step == "get":
            memory.get(digest(number))
        elif step == "forget":
            memory.forget(digest(number))
        held = [*memory._young.values(), *memory._old.values()]
        assert len(memory) == len(held) <= 8
        assert memory.size == sum(value.size for value in held) <= 100


def test_tidying_drops_what_is_stale_bit_by_bit_and_nothing_else() -> None:
    count = 5 * TIDIED_AT_ONCE
    memory = filled(count, max_entries=2 * count, max_bytes=10 * count)
    for number in range(0, count, 2):
        memory.put(digest(count + number), Value(2))
    left, more = [], []
    for _ in range(40):
        more.append(memory.tidy(lambda value: value.size == 2))
        left.append(len(memory))
    assert all(before - after <= TIDIED_AT_ONCE for before, after in itertools.pairwise(left))
    assert left[-1] == count == memory.size
    assert all(memory.get(digest(number)) for number in range(count))
    assert more[:4] == [True] * 4, "some were not looked at yet"
    assert False in more, "all were"


def test_what_is_dropped_hides_nothing_from_the_next_looks() -> None:
    memory = filled(5 * TIDIED_AT_ONCE, max_entries=20 * TIDIED_AT_ONCE, max_bytes=100_000)
    looks = 1
    while memory.tidy(lambda _: True):
        looks += 1
    assert (looks, len(memory)) == (6, 0), "a rest comes after these"


def test_a_memory_that_is_looked_at_as_a_whole_needs_no_second_look() -> None:
    assert not filled(TIDIED_AT_ONCE - 1, max_entries=4 * TIDIED_AT_ONCE, max_bytes=10_000).tidy(lambda _: False)


def test_once_all_were_looked_at_it_begins_anew() -> None:
    memory = filled(3)
    assert not memory.tidy(lambda _: False)
    assert not memory.tidy(lambda _: True)
    assert len(memory) == 0


def test_whatever_a_client_sends_has_a_digest() -> None:
    assert verified.digest("a.b.\ud800") == sha256(b"a.b.\xed\xa0\x80").digest()
