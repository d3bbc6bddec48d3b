"""The command line: ``authz-service serve | check-config``."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from authz_service import __version__
from authz_service.config import Config, load_config
from authz_service.errors import ConfigurationError
from authz_service.policy.loader import Policy, policy_json_schema
from authz_service.policy_file import PolicyFile

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_CONFIGURATION = 2

DESCRIPTION = "External authorization for Envoy: verifies access tokens here, decides routes here, injects identity."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; :returns: the exit code: 0 good, 1 failed, 2 unusable configuration or arguments."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace, Mapping[str, str]], int] = arguments.command
    try:
        return command(arguments, os.environ)
    except ConfigurationError as error:
        return _report(error.problems)
    except KeyboardInterrupt:
        return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="authz-service", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="answer Envoy's Check calls until SIGTERM", description=(
        "Answer Envoy's Check calls. Configured by environment variables; see check-config --help. "
        "SIGTERM drains and ends, SIGHUP refreshes keys and policy now."
    ))  # fmt: skip
    serve.add_argument("--reflection", action="store_true", help="offer gRPC server reflection (for demonstrations)")
    serve.add_argument(
        "--workers", type=int, default=1, metavar="N",
        help="decide in N processes, each at an endpoint of its own for Envoy's cluster: AUTHZ_LISTEN lists N "
        "addresses, or one to count up from (127.0.0.1:9191, :9192, ...; unix:///run/authz.sock becomes "
        "/run/authz-0.sock, ...)",
    )  # fmt: skip
    serve.set_defaults(command=_serve)

    check = commands.add_parser(
        "check-config", help="check the environment and the policy file, then exit",
        formatter_class=argparse.RawDescriptionHelpFormatter, description=(
            "Check the environment and the policy file as serve would. Every mistake is listed; exit code 2 if there\n"
            "is one.\n\nEnvironment variables:\n" + _variables()
        ),
    )  # fmt: skip
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    check.add_argument("--print-schema", action="store_true", help="print the JSON Schema of the policy file and exit")
    check.set_defaults(command=_check_config)
    return parser


def _variables() -> str:
    return "\n".join(f"  {field.alias}\n      {field.description}" for field in Config.model_fields.values())


def _serve(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    config, policy_file, policy = _load(environ)
    # What only one of the commands needs is not loaded for the others.
    if arguments.workers == 1:
        from authz_service.server import run  # noqa: PLC0415

        run(config, policy_file, policy, reflection=arguments.reflection)
    else:
        from authz_service.workers.endpoints import endpoints  # noqa: PLC0415
        from authz_service.workers.supervisor import supervise  # noqa: PLC0415

        addresses = endpoints(config.listen, arguments.workers)
        supervise(config, policy_file, policy, addresses, reflection=arguments.reflection)
    return EXIT_OK


def _check_config(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if arguments.print_schema:
        print(json.dumps(policy_json_schema(), indent=2))
        return EXIT_OK
    try:
        config, _, policy = _load(environ)
    except ConfigurationError as error:
        if not arguments.json:
            raise
        print(json.dumps({"valid": False, "problems": error.problems}, indent=2))
        return EXIT_BAD_CONFIGURATION
    if arguments.json:
        print(json.dumps({"valid": True, "policy_digest": policy.digest}, indent=2))
    else:
        print(f"The environment and {config.policy_file} are good (policy digest {policy.digest}).")
    return EXIT_OK


def _load(environ: Mapping[str, str]) -> tuple[Config, PolicyFile, Policy]:
    """Environment and policy; :raises ConfigurationError: with the mistakes of both."""
    problems: list[str] = []
    config: Config | None = None
    try:
        config = load_config(environ)
    except ConfigurationError as error:
        problems += error.problems
    # The policy is looked at even when the environment is bad, so that one run shows everything.
    default = Config.model_fields["policy_file"].default
    policy_file = PolicyFile(config.policy_file if config else Path(environ.get("AUTHZ_POLICY_FILE") or default))
    try:
        policy = policy_file.load()
    except ConfigurationError as error:
        problems += error.problems
    if problems or config is None:
        raise ConfigurationError(problems)
    return config, policy_file, policy


def _report(problems: Sequence[str]) -> int:
    count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    print(f"authz-service: {count} in the configuration:", file=sys.stderr)
    for problem in problems:
        print(f"  - {problem}", file=sys.stderr)
    return EXIT_BAD_CONFIGURATION
