"""JSON from strangers (RFC 8259): whatever could be read in two ways, or costs more than it should, is refused.

Shared by tokens and key sets. The parser is the standard library's; these hooks and the look at the nesting before it
close what it leaves open: duplicate names, NaN, numbers of any length, lone surrogates, unbounded recursion.
"""

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 16
"""Arrays and objects within each other; no claims set or key set in the wild comes near."""
MAX_NUMBER_LENGTH = 512
"""Characters; int() takes time that grows with their square."""

_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")


class NotStrictJson(ValueError):
    """The octets are not acceptable JSON. The text says why and repeats nothing of them."""


def parse_object(octets: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8 without BOM; :raises NotStrictJson: for everything else."""
    try:
        text = octets.decode("utf-8")
        _check_depth(text)
        value = _DECODER.decode(text)
        if "\\u" in text:
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


def _check_depth(text: str) -> None:
    """Bound the parser's recursion. Exact for JSON; text that is none may be refused here or by the parser."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    outside_strings = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    brackets = outside_strings.encode().translate(_ONE_KIND_OF_BRACKET, _ALL_BUT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")  # the innermost pairs: one level less
    if brackets:
        raise NotStrictJson("it is nested too deeply")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 7515 section 4 and RFC 7519 section 4 allow to refuse duplicates; RFC 8725 section 2.4 says why one should.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJson("a name occurs twice in one object")
    return members


def _integer(digits: str) -> int:
    if len(digits) > MAX_NUMBER_LENGTH:
        raise NotStrictJson("a number is too long")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MAX_NUMBER_LENGTH or math.isinf(number := float(digits)):
        raise NotStrictJson("a number is too long or too large")
    return number


def _constant(_name: str) -> NoReturn:
    raise NotStrictJson("NaN and infinities are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
