"""Rules for operations that have none, as a beginning: who may is taken from the description, or left to be said."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from authz_service.lint.openapi import Operation
from authz_service.policy.grammar import MAX_TEXT_LENGTH
from authz_service.policy.yaml_reader import read_yaml

LONGEST_NAME = 63

HEAD = """\
# Drafted from an OpenAPI description: rules for operations that have none. Read each one before you take it over.
# What the description does not say is granted to nobody (any_permission: []).
version: 1
rules:
"""
NOBODY = "require: {any_permission: []}"

_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]+")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def draft(operations: Iterable[Operation], taken: Iterable[str]) -> str:
    """A policy file of rules for these operations, more literal paths first.

    :param taken: names that other rules have.
    """
    names = set(taken)
    lines = [HEAD if operations else f"{HEAD.rstrip()} []\n"]
    for operation in sorted(operations, key=_literal_first):
        require, remark = _require(operation.security)
        lines.append(
            f"  - name: {_plain(_name(operation, names))}\n"
            f"    match: {{path: {_quoted(str(operation.pattern))}, methods: [{operation.method}]}}\n"
            f"    {require}{f'  # {remark}' if remark else ''}\n"
        )
    return "".join(lines)


def _literal_first(operation: Operation) -> tuple[Any, ...]:
    return [(segment is None, segment or "") for segment in operation.pattern.segments], operation.method


def _name(operation: Operation, names: set[str]) -> str:
    literals = [segment for segment in operation.pattern.segments if segment]
    text = _WORDS.sub("-", operation.operation_id) or "-".join([operation.method, *literals])
    base = _NOT_IN_NAMES.sub("-", text.lower()).strip("._-")[: LONGEST_NAME - 4].rstrip("._-") or "rule"
    name, number = base, 2
    while name in names:
        name, number = f"{base}-{number}", number + 1
    names.add(name)
    return name


def _require(security: Sequence[Any] | None) -> tuple[str, str]:
    """The requirement, and what there is to remark about it.

    OpenAPI 3.1 section 4.8.30: any one of the requirements suffices; all schemes and scopes in one must hold.
    """
    if security is None:
        return NOBODY, "who may?"
    alternatives = [_scopes(requirement) for requirement in security]
    found = [scopes for scopes in alternatives if scopes is not None]
    if not found or len(found) < len(alternatives):
        return NOBODY, "the description says that everyone may; if so: public: true"
    if not all(_is_text(scope) for scopes in found for scope in scopes):
        return NOBODY, "who may? the scopes of the description cannot be permissions here"
    return _of_scopes(found)


def _of_scopes(found: list[list[str]]) -> tuple[str, str]:
    if any(not scopes for scopes in found):
        return "require: {authenticated: true}", "the description asks for a token, and for nothing in it"
    if len(found) == 1:
        return f"require: {{all_permissions: [{', '.join(map(_quoted, found[0]))}]}}", ""
    if all(len(scopes) == 1 for scopes in found):
        return f"require: {{any_permission: [{', '.join(_quoted(scopes[0]) for scopes in found)}]}}", ""
    return NOBODY, "who may? the description has alternatives of several scopes each"


def _scopes(requirement: Any) -> list[Any] | None:
    """All scopes of a Security Requirement Object; None: the empty one, which lets everyone through."""
    if not isinstance(requirement, dict) or not requirement:
        return None
    return [scope for scopes in requirement.values() if isinstance(scopes, list) for scope in scopes]


def _is_text(scope: object) -> bool:
    if not isinstance(scope, str) or not scope.isprintable():
        return False
    return scope == scope.strip() and 0 < len(scope) <= MAX_TEXT_LENGTH


def _plain(name: str) -> str:
    """Without quotes, unless some reader of YAML would take it for something else than text."""
    return name if read_yaml(name)[0] == name else _quoted(name)


def _quoted(text: str) -> str:
    """JSON's strings are YAML's in double quotes."""
    return json.dumps(text, ensure_ascii=False)
