"""YAML text -> mappings, lists and plain scalars, or everything that is wrong with it as YAML.

A policy must mean the same to every reader. So the text is read from the parser's events, in the part of the language
that YAML 1.1 and 1.2 read alike: no anchors, aliases, tags or further documents, no key twice, and the scalars that
the two versions take for different things (``yes``, ``010``, ``1:30``) are handed on as :class:`Unclear`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from authz_service.errors import ConfigurationError

MAX_DEPTH = 16

# The C parser where there is one: a policy of 10,000 rules is read while requests are answered.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Line breaks to YAML 1.1 alone, so that a rule behind one is a comment to others; and controls of direction, which show
# a line in another order than it is read in.
_MISREAD = "\x85\u2028\u2029\u202a-\u202e\u2066-\u2069"
_NOT_ALLOWED = re.compile(f"{yaml.reader.Reader.NON_PRINTABLE.pattern}|[{_MISREAD}]")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,8}")
# What PyYAML takes for text and others do not: YAML 1.1 booleans of one letter, YAML 1.2.2 section 10.3.2 numbers.
_SPECIAL_TO_OTHERS = re.compile(r"[yYnN]|0o[0-7]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Unclear:
    """A scalar without quotes that YAML readers disagree about, an alias, or (empty) no value at all."""

    text: str
    told: bool = False
    """Whether it is among the reader's problems already."""

    def __repr__(self) -> str:
        return self.text or "nothing"


def read_yaml(text: str) -> tuple[object, list[str]]:
    """The one document of ``text`` as dict, list, str, int, bool or :class:`Unclear`, and what must not be in it.

    :raises ConfigurationError: where there is no going on: a syntax error, or depth beyond ``MAX_DEPTH``.
    """
    if found := _NOT_ALLOWED.search(text):
        raise ConfigurationError([f"{_place(text, found.start())}: the character {found.group()!r} is not allowed"])
    reader = _Reader(text)
    try:
        return reader.document(), reader.problems
    except yaml.MarkedYAMLError as error:
        raise ConfigurationError([*reader.problems, _syntax_problem(error)]) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML's own scanner calls int() and chr()
        raise ConfigurationError([*reader.problems, f"not YAML: {error}"]) from None


class _Reader:
    def __init__(self, text: str) -> None:
        self.problems: list[str] = []
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)

    def document(self) -> object:
        """The first document; a further one is a problem."""
        value: object = Unclear("")
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._problem(event, "a second document begins; a policy is one document")
                    break
                value = self._value(next(self._events), depth=1)
        return value

    def _value(self, event: Any, depth: int) -> object:
        self._refuse_indirection(event)
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        if isinstance(event, yaml.AliasEvent):
            return Unclear(f"*{event.anchor}", told=True)
        if depth > MAX_DEPTH:
            raise ConfigurationError([*self.problems, f"{_line(event)}: nested more than {MAX_DEPTH} deep"])
        return self._mapping(depth) if isinstance(event, yaml.MappingStartEvent) else self._sequence(depth)

    def _sequence(self, depth: int) -> list[object]:
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, object]:
        items: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._value(event, depth + 1)
            value = self._value(next(self._events), depth + 1)
            if not isinstance(key, str):
                self._problem(event, f"the key {key!r} must be text; put it in quotes")
            elif key in items:
                self._problem(event, f"the key {key!r} comes a second time; merge the two")
            else:
                items[key] = value
        return items

    def _refuse_indirection(self, event: Any) -> None:
        if getattr(event, "anchor", None) is not None:
            self._problem(event, "anchors and aliases are not allowed; write the value out")
        if getattr(event, "tag", None) is not None:
            self._problem(event, f"the tag {event.tag!r} is not allowed; put text in quotes instead")

    def _problem(self, event: Any, what: str) -> None:
        self.problems.append(f"{_line(event)}: {what}")


def _scalar(event: Any) -> str | int | bool | Unclear:
    text: str = event.value
    if not event.implicit[0]:  # in quotes, or a block
        return text
    if text in {"true", "false"}:
        return text == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return Unclear(text) if _is_special(text) else text


def _is_special(text: str) -> bool:
    """Whether some version of YAML takes this plain scalar for something else than text."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], [])
    return any(pattern.match(text) for _, pattern in resolvers) or bool(_SPECIAL_TO_OTHERS.fullmatch(text))


def _syntax_problem(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
    hint = "; a value with a brace or bracket in it needs quotes here" if "flow" in (error.context or "") else ""
    return f"{place}: not YAML: {' '.join(filter(None, (error.context, error.problem)))}{hint}"


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}, column {event.start_mark.column + 1}"


def _place(text: str, position: int) -> str:
    line_start = text.rfind("\n", 0, position) + 1
    return f"line {text.count(chr(10), 0, position) + 1}, column {position - line_start + 1}"
