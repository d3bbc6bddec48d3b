import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.token.strict_json import MAX_DEPTH, MAX_DIGITS, NotStrictJson, parse_object

ACCEPTED: dict[str, tuple[bytes, Any]] = {
    "empty": (b"{}", {}),
    "claims": (b'{"iss":"a","n":1,"f":1.5,"b":true,"z":null}', {"iss": "a", "n": 1, "f": 1.5, "b": True, "z": None}),
    "white space": (b' {\r\n\t"a" : 1 }\n', {"a": 1}),
    "UTF-8": ('{"a":"\u00e9\U0001f600"}'.encode(), {"a": "\u00e9\U0001f600"}),
    "escapes": (rb'{"a":"\u00e9\ud83d\ude00\"\\\n"}', {"a": '\u00e9\U0001f600"\\\n'}),
    "the same name in two objects": (b'{"a":{"a":1},"b":{"a":2}}', {"a": {"a": 1}, "b": {"a": 2}}),
    "names that differ in case": (b'{"a":1,"A":2}', {"a": 1, "A": 2}),
    "brackets inside strings": (b'{"a":"' + b"[{" * 99 + b'\\"[\\\\"}', {"a": "[{" * 99 + '"[\\'}),
    "many digits inside a string": (b'{"a":"' + b"7" * 999 + b'"}', {"a": "7" * 999}),
    "many objects, not deep": (b'{"a":[' + b"{}," * 99 + b"[]]}", {"a": [*[{}] * 99, []]}),
    "longest integer": (b'{"a":' + b"9" * MAX_DIGITS + b"}", {"a": int("9" * MAX_DIGITS)}),
    "large float": (b'{"a":1e308}', {"a": 1e308}),
    "tiny float": (b'{"a":1e-999}', {"a": 0.0}),
}

REFUSED = {
    "nothing": b"", "white space": b"  ", "HTML": b"<!doctype html><html></html>", "cut off": b'{"a":1',
    "no value": b'{"a":}',
    "array": b"[]", "string": b'"a"', "number": b"1", "null": b"null", "true": b"true",
    "trailing comma": b'{"a":1,}', "comment": b'{"a":1/**/}', "single quotes": b"{'a':1}", "bare name": b"{a:1}",
    "two objects": b"{}{}", "trailing NUL": b"{}\0", "raw control character": b'{"a":"\n"}', "form feed": b"\x0c{}",
    "duplicate name": b'{"a":1,"a":1}', "duplicate name, deep": b'{"x":[{"a":1,"b":2,"a":3}]}',
    "duplicate name, escaped": rb'{"a":1,"\u0061":2}', "duplicate name, empty": b'{"":1,"":2}',
    "BOM": b"\xef\xbb\xbf{}", "UTF-16": "{}".encode("utf-16"), "UTF-16 without BOM": "{}".encode("utf-16-le"),
    "UTF-32": "{}".encode("utf-32-be"), "bad UTF-8": b'{"a":"\xff"}', "cut-off UTF-8": b'{"a":"\xc3"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}', "surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "Latin-1": '{"a":"\u00e9"}'.encode("latin-1"),
    "lone surrogate": rb'{"a":"\ud800"}', "lone low surrogate": rb'{"a":"\uDFFF"}',
    "lone surrogate in a name": rb'{"\ud800":1}',
    "surrogates the wrong way round": rb'{"a":"\ude00\ud83d"}', "lone surrogate, deep": rb'{"a":[{"b":"x\ud83dx"}]}',
    "bad escape": rb'{"a":"\x41"}', "short escape": rb'{"a":"\u12"}',
    "NaN": b'{"a":NaN}', "Infinity": b'{"a":Infinity}', "-Infinity": b'{"a":[-Infinity]}',
    "float overflow": b'{"a":1e309}',
    "negative float overflow": b'{"a":-1E999}', "leading zero": b'{"a":01}', "plus": b'{"a":+1}',
    "hexadecimal": b'{"a":0x1}',
    "leading point": b'{"a":.5}', "underscore": b'{"a":1_0}', "fullwidth digit": '{"a":\uff11}'.encode(),
    "integer too long": b'{"a":' + b"9" * (MAX_DIGITS + 1) + b"}",
    "integer far too long": b'{"a":-' + b"1" * 100_000 + b"}",
    "integer too long, of many digits": b'{"a":' + b"1234567890" * 60 + b"}",
    "fraction too long": b'{"a":0.' + b"1" * 5000 + b"}", "exponent too long": b'{"a":1e' + b"0" * 5000 + b"1}",
    "brackets that never close": b'{"a":' + b"[" * 100_000, "objects that never close": b'{"a":' * 20_000,
    "brackets that never open": b'{"a":1}' + b"]" * 100, "brackets the wrong way round": b"]" * 50 + b"[" * 50,
    "an open string before the brackets": b'{"a":"' + b"[" * 5000,
    "deep behind a backslash": rb'{"a":"\\",' + b'"b":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "deep behind escaped quotes": rb'{"a":"\\\"","b":' + b"[" * 2000 + b"]" * 2000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize(("octets", "value"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_proper_json_objects_are_read(octets: bytes, value: Any) -> None:
    assert parse_object(octets) == value


@pytest.mark.parametrize("octets", REFUSED.values(), ids=REFUSED.keys())
def test_everything_else_is_refused(octets: bytes) -> None:
    with pytest.raises(NotStrictJson):
        parse_object(octets)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_the_depth_is_bounded_exactly(opening: bytes) -> None:
    closing = b"]" if opening == b"[" else b"}"
    deepest = b'{"a":' + opening * (MAX_DEPTH - 1) + b"1" + closing * (MAX_DEPTH - 1) + b"}"
    assert parse_object(deepest)
    with pytest.raises(NotStrictJson, match="nested too deeply"):
        parse_object(b'{"a":' + deepest + b"}")


def test_the_reason_repeats_nothing_of_the_document() -> None:
    for octets in REFUSED.values():
        with pytest.raises(NotStrictJson) as caught:
            parse_object(octets)
        assert caught.value.__cause__ is None
        assert str(caught.value) in {
            "it is not Unicode in UTF-8", "it is not JSON", "it is not a JSON object", "it is nested too deeply",
            "a name occurs twice in one object", "a number is too large", "a number has too many digits",
            "NaN and infinities are not JSON",
        }  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON, max_size=4), st.booleans())
def test_what_a_proper_writer_writes_is_read_back(value: dict[str, Any], ascii_only: bool) -> None:
    assert parse_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary() | st.text(alphabet='{}[]"\\:,019.eE-uUdD8tnN \n').map(str.encode))
def test_no_octets_raise_anything_else(octets: bytes) -> None:
    try:
        value = parse_object(octets)
    except NotStrictJson:
        return
    assert value == json.loads(octets)
