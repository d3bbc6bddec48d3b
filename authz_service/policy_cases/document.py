"""A file of cases: what may stand where, or every mistake in it at once, with its line."""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError, field_validator
from pydantic_core import ErrorDetails

from authz_service.alphabet import HTTP_TOKEN, TCHARS
from authz_service.errors import ConfigurationError, Reason
from authz_service.model import Mode
from authz_service.policy.grammar import RuleName, Text, Version
from authz_service.policy.mistakes import shown
from authz_service.policy.yaml_reader import Unclear, read_yaml

ALLOW = "allow"
ANSWERS = (ALLOW, *(reason.value for reason in Reason))

_INTEGER = re.compile(r"-?[1-9][0-9]{0,17}")  # Unix seconds have more digits than the policy's numbers may have
_METHOD = rf"^[{TCHARS}]{{1,32}}$"


class _Mapping(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaseRequest(_Mapping):
    """What the client sends, as Envoy would pass it on."""

    method: StrictStr = Field("GET", pattern=_METHOD)
    path: StrictStr
    host: StrictStr = ""
    headers: dict[StrictStr, StrictStr] = Field(default_factory=dict)


class Case(_Mapping):
    """One case. Without ``claims`` the request has no token; ``claims: {}`` is a good token that grants nothing."""

    name: Text
    request: CaseRequest
    claims: dict[StrictStr, Any] | None = None
    expect: StrictStr
    """``allow``, or a reason. A rule in shadow mode is expected to decide as it will when it is enforced."""
    rule: RuleName | None = None
    """The rule that decides; left out: any."""
    mode: Mode | None = None
    headers: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    """Headers of the answer, by lower-case name: those that are set on the request, or those of the denial."""

    @field_validator("expect", mode="after")
    @classmethod
    def _known(cls, answer: str) -> str:
        if answer in ANSWERS:
            return answer
        close = get_close_matches(answer, ANSWERS, n=1)
        raise ValueError(
            f"must be allow or a reason such as permission_denied, not {shown(answer)}"
            + (f"; did you mean {close[0]}?" if close else "")
        )

    @field_validator("headers", mode="after")
    @classmethod
    def _lower_case(cls, headers: dict[str, str]) -> dict[str, str]:
        if wrong := [name for name in headers if not HTTP_TOKEN.fullmatch(name) or name != name.lower()]:
            raise ValueError(f"must be header names in lower case, not {shown(wrong[0])}")
        return headers


class _CasesDocument(_Mapping):
    version: Version
    cases: tuple[Case, ...] = Field(min_length=1)


class Cases(NamedTuple):
    """All cases of a file."""

    cases: tuple[Case, ...]
    lines: tuple[int, ...]
    """Where each one begins."""


def parse_cases(text: str) -> Cases:
    """Read a file of cases; :raises ConfigurationError: with one line per mistake."""
    given, problems = read_yaml(text)
    if not isinstance(given, dict):
        raise ConfigurationError([*problems, f"must be a mapping with the keys version and cases, not {shown(given)}"])
    lines = _lines(text)
    plain = {key: _plain(value) if key == "cases" else value for key, value in given.items()}
    try:
        document = _CasesDocument.model_validate(plain)
    except ValidationError as error:
        raise ConfigurationError([*problems, *_mistakes(error.errors(include_url=False), plain, lines)]) from None
    if problems := [*problems, *_unclear(plain["cases"], lines), *_used_twice(document.cases, lines)]:
        raise ConfigurationError(problems)
    return Cases(document.cases, tuple(lines))


def _lines(text: str) -> list[int]:
    """The line of each case, for a text that could be read."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else ()
    cases = next((value for key, value in pairs if key.value == "cases"), None)
    return [item.start_mark.line + 1 for item in cases.value] if isinstance(cases, yaml.SequenceNode) else []


def _plain(value: object) -> object:
    """Claims may have numbers of any size that JSON knows; what stays unclear is told of later."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value.text) if isinstance(value, Unclear) and _INTEGER.fullmatch(value.text) else value


def _unclear(cases: Any, lines: list[int]) -> Iterator[str]:
    for number, case in enumerate(cases):
        for name, value in (case.get("claims") or {}).items():
            for scalar in _scalars(value):
                if isinstance(scalar, Unclear) and not scalar.told:
                    advice = f"write '{scalar.text}' in quotes" if scalar.text else "give it one, or leave it out"
                    what = "could be read in two ways" if scalar.text else "has no value"
                    yield f"{_place(('cases', number, 'claims', name), cases, lines)}: {what}; {advice}"


def _scalars(value: object) -> Iterator[object]:
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _scalars(item)
    else:
        yield value


def _used_twice(cases: Iterable[Case], lines: list[int]) -> Iterator[str]:
    first: dict[str, int] = {}
    for case, line in zip(cases, lines, strict=True):
        if first.setdefault(case.name, line) != line:
            yield f"line {line}: the name {shown(case.name)} is that of line {first[case.name]} already"


_MUST = {
    "string_type": "must be text", "dict_type": "must be a mapping", "model_type": "must be a mapping",
    "tuple_type": "must be a list", "enum": "must be {expected}", "literal_error": "must be {expected}",
    "string_pattern_mismatch": "must be a method such as GET",
}  # fmt: skip
_KEYS: Mapping[str, type[BaseModel]] = {"": _CasesDocument, "cases": Case, "request": CaseRequest}


def _mistakes(errors: Iterable[ErrorDetails], given: dict[str, object], lines: list[int]) -> Iterator[str]:
    for error in errors:
        value = error["input"]
        told = isinstance(value, Unclear) and value.told  # by the YAML reader
        if not told and not (error["type"] == "too_short" and value):  # which a bad item left short
            yield f"{_place(error['loc'], given.get('cases'), lines)}: {_message(error)}"


def _place(steps: Iterable[int | str], cases: Any, lines: list[int]) -> str:
    """``line 12, cases[3] (a member lists groups).request.path``."""
    steps = [step for step in steps if step != "[key]"]
    if steps[:1] != ["cases"] or len(steps) == 1:
        return ".".join(map(str, steps))
    number = int(steps[1])
    case = cases[number]
    name = case.get("name") if isinstance(case, dict) else None
    named = f" ({shown(name)[1:-1]})" if isinstance(name, str) else ""
    keys = "".join(f".{step if str(step).isidentifier() else shown(step)}" for step in steps[2:])
    return f"line {lines[number]}, cases[{number}]{named}{keys}"


def _message(error: ErrorDetails) -> str:
    value = error["input"]
    if value == Unclear(""):
        return "has no value; give it one, or leave the key out"
    match error["type"]:
        case "missing":
            return "is missing"
        case "too_short":
            return "must not be empty"
        case "extra_forbidden":
            *around, key = (step for step in error["loc"] if isinstance(step, str))
            keys = _KEYS[around[-1] if around else ""].model_fields
            close, names = get_close_matches(key, keys, n=1), ", ".join(keys)
            return f"there is no such key; {f'did you mean {close[0]}?' if close else f'there are {names}'}"
        case kind if kind in _MUST:
            return f"{_MUST[kind].format(**error.get('ctx', {}))}, not {shown(value)}"
    return error["msg"].removeprefix("Value error, ")
