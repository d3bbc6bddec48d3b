"""``authz-service lint``."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from authz_service.commands.common import EXIT_FAILED, EXIT_OK, policy_path_of, print_json, read_text
from authz_service.errors import ConfigurationError
from authz_service.finding import Finding, Severity
from authz_service.policy.lint import lint_default, lint_rules
from authz_service.policy.loader import Policy
from authz_service.policy_file import PolicyFile

STDOUT = "-"

DESCRIPTION = """\
Look for what is valid and hardly meant: rules that never decide, public rules over protected ones, permissions that
nobody has; with --openapi, operations without a rule and rules without an operation; with --envoy, settings of Envoy
that would undo the lock. Only the policy file is needed, no other configuration.

Exit codes: 0 clean; 1 an error was found (with --strict: or a warning); 2 a file that cannot be used."""


def add_lint(commands: "argparse._SubParsersAction[Any]") -> None:
    """Announce the command."""
    lint = commands.add_parser(
        "lint", help="look for what is valid and hardly meant, in policy, OpenAPI description and Envoy configuration",
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    lint.add_argument("--policy", metavar="FILE", help="the policy file, in place of AUTHZ_POLICY_FILE")
    lint.add_argument("--permissions", metavar="FILE", help="all permissions that there are, one in a line; # comments")
    lint.add_argument("--openapi", metavar="FILE", help="the application's OpenAPI 3 description, in JSON or YAML")
    lint.add_argument(
        "--write", nargs="?", const=STDOUT, metavar="FILE", help="with --openapi: draft rules for operations that have "
        "none, to a new FILE or standard output; the policy stays as it is",
    )  # fmt: skip
    lint.add_argument("--envoy", metavar="FILE", help="Envoy's configuration, in YAML or JSON")
    lint.add_argument("--strict", action="store_true", help="warnings count as errors")
    lint.add_argument("--json", action="store_true", help="print the findings as JSON")
    lint.set_defaults(command=_lint)


def _lint(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if arguments.write and not arguments.openapi:
        raise ConfigurationError(["--write: needs --openapi, where the operations are"])
    if arguments.write == STDOUT and arguments.json:
        raise ConfigurationError(["--write: name a FILE, since --json has standard output"])
    path = arguments.policy or policy_path_of(environ)
    policy = PolicyFile(Path(path)).load()
    known = _permissions(arguments.permissions) if arguments.permissions else None
    rules = policy.routes.rules
    about_rules = [*lint_rules(rules, known), *lint_default(rules, policy.default_mode)]
    found = [(path, finding) for finding in about_rules]
    # What only one option needs is not loaded for the others.
    if arguments.openapi:
        found += [(arguments.openapi, finding) for finding in _lint_openapi(arguments, policy)]
    if arguments.envoy:
        found += [(arguments.envoy, finding) for finding in _lint_envoy(arguments.envoy)]
    _print(found, arguments)
    bad = found if arguments.strict else [finding for _, finding in found if finding.severity is Severity.ERROR]
    return EXIT_FAILED if bad else EXIT_OK


def _permissions(path: str) -> frozenset[str]:
    lines = (line.partition(" #")[0].strip() for line in read_text(path).splitlines())
    found = frozenset(line for line in lines if line and not line.startswith("#"))
    if not found:
        raise ConfigurationError([f"{path}: lists no permission; write one in each line"])
    return found


def _document(path: str) -> dict[str, Any]:
    from authz_service.lint.documents import read_document  # noqa: PLC0415

    return read_document(read_text(path))


def _lint_openapi(arguments: argparse.Namespace, policy: Policy) -> list[Finding]:
    from authz_service.lint.draft import draft  # noqa: PLC0415
    from authz_service.lint.openapi import lint_operations, missing, read_operations  # noqa: PLC0415

    rules = policy.routes.rules
    try:
        operations, unread = read_operations(_document(arguments.openapi))
    except ConfigurationError as error:
        raise _named(arguments.openapi, error) from None
    if arguments.write:
        _write(arguments.write, draft(missing(rules, operations), (rule.name for rule in rules)))
    return [*unread, *lint_operations(rules, operations)]


def _lint_envoy(path: str) -> list[Finding]:
    from authz_service.lint.envoy import lint_envoy  # noqa: PLC0415

    try:
        return lint_envoy(_document(path))
    except ConfigurationError as error:
        raise _named(path, error) from None


def _named(path: str, error: ConfigurationError) -> ConfigurationError:
    return ConfigurationError(
        problem if problem.startswith(f"{path}: ") else f"{path}: {problem}" for problem in error.problems
    )


def _write(path: str, text: str) -> None:
    """:raises ConfigurationError: above all if there is such a file: nothing is overwritten."""
    if path == STDOUT:
        print(text, end="")
        return
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigurationError([f"--write: {path} is there already; name a new file"]) from None
    except OSError as error:
        raise ConfigurationError([f"--write: {path}: {error.strerror}"]) from None


def _print(found: Iterable[tuple[str, Finding]], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print_json({"findings": [{"file": path, **finding._asdict()} for path, finding in found]})
        return
    # A draft has standard output to itself.
    out = sys.stderr if arguments.write == STDOUT else sys.stdout
    counts = dict.fromkeys(Severity, 0)
    for path, finding in found:
        counts[finding.severity] += 1
        print(f"{path}: {finding.place}: {finding.severity} {finding.code}: {finding.message}", file=out)
        print(f"    {finding.advice}", file=out)
    errors, warnings = counts[Severity.ERROR], counts[Severity.WARNING]
    summary = f"{_number(errors, 'error')}, {_number(warnings, 'warning')}."
    print(summary if errors or warnings else "Nothing was found.", file=out)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
