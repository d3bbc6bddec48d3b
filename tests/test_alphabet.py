"""An alphabet is spelt by its own characters and by nothing else, wherever that stands."""

import string

import pytest

from authz_service.alphabet import Alphabet

DIGITS = Alphabet(string.digits.encode())


@pytest.mark.parametrize("before", ["", "12"])
@pytest.mark.parametrize("after", ["", "34"])
def test_a_text_is_spelt_by_these_characters_and_no_others(before: str, after: str) -> None:
    spelt = {chr(code) for code in range(0x2100) if DIGITS.spells(before + chr(code) + after)}
    assert spelt == set(string.digits)


def test_the_empty_text_needs_no_characters() -> None:
    assert DIGITS.spells("")
    assert not Alphabet(b"").spells("0")


def test_half_a_character_is_none() -> None:
    assert not DIGITS.spells("1\ud800")
