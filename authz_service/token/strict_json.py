"""JSON from strangers (RFC 8259): whatever could be read in two ways, or costs more than it should, is refused.

Shared by tokens and key sets. The parser is the standard library's; these hooks and the look at the nesting before it
close what it leaves open: duplicate names, NaN, numbers of any length, lone surrogates, unbounded recursion.
"""

import json
import math
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 16
"""Arrays and objects within each other; no claims set or key set in the wild comes near."""
MAX_DIGITS: Final = 512
"""Of a number, on one side of its point; int() takes time that grows with their square."""

_ALL_BUT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND_OF_BRACKET: Final = bytes.maketrans(b"{}", b"[]")
_ONE_KIND_OF_DIGIT: Final = bytes.maketrans(b"123456789", b"000000000")
_TOO_MANY_DIGITS: Final = b"0" * (MAX_DIGITS + 1)
_WHITESPACE: Final = " \t\n\r"


class NotStrictJson(ValueError):
    """The octets are not acceptable JSON. The text says why and repeats nothing of them."""


def parse_object(octets: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 without BOM; :raises NotStrictJson: for everything else."""
    try:
        _check_bounds(octets)
        value = _read(octets.decode("utf-8").strip(_WHITESPACE))
        if b"\\" in octets and b"\\u" in octets:
            # "\ud800" is how a surrogate without its half gets in; no UTF-8 can carry it out again.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except NotStrictJson:
        raise
    except UnicodeError:
        raise NotStrictJson("it is not Unicode in UTF-8") from None
    except ValueError:
        raise NotStrictJson("it is not JSON") from None
    if not isinstance(value, dict):
        raise NotStrictJson("it is not a JSON object")
    return value


def _read(text: str) -> Any:
    """What JSONDecoder.decode does, less its regular expressions for white space."""
    value, end = _DECODER.raw_decode(text)
    if end != len(text):
        raise NotStrictJson("it is not JSON")
    return value


def _check_bounds(octets: bytes) -> None:
    """Bound what the parser will do. Exact for JSON; what is none may be refused here or by the parser."""
    few_brackets = octets.count(b"[") + octets.count(b"{") <= MAX_DEPTH
    if few_brackets and (
        len(octets) <= MAX_DIGITS or _TOO_MANY_DIGITS not in octets.translate(_ONE_KIND_OF_DIGIT)
    ):  # fmt: skip
        return
    outside_strings = b"".join(octets.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    if _TOO_MANY_DIGITS in outside_strings.translate(_ONE_KIND_OF_DIGIT):
        raise NotStrictJson("a number has too many digits")
    if _deeper_than(MAX_DEPTH, outside_strings.translate(_ONE_KIND_OF_BRACKET, _ALL_BUT_BRACKETS)):
        raise NotStrictJson("it is nested too deeply")


def _deeper_than(depth: int, brackets: bytes) -> bool:
    for _ in range(depth):
        less = brackets.replace(b"[]", b"")  # the innermost pairs: one level
        if len(less) == len(brackets):
            break
        brackets = less
    return bool(brackets)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 7515 section 4 and RFC 7519 section 4 let duplicates be refused; RFC 7515 section 10.12 says why they should.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJson("a name occurs twice in one object")
    return members


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise NotStrictJson("a number is too large")
    return number


def _constant(_name: str) -> NoReturn:
    raise NotStrictJson("NaN and infinities are not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
