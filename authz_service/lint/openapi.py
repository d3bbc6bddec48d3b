"""A policy beside the OpenAPI description of the application: operations that have no rule, and the reverse."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from authz_service.errors import ConfigurationError
from authz_service.finding import Finding, Severity
from authz_service.lint.documents import get, items
from authz_service.policy.lint import methods_of, place
from authz_service.policy.overlap import PatternIndex, covers
from authz_service.policy.path import PCHAR
from authz_service.policy.routes import Rule
from authz_service.policy.template import PathPattern, parse_path

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "query")
"""Fixed fields of a Path Item Object that are operations; TRACE no rule lets through."""
MAX_REFERENCES = 8

_TEMPLATE = re.compile(r"\{[^{}/]*\}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")


class Operation(NamedTuple):
    """One method of one path."""

    method: str
    path: str
    """As the description writes it, behind the path of its server."""
    pattern: PathPattern
    operation_id: str = ""
    security: Sequence[Any] | None = None
    """Security Requirement Objects; None: nothing is said."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def read_operations(description: dict[str, Any]) -> tuple[list[Operation], list[Finding]]:
    """All operations, and what could not be read; :raises ConfigurationError: this is no OpenAPI 3 description."""
    version = description.get("openapi")
    if not isinstance(version, str) or not version.startswith("3."):
        is_old = "; Swagger 2.0 must be converted first" if "swagger" in description else ""
        raise ConfigurationError([f"must be an OpenAPI 3 description, with openapi: 3.x at the top{is_old}"])
    paths = description.get("paths", {})
    if not isinstance(paths, dict):
        raise ConfigurationError(["paths: must be a mapping"])
    operations, findings = [], []
    for path, given in paths.items():
        item = _resolved(description, given)
        if item is None:
            findings.append(_unread(path, "its $ref leads to another document, or nowhere", "write it out here"))
            continue
        for method in METHODS:
            if isinstance(operation := item.get(method), dict):
                try:
                    operations.append(_operation(description, item, str(path), method, operation))
                except ValueError as error:
                    findings.append(_unread(f"{method.upper()} {path}", str(error), "requests for it are refused"))
    return operations, findings


def lint_operations(rules: Sequence[Rule], operations: Sequence[Operation]) -> list[Finding]:
    """Operations that no rule covers, and rules that no operation touches."""
    findings = [
        Finding(
            "operation_without_rule", Severity.ERROR, str(operation), _uncovered(rules, operation),
            "add a rule; --write drafts it",
        )
        for operation in missing(rules, operations)
    ]  # fmt: skip
    index = PatternIndex()
    for number, operation in enumerate(operations):
        index.add(number, operation.pattern)
    for number, rule in enumerate(rules):
        touched = (operations[found] for found in index.overlapping(rule.pattern))
        if not any(operation.method in methods_of(rule) for operation in touched):
            findings.append(Finding(
                "rule_without_operation", Severity.WARNING, place(number, rule),
                "there is no operation in the description that it could be about",
                "remove the rule, correct its path or methods, or describe the operation",
            ))  # fmt: skip
    return findings


def missing(rules: Sequence[Rule], operations: Sequence[Operation]) -> list[Operation]:
    """Operations of which not each request has a rule."""
    index = PatternIndex()
    for number, rule in enumerate(rules):
        index.add(number, rule.pattern)

    def has_rule(operation: Operation) -> bool:
        found = (rules[number] for number in index.overlapping(operation.pattern))
        return any(operation.method in methods_of(rule) and covers(rule.pattern, operation.pattern) for rule in found)

    return [operation for operation in operations if not has_rule(operation)]


def _uncovered(rules: Sequence[Rule], operation: Operation) -> str:
    index = PatternIndex()
    index.add(0, operation.pattern)
    some = [rule.name for rule in rules if operation.method in methods_of(rule) and index.overlapping(rule.pattern)]
    part = f"; {', '.join(some)} covers some of its paths only" if some else ""
    return f"no rule covers it, so that it is denied{part}"


def _unread(where: str, why: str, advice: str) -> Finding:
    return Finding("operation_unreadable", Severity.WARNING, str(where), why, advice)


def _resolved(description: Mapping[str, Any], item: Any) -> dict[str, Any] | None:
    """A Path Item Object, behind references within the document (RFC 6901)."""
    for _ in range(MAX_REFERENCES):
        reference = get(item, "$ref")
        if reference is None:
            return item if isinstance(item, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        keys = (unquote(key).replace("~1", "/").replace("~0", "~") for key in reference[2:].split("/"))
        item = get(description, *keys)
    return None


def _operation(
    description: Mapping[str, Any], item: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]
) -> Operation:
    """:raises ValueError: no rule could be about it."""
    servers = items(operation, "servers") or items(item, "servers") or items(description, "servers")
    base = _base_path(servers[0]) if servers else ""
    security = operation.get("security", description.get("security"))
    operation_id = operation.get("operationId")
    return Operation(
        method.upper(), base + path, _pattern(base + path), operation_id if isinstance(operation_id, str) else "",
        security if isinstance(security, list) else None,
    )  # fmt: skip


def _base_path(server: Any) -> str:
    """The path of a Server Object's URL, with its variables at their defaults."""
    url = get(server, "url")
    if not isinstance(url, str):
        return ""
    for name in set(_TEMPLATE.findall(url)):
        url = url.replace(name, str(get(server, "variables", name[1:-1], "default") or ""))
    return urlsplit(url).path.rstrip("/")


def _pattern(path: str) -> PathPattern:
    """As the policy would write it: a segment with a parameter in it is a parameter as a whole."""
    if not path.startswith("/"):
        raise ValueError("its path does not begin with /")
    segments, names = [], list[str]()
    for segment in path[1:].split("/"):
        found = _TEMPLATE.findall(segment)
        segments.append(f"{{{_parameter(found[0], names)}}}" if found else quote(unquote(segment), safe=PCHAR))
    return parse_path("/" + "/".join(segments))


def _parameter(template: str, names: list[str]) -> str:
    """A name that the policy allows, once per path."""
    name = _NOT_IN_NAMES.sub("_", template[1:-1]) or "parameter"
    name = f"_{name}" if name[0].isdigit() else name
    while name in names:
        name += "_"
    names.append(name)
    return name
