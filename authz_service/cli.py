"""The command line: ``authz-service serve | check-config | explain | lint | replay``."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NoReturn

from authz_service import __version__
from authz_service.commands.common import EXIT_INTERRUPTED, EXIT_NO_READER, EXIT_OK, load, print_json, report
from authz_service.commands.output import (
    OutputFailed,
    checked_output,
    discard_output,
    hold_standard_descriptors,
    report_output,
)
from authz_service.errors import ConfigurationError

DESCRIPTION = "External authorization for Envoy: verifies access tokens here, decides routes here, injects identity."


_JWT = re.compile(r"[\w-]{8,}(\.[\w-]*){2,}")


class _Parser(argparse.ArgumentParser):
    """Repeats what it does not understand, unless that looks like a token."""

    def error(self, message: str) -> NoReturn:
        super().error(_JWT.sub("(a token)", message))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; :returns: the exit code: 0 good, 1 failed, 2 unusable arguments, configuration or output."""
    hold_standard_descriptors()
    words = list(sys.argv[1:] if argv is None else argv)
    serves = words[:1] == ["serve"]
    try:
        with nullcontext() if serves else checked_output():
            arguments = _parser(serve_alone=serves).parse_args(words)
            return _run(arguments, os.environ)
    except OutputFailed as error:
        return report_output(error)
    except BrokenPipeError:  # whoever reads has had enough, as `| head` has
        discard_output()
        return EXIT_NO_READER
    except KeyboardInterrupt:
        return EXIT_OK if serves else EXIT_INTERRUPTED


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    command: Callable[[argparse.Namespace, Mapping[str, str]], int] = arguments.command
    try:
        return command(arguments, environ)
    except ConfigurationError as error:
        if getattr(arguments, "json", False):
            print_json({"problems": error.problems})
        return report(error.problems)


def _parser(*, serve_alone: bool) -> argparse.ArgumentParser:
    """:param serve_alone: without the other commands: what they load would stay in the service's memory."""
    parser = _Parser(prog="authz-service", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="answer Envoy's Check calls until SIGTERM", description=(
        "Answer Envoy's Check calls. Configured by environment variables; see check-config --help. "
        "SIGTERM drains and ends, SIGHUP refreshes keys and policy now and opens the decision log again."
    ))  # fmt: skip
    serve.add_argument(
        "--reflection", action="store_true",
        help="offer gRPC server reflection (for demonstrations; only with AUTHZ_TRANSPORT=grpcio)",
    )  # fmt: skip
    serve.add_argument(
        "--workers", type=int, default=1, metavar="N",
        help="decide in N processes, each at an endpoint of its own for Envoy's cluster: AUTHZ_LISTEN lists N "
        "addresses, or one to count up from (127.0.0.1:9191, :9192, ...; unix:///run/authz.sock becomes "
        "/run/authz-0.sock, ...)",
    )  # fmt: skip
    serve.set_defaults(command=_serve)

    if not serve_alone:
        _add_offline_commands(commands)
    return parser


def _add_offline_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    from authz_service.commands.check_config import add_check_config  # noqa: PLC0415 - see _parser
    from authz_service.commands.explain import add_explain  # noqa: PLC0415
    from authz_service.commands.lint import add_lint  # noqa: PLC0415
    from authz_service.commands.replay import add_replay  # noqa: PLC0415

    for add in (add_check_config, add_explain, add_lint, add_replay):
        add(commands)


def _serve(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    config, policy_file, policy = load(environ)
    # What only one of the commands needs is not loaded for the others.
    if arguments.workers == 1:
        from authz_service.server import run  # noqa: PLC0415

        run(config, policy_file, policy, reflection=arguments.reflection)
    else:
        from authz_service.workers.endpoints import endpoints  # noqa: PLC0415
        from authz_service.workers.supervisor import supervise  # noqa: PLC0415

        addresses = endpoints(config.listen, config.admin_listen, arguments.workers)
        supervise(config, policy_file, policy, addresses, reflection=arguments.reflection)
    return EXIT_OK
