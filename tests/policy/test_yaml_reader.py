from contextlib import suppress

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from authz_service.errors import ConfigurationError
from authz_service.policy import yaml_reader
from authz_service.policy.yaml_reader import MAX_DEPTH, Unclear, read_yaml


def problem(text: str) -> str:
    """The one thing that is wrong with a text, whether it can be read further or not."""
    try:
        _, problems = read_yaml(text)
    except ConfigurationError as error:
        problems = list(error.problems)
    assert len(problems) == 1
    return problems[0]


PLAIN = {
    "mapping": ("a: b", {"a": "b"}),
    "flow mapping": ('{a: "{x}", "b": [c, d]}', {"a": "{x}", "b": ["c", "d"]}),
    "nested": ("a:\n- b: c\n  d:\n  - e\n", {"a": [{"b": "c", "d": ["e"]}]}),
    "JSON": ('{"a": [1, true, "x\\u00e9"]}', {"a": [1, True, "x\u00e9"]}),
    "comment": ("# c\na: b # c\n", {"a": "b"}),
    "document markers": ("---\na: b\n...\n", {"a": "b"}),
    "version directive": ("%YAML 1.1\n---\na: b", {"a": "b"}),
    "byte order mark": ("\ufeffa: b", {"a": "b"}),
    "CR LF": ("a: b\r\nc: d\r\n", {"a": "b", "c": "d"}),
    "block text": ("a: |\n  b\n  c\n", {"a": "b\nc\n"}),
    "empty text": ("a: ''", {"a": ""}),
    "empty list and mapping": ("a: []\nb: {}", {"a": [], "b": {}}),
    "colon in text": ("a: groups:read", {"a": "groups:read"}),
}

SCALARS: dict[str, object] = {
    "true": True,
    "false": False,
    "0": 0,
    "7": 7,
    "-7": -7,
    "100": 100,
    "'true'": "true",
    '"7"': "7",
    "v1": "v1",
    "1a": "1a",
    "truely": "truely",
    "/api/chat": "/api/chat",
}

UNCLEAR = [
    "yes", "Yes", "NO", "on", "Off", "y", "N", "True", "FALSE", "null", "Null", "~", "010", "0o17", "0x1F", "0b11",
    "1_000", "1:30", "1.5", ".5", "1e3", "-1.5e-3", ".inf", "-.INF", ".NaN", "+7", "-0", "2024-01-01",
    "2024-01-01T00:00:00Z", "=", "<<", "12345678901234567890", "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), PLAIN.values(), ids=PLAIN)
def test_plain_yaml_is_read(text: str, value: object) -> None:
    assert read_yaml(text) == (value, [])


@pytest.mark.parametrize(("text", "value"), SCALARS.items(), ids=SCALARS)
def test_a_scalar_that_all_readers_agree_about_has_its_type(text: str, value: object) -> None:
    read, problems = read_yaml(f"a: {text}")
    assert read == {"a": value}
    assert problems == []
    assert type(read["a"]) is type(value)


@pytest.mark.parametrize("text", UNCLEAR, ids=lambda text: text[:20])
def test_a_scalar_that_readers_disagree_about_is_left_unclear(text: str) -> None:
    assert read_yaml(f"a: {text}") == ({"a": Unclear(text)}, [])


@pytest.mark.parametrize("text", UNCLEAR, ids=lambda text: text[:20])
def test_in_quotes_it_is_text(text: str) -> None:
    assert read_yaml(f"a: '{text}'") == ({"a": text}, [])


@pytest.mark.parametrize("text", ["a:", "a: # nothing", "{a: }", "{a}"])
def test_a_missing_value_is_left_unclear(text: str) -> None:
    assert read_yaml(text) == ({"a": Unclear("")}, [])


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\n\n", "\ufeff"])
def test_an_empty_document_is_left_unclear(text: str) -> None:
    assert read_yaml(text) == (Unclear(""), [])


REFUSED = {
    "key twice": ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' comes a second time; merge the two"),
    "key twice, deeper": ("x:\n- {a: 1, a: 1}", "line 2, column 10: the key 'a' comes a second time"),
    "key twice, spelled otherwise": ("a: 1\n'a': 2", "line 2, column 1: the key 'a' comes a second time"),
    "number as key": ("1: a", "line 1, column 1: the key 1 must be text"),
    "truth value as key": ("true: a", "line 1, column 1: the key True must be text"),
    "unclear key": ("on: a", "line 1, column 1: the key on must be text; put it in quotes"),
    "empty key": ("?\n: a", "the key nothing must be text"),
    "list as key": ("? [a]\n: b", "line 1, column 3: the key ['a'] must be text"),
    "merge key": ("a: {}\n<<: {b: c}", "line 2, column 1: the key << must be text"),
    "anchor": ("a: &x b", "line 1, column 4: anchors and aliases are not allowed; write the value out"),
    "alias": ("a: *x", "line 1, column 4: anchors and aliases are not allowed"),
    "tag": ("a: !!str 7", "line 1, column 4: the tag 'tag:yaml.org,2002:str' is not allowed"),
    "own tag": ("a: !x [b]", "line 1, column 4: the tag '!x' is not allowed"),
    "Python tag": ("a: !!python/object/apply:os.system [id]", "tag:yaml.org,2002:python/object/apply:os.system"),
    "tag without name": ("a: ! b", "line 1, column 4: the tag '!' is not allowed"),
    "second document": ("a: b\n---\nc: d", "line 2, column 1: a second document begins; a policy is one document"),
}

SYNTAX = {
    "open bracket": ("a: [b\nc: d", "line 2, column 2: not YAML"),
    "braces without quotes": ("a: {path: /x/{y}, b: c}", "line 1, column 14: not YAML"),
    "hint for braces": ("a: {path: /x/{y}, b: c}", "a value with a brace or bracket in it needs quotes here"),
    "tab": ("a:\n\t- b", "line 2, column 1: not YAML"),
    "open quote": ("a: 'b", "line 1, column 6: not YAML"),
    "two colons": ("a: b: c", "line 1, column 5: not YAML"),
    "at sign": ("a: @b", "line 1, column 4: not YAML"),
    "unknown tag handle": ("a: !x!y z", "line 1, column 4: not YAML"),
    "NUL": ("a: b\nc: \0", "line 2, column 4: the character '\\x00' is not allowed"),
    "bell": ("\a", "line 1, column 1: the character '\\x07' is not allowed"),
    "line break of YAML 1.1": ("a: b # c\x85d: e", "line 1, column 9: the character '\\x85' is not allowed"),
    "line separator": ("a: b # c\u2028d: e", "line 1, column 9: the character '\\u2028' is not allowed"),
    "paragraph separator": ("a: b # c\u2029d: e", "line 1, column 9: the character '\\u2029' is not allowed"),
    "override of direction": ("a: b # \u202ec", "line 1, column 8: the character '\\u202e' is not allowed"),
    "isolate of direction": ("a: b # \u2066c", "line 1, column 8: the character '\\u2066' is not allowed"),
    "lone surrogate": ("a: \ud800", "line 1, column 4: the character '\\ud800' is not allowed"),
    "too deep": ("[" * (MAX_DEPTH + 1), f"line 1, column {MAX_DEPTH + 1}: nested more than {MAX_DEPTH} deep"),
}

PATHOLOGICAL = {
    "half a million brackets": "[" * 500_000,
    "half a million braces": "{" * 500_000,
    "half a million dashes": "- " * 250_000,
    "half a million question marks": "? " * 250_000,
    "half a million quotes": '"\\' * 250_000,
    "half a million digits": "version: " + "9" * 500_000,
    "long directive": "%YAML " + "1" * 100_000 + ".1\n---\na",
    "surrogate by escape": '"\\ud800"',
    "beyond Unicode by escape": '"\\UFFFFFFFF"',
    "billion laughs": "a: &a [x,x]\n" + "\n".join(f"k{i}: &k{i} [*a,*a,*a]" for i in range(1000)),
    "alias to itself": "&a [*a]",
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_mean_the_same_to_every_reader_is_a_problem(text: str, expected: str) -> None:
    assert expected in problem(text)


@pytest.mark.parametrize(("text", "expected"), SYNTAX.values(), ids=SYNTAX)
def test_what_is_no_yaml_is_told_with_line_and_column(text: str, expected: str) -> None:
    assert expected in problem(text)


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader], ids=["C", "Python"])
@pytest.mark.parametrize("text", PATHOLOGICAL.values(), ids=PATHOLOGICAL)
def test_pathological_yaml_is_read_or_refused(text: str, loader: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "_LOADER", loader)
    with suppress(ConfigurationError):
        read_yaml(text)


def test_problems_before_a_syntax_error_are_told_with_it() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_yaml("a: 1\na: 2\nb: [")
    assert [line.split(": ")[1] for line in caught.value.problems] == [
        "the key 'a' comes a second time; merge the two", "not YAML",
    ]  # fmt: skip


def test_of_a_key_that_comes_twice_the_first_stays() -> None:
    assert read_yaml("a: 1\na: 2")[0] == {"a": 1}


def test_the_deepest_nesting_is_read() -> None:
    assert read_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)[1] == []


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader], ids=["C", "Python"])
@settings(max_examples=150)
@given(text=st.one_of(st.text(), st.text(alphabet="ab: -[]{}#&*!|>'\"%@\n\t?,~\\x")))
def test_any_text_is_read_or_refused_and_nothing_else(loader: object, text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_reader, "_LOADER", loader)
        with suppress(ConfigurationError):
            read_yaml(text)


# PyYAML puts quotes around what it takes for something else itself, and not around what only others do (y, 1e3).
TEXT = st.text().filter(lambda text: not yaml_reader._SPECIAL_TO_OTHERS.fullmatch(text))
VALUES = st.recursive(
    st.booleans() | st.integers(-999_999_999, 999_999_999) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(VALUES)
def test_what_yaml_writes_is_what_is_read(value: object) -> None:
    assert read_yaml(yaml.safe_dump(value)) == (value, [])
