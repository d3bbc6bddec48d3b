from base64 import urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.token.base64url import NotBase64Url, decode, encode

# RFC 4648 section 10, without padding; RFC 7515 appendix C.
VECTORS = {
    "": b"", "Zg": b"f", "Zm8": b"fo", "Zm9v": b"foo", "Zm9vYg": b"foob", "Zm9vYmE": b"fooba", "Zm9vYmFy": b"foobar",
    "A-z_4ME": bytes([3, 236, 255, 224, 193]),
}  # fmt: skip

REFUSED = {
    "padding": "Zg==", "padding of a whole": "Zm9v=", "padding inside": "Zg==Zm9v", "only padding": "====",
    "impossible length": "Zm9vY", "one character": "A",
    "trailing bits, two characters": "Zh", "trailing bits, three characters": "Zm9",
    "standard alphabet, plus": "A+z_4ME", "standard alphabet, slash": "A-z/4ME",
    "space": "Zm 9", "leading space": " Zm9v", "line feed": "Zm9v\n", "line feed in the middle": "Zm\n9v",
    "tab": "Zm9v\t",
    "NUL": "Zm9\0", "full stop": "Zm.v", "exclamation mark": "Zm9!", "percent encoding": "Zm%39",
    "non-ASCII letter": "Zm9\u00e9", "fullwidth digit": "Zm\uff19v", "lone surrogate": "Zm9\ud800",
}  # fmt: skip


@pytest.mark.parametrize(("text", "octets"), VECTORS.items())
def test_the_vectors_of_the_rfcs_hold_in_both_directions(text: str, octets: bytes) -> None:
    assert decode(text) == octets
    assert encode(octets) == text


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_every_other_spelling_is_refused(text: str) -> None:
    with pytest.raises(NotBase64Url):
        decode(text)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize(("beginning", "last"), [("A", ALPHABET[::16]), ("AA", ALPHABET[::4]), ("AAA", ALPHABET)])
def test_the_last_character_has_no_bits_to_spare(beginning: str, last: str) -> None:
    """RFC 4648 section 3.5."""
    assert [character for character in ALPHABET if is_accepted(beginning + character)] == list(last)


def is_accepted(text: str) -> bool:
    try:
        decode(text)
    except NotBase64Url:
        return False
    return True


@pytest.mark.parametrize(("text", "fault"), [
    ("A", "the length or the last character is impossible"), ("Zh", "the length or the last character is impossible"),
    ("Zm 9", "a character is outside the alphabet"),
])  # fmt: skip
def test_the_error_says_what_is_wrong_and_repeats_nothing(text: str, fault: str) -> None:
    with pytest.raises(NotBase64Url) as caught:
        decode(text)
    assert str(caught.value) == fault


@given(st.binary(max_size=64))
def test_octets_come_back_from_their_one_spelling(octets: bytes) -> None:
    assert encode(octets) == urlsafe_b64encode(octets).rstrip(b"=").decode()
    assert decode(encode(octets)) == octets


@given(st.text(alphabet="AQEIZag09-_+/=\n ", max_size=9) | st.text(max_size=9))
def test_what_is_accepted_is_the_one_spelling_of_its_octets(text: str) -> None:
    try:
        octets = decode(text)
    except NotBase64Url:
        return
    assert encode(octets) == text
