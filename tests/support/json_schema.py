"""As much of JSON Schema (draft 2020-12) as the policy's schema uses; any other keyword is an error of the test."""

import re
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
}  # fmt: skip
ANNOTATIONS = frozenset({"$schema", "$defs", "title", "description", "default"})


def accepts(schema: Schema, value: object) -> bool:
    """Whether ``value``, as ``json.loads`` would give it, is valid."""
    return _valid(schema, value, schema)


def _valid(schema: Schema, value: Any, root: Schema) -> bool:
    if "type" in schema and not _type(schema, value, root):
        return False  # the other keywords are about values of this type
    return all(CHECKS[keyword](schema, value, root) for keyword in schema.keys() - ANNOTATIONS)


def _type(schema: Schema, value: Any, _root: Schema) -> bool:
    is_bool = isinstance(value, bool)
    return isinstance(value, TYPES[schema["type"]]) and is_bool == (schema["type"] == "boolean")


def _const(schema: Schema, value: Any, _root: Schema) -> bool:
    return type(value) is type(schema["const"]) and bool(value == schema["const"])


def _one_of(schema: Schema, value: Any, root: Schema) -> bool:
    return [_valid(option, value, root) for option in schema["oneOf"]].count(True) == 1


def _reference(schema: Schema, value: Any, root: Schema) -> bool:
    return _valid(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root)


def _named(schema: Schema, value: Any, root: Schema) -> bool:
    return all(_valid(inner, value[key], root) for key, inner in schema["properties"].items() if key in value)


def _by_pattern(schema: Schema, value: Any, root: Schema) -> bool:
    patterns = schema["patternProperties"].items()
    return all(_valid(inner, item, root) for key, item in value.items() for p, inner in patterns if re.search(p, key))


def _others(schema: Schema, value: Any, _root: Schema) -> bool:
    assert schema["additionalProperties"] is False
    patterns = schema.get("patternProperties", ())
    return all(key in schema.get("properties", ()) or any(re.search(p, key) for p in patterns) for key in value)


CHECKS: dict[str, Callable[[Schema, Any, Schema], bool]] = {
    "not": lambda schema, value, root: not _valid(schema["not"], value, root),
    "type": _type, "const": _const, "oneOf": _one_of, "$ref": _reference,
    "properties": _named, "patternProperties": _by_pattern, "additionalProperties": _others,
    "enum": lambda schema, value, _: value in schema["enum"],
    "pattern": lambda schema, value, _: isinstance(value, str) and bool(re.search(schema["pattern"], value)),
    "maxLength": lambda schema, value, _: isinstance(value, str) and len(value) <= schema["maxLength"],
    "minimum": lambda schema, value, _: isinstance(value, int) and value >= schema["minimum"],
    "maximum": lambda schema, value, _: isinstance(value, int) and value <= schema["maximum"],
    "required": lambda schema, value, _: isinstance(value, dict) and set(schema["required"]) <= value.keys(),
    "minProperties": lambda schema, value, _: len(value) >= schema["minProperties"],
    "propertyNames": lambda schema, value, root: all(_valid(schema["propertyNames"], key, root) for key in value),
    "items": lambda schema, value, root: all(_valid(schema["items"], item, root) for item in value),
    "minItems": lambda schema, value, _: len(value) >= schema["minItems"],
    "maxItems": lambda schema, value, _: len(value) <= schema["maxItems"],
}  # fmt: skip
