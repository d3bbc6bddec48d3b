"""``authz-service check-config``."""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from authz_service.commands.common import (
    EXIT_BAD_CONFIGURATION,
    EXIT_FAILED,
    EXIT_OK,
    load,
    print_json,
    read_text,
)
from authz_service.config import Config
from authz_service.errors import ConfigurationError
from authz_service.limits import limits
from authz_service.policy.loader import Policy, policy_json_schema

if TYPE_CHECKING:
    from authz_service.policy_cases.decide import Failure
    from authz_service.policy_cases.document import Cases


def add_check_config(commands: "argparse._SubParsersAction[Any]") -> None:
    """Announce the command."""
    check = commands.add_parser(
        "check-config", help="check the environment and the policy file, then exit",
        formatter_class=argparse.RawDescriptionHelpFormatter, description=(
            "Check the environment and the policy file as serve would. Every mistake is listed.\n\n"
            "With --cases, decide each case of a file by the policy and list those that come out otherwise. No keys\n"
            "are needed: a case says what its token claims, and what a good token must claim besides (iss, aud, sub,\n"
            "exp) is filled in.\n\n"
            "Exit codes: 0 good; 1 a case came out otherwise; 2 a mistake in the environment, the policy or the cases."
            "\n\nEnvironment variables:\n" + _variables()
        ),
    )  # fmt: skip
    check.add_argument("--policy", metavar="FILE", help="the policy file, in place of AUTHZ_POLICY_FILE")
    check.add_argument("--cases", metavar="FILE", help="also decide the cases of this file")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    check.add_argument("--print-schema", action="store_true", help="print the JSON Schema of the policy file and exit")
    check.set_defaults(command=_check_config)


def _variables() -> str:
    return "\n".join(f"  {field.alias}\n      {field.description}" for field in Config.model_fields.values())


def _check_config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if arguments.print_schema:
        print_json(policy_json_schema())
        return EXIT_OK
    try:
        config, policy, cases = _load(arguments, environ)
    except ConfigurationError as error:
        if not arguments.json:
            raise
        print_json({"valid": False, "problems": error.problems})
        return EXIT_BAD_CONFIGURATION
    answer: dict[str, Any] = {"valid": True, "policy_digest": policy.digest}
    failed = _decide(config, policy, cases) if cases else []
    if arguments.json:
        decided = {"decided": len(cases.cases), "failed": [case._asdict() for case in failed]} if cases else None
        print_json(answer | ({"cases": decided} if decided else {}))
    else:
        path = arguments.policy or config.policy_file
        print(f"The environment and {path} are good (policy digest {policy.digest}).")
        if cases:
            _print_cases(arguments.cases, len(cases.cases), failed)
    return EXIT_FAILED if failed else EXIT_OK


def _load(arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Config, Policy, "Cases | None"]:
    """All that was asked for; :raises ConfigurationError: with the mistakes of all of it."""
    problems: list[str] = []
    cases = None
    try:
        cases = _cases(arguments.cases) if arguments.cases else None
    except ConfigurationError as error:
        problems += error.problems
    try:
        config, _, policy = load(environ, arguments.policy)
    except ConfigurationError as error:
        raise ConfigurationError([*error.problems, *problems]) from None
    if problems:
        raise ConfigurationError(problems)
    return config, policy, cases


def _cases(path: str) -> "Cases":
    from authz_service.policy_cases.document import parse_cases  # noqa: PLC0415 - only needed with --cases

    try:
        return parse_cases(read_text(path))
    except ConfigurationError as error:
        named = (problem if problem.startswith(f"{path}: ") else f"{path}: {problem}" for problem in error.problems)
        raise ConfigurationError(named) from None


def _decide(config: Config, policy: Policy, cases: "Cases") -> "list[Failure]":
    # The encoder of answers comes with protobuf, which a mere check does not need.
    from authz_service.issuers import trusted_issuers  # noqa: PLC0415
    from authz_service.policy_cases.decide import failures  # noqa: PLC0415

    return failures(cases, policy, trusted_issuers(config, policy), limits(config), time.time())


def _print_cases(path: str, decided: int, failed: "Sequence[Failure]") -> None:
    for case in failed:
        print(f"\nFAILED {path}:{case.line}: {case.name}")
        print(f"  asked     {case.request}")
        print(f"  expected  {case.expected}")
        print(f"  got       {case.got}")
        if case.why:
            print(f"  because   {case.why}")
    good = f"{decided} cases" if decided != 1 else "1 case"
    print(f"\n{len(failed)} of {good} came out otherwise." if failed else f"{good} came out as expected.")
