"""Documents of others are read in YAML or JSON, or refused in words."""

import pytest

from authz_service.errors import ConfigurationError
from authz_service.lint.documents import read_document


def test_json_and_yaml_say_the_same() -> None:
    assert read_document('{"a": [1, true, null, 0.5, "x"]}') == read_document("a: [1, true, null, 0.5, x]\n")


def test_a_date_stays_text() -> None:
    assert read_document("a: 2026-01-31") == {"a": "2026-01-31"}


def test_aliases_and_merge_keys_are_for_others_to_use() -> None:
    assert read_document("x: &x {a: 1, b: 1}\ny: {<<: *x, b: 2}\n")["y"] == {"a": 1, "b": 2}


@pytest.mark.parametrize(("text", "said"), [
    ("", "must be a mapping"), ("[]", "must be a mapping"), ("a: {", "not YAML or JSON"),
    ("a: 1\n---\nb: 1\n", "line 2"),
    ("a: {b: 1, b: 2}", "the key 'b' comes a second time"), ("!!python/object:os.system {}", "line 1"),
    ("\x00", "not YAML or JSON"), ("a: " + "[" * 70 + "]" * 70, "nested more than 64 deep"),
    ("[" * 100_000, "nested more than 64 deep"), ("? [a]\n: 1\n", "not YAML or JSON"),
    ("a: " + "9" * 5000, "ValueError"),
])  # fmt: skip
def test_whatever_is_no_document_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_document(text)
    (problem,) = refused.value.problems
    assert said in problem
