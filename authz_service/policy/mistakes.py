"""Validation errors -> lines for people: ``rules[3] (list-groups).match.path: must begin with "/"``."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from authz_service.policy import document
from authz_service.policy.yaml_reader import Unclear

SHOWN_LENGTH = 60

_MUST = {
    "string_type": "must be text",
    "int_type": "must be a whole number from 0 to 100",
    "greater_than_equal": "must be a whole number from 0 to 100",
    "less_than_equal": "must be a whole number from 0 to 100",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
}
"""By pydantic's error type, for those that are about the value that was given."""

_KEYS: dict[str, type[BaseModel]] = {
    "": document.PolicyDocument, "defaults": document.DefaultsDocument, "issuers": document.IssuerDocument,
    "rules": document.RuleDocument, "match": document.Matching, "require": document.Requiring,
}  # fmt: skip
"""By the key that a mapping stands under: who knows which keys it may have."""


def describe(errors: Iterable[ErrorDetails], given: object) -> Iterator[str]:
    """One line per error, but for those that the YAML reader has told of.

    :param given: the document that was validated, where rules have names.
    """
    for error in errors:
        if not _is_echo(error):
            yield f"{_place(_steps(error), given)}: {_message(error)}"


def _is_echo(error: ErrorDetails) -> bool:
    """Whether another line says it: the YAML reader's, or that of an item which left its list short."""
    value = error["input"]
    return value.told if isinstance(value, Unclear) else error["type"] == "too_short" and bool(value)


def _steps(error: ErrorDetails) -> list[int | str]:
    steps = [step for step in error["loc"] if step != "[key]"]
    for step in error.get("ctx", {}).get("at", ()):
        if step == document.UP:
            steps.pop()
        else:
            steps.append(step)
    return steps


def _place(steps: list[int | str], given: object) -> str:
    place = ""
    for position, step in enumerate(steps):
        if isinstance(step, str):
            place += ("." if place else "") + shown_key(step)
        else:
            place += f"[{step}]"
        if position == 1 and steps[0] == "rules":
            place += _name(given, step)
    return place


def _name(given: Any, index: int | str) -> str:
    try:
        name = given["rules"][index]["name"]
    except (KeyError, TypeError, IndexError):
        return ""
    return f" ({shown(name).strip(chr(39))})" if isinstance(name, str) else ""


def _message(error: ErrorDetails) -> str:
    subject = "the name " if error["loc"][-1:] == ("[key]",) else ""
    return subject + (_about_presence(error) or _about_value(error))


def _about_presence(error: ErrorDetails) -> str:
    if error["input"] == Unclear(""):
        return "has no value; give it one, or leave the key out"
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        *around, key = (step for step in error["loc"] if isinstance(step, str))
        return _no_such_key(key, around[-1] if around else "")
    return ""


def _about_value(error: ErrorDetails) -> str:
    kind, value = error["type"], error["input"]
    if kind == "string_type" and isinstance(value, Unclear):
        return f"must be text; write '{value.text}' in quotes"
    if kind in _MUST:
        return f"{_MUST[kind].format(**error.get('ctx', {}))}, not {shown(value)}"
    if kind == "too_short":
        return "must not be empty; name at least one, or leave the key out"
    return error["msg"].removeprefix("Value error, ")


def _no_such_key(key: str, around: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - memory, for mistakes alone

    if homes := [home or "the file itself" for home, model in _KEYS.items() if key in model.model_fields]:
        return f"there is no such key here; it belongs in {' or '.join(homes)}"
    if close := get_close_matches(key, _KEYS[around].model_fields, n=1):
        return f"there is no such key; did you mean {close[0]}?"
    return f"there is no such key; there are {', '.join(_KEYS[around].model_fields)}"


def shown_key(key: str) -> str:
    """A key as it may stand in a place, on one line."""
    return key if key.isidentifier() and len(key) <= SHOWN_LENGTH else shown(key)


def shown(value: object) -> str:
    """A value in the file's own words, on one line."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."
