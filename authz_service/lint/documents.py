"""YAML or JSON of others, read loosely: what Envoy and OpenAPI tools accept is more than a policy may say."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from authz_service.errors import ConfigurationError

MAX_DEPTH = 64
MAX_DIGITS = 20

Steps = tuple[str | int, ...]
"""Where something stands: keys and positions from the root."""

_MERGE = "tag:yaml.org,2002:merge"
_CAMEL = re.compile(r"(?<=[a-z0-9])([A-Z])")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # whichever there is
    """Refuses a key that comes twice: which of the two counts is for each reader to say."""


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in seen and key.tag != _MERGE:
            problem = f"the key {key.value!r} comes a second time"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
        seen.add(str(key.value))
    return dict(yaml.SafeLoader.construct_mapping(loader, node))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
# Dates stay text, as JSON has none.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


def read_document(text: str) -> dict[str, Any]:
    """A mapping; JSON is YAML, too. :raises ConfigurationError: for everything else."""
    try:
        _check_depth(text)
        # S506: derived from the safe loader.
        document = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        raise ConfigurationError([f"{place}not YAML or JSON: {error.problem or error.context}"]) from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, RecursionError) as error:
        raise ConfigurationError([f"not YAML or JSON: {type(error).__name__}"]) from None
    if not isinstance(document, dict):
        raise ConfigurationError(["must be a mapping"])
    return document


def _check_depth(text: str) -> None:
    """The loader calls itself for each level."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigurationError([f"nested more than {MAX_DEPTH} deep"])


def mappings(value: Any, at: Steps = ()) -> Iterator[tuple[Steps, dict[str, Any]]]:
    """All mappings in a document, outer ones first, each once however often an alias names it."""
    seen: set[int] = set()
    waiting: list[tuple[Steps, Any]] = [(at, value)]
    while waiting:
        steps, found = waiting.pop()
        if not isinstance(found, (dict, list)) or id(found) in seen or len(steps) > MAX_DEPTH:
            continue
        seen.add(id(found))
        if isinstance(found, dict):
            yield steps, found
        inner = found.items() if isinstance(found, dict) else enumerate(found)
        waiting += reversed([((*steps, key), item) for key, item in inner])


def written(steps: Steps) -> str:
    """``static_resources.listeners[0].name``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


def snake(value: Any) -> Any:
    """Keys as protobuf's field names: JSON may write ``failureModeAllow`` for ``failure_mode_allow``."""
    return _snake(value, {}, 0)


def _snake(value: Any, done: dict[int, Any], depth: int) -> Any:
    """``done``: what aliases name again and again is read once."""
    if depth > MAX_DEPTH:
        raise ConfigurationError([f"nested more than {MAX_DEPTH} deep"])
    if not isinstance(value, (dict, list)):
        return value
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {_snake_key(key): _snake(item, done, depth + 1) for key, item in value.items()}
        else:
            done[id(value)] = [_snake(item, done, depth + 1) for item in value]
    return done[id(value)]


def _snake_key(key: Any) -> Any:
    return _CAMEL.sub(lambda found: f"_{found[1].lower()}", key) if isinstance(key, str) else key


def get(value: Any, *keys: str | int) -> Any:
    """What stands below these keys, or None."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def items(value: Any, *keys: str | int) -> list[Any]:
    """The list below these keys; empty if there is none."""
    found = get(value, *keys)
    return found if isinstance(found, list) else []


def is_on(value: Any) -> bool:
    """Whether a switch that should be off is not; what is no boolean is for Envoy to refuse."""
    return value is not None and value is not False


def number(value: Any) -> int | None:
    """A whole number, as JSON for protobuf may write it: with or without quotes."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < MAX_DIGITS:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
