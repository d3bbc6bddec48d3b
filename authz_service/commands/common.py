"""What the commands share: exit codes, and files as people name them."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from authz_service.config import Config, load_config
from authz_service.errors import ConfigurationError
from authz_service.policy.loader import Policy
from authz_service.policy_file import PolicyFile

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_CONFIGURATION = 2
EXIT_INTERRUPTED = 130
"""As shells say it: 128 + SIGINT. Who did not come to an end has found nothing good."""
EXIT_NO_READER = 141
"""128 + SIGPIPE."""

MAX_FILE_BYTES = 16 << 20


def load(environ: Mapping[str, str], policy_path: str | None = None) -> tuple[Config, PolicyFile, Policy]:
    """Environment and policy; :raises ConfigurationError: with the mistakes of both."""
    problems: list[str] = []
    config: Config | None = None
    try:
        config = load_config(environ)
    except ConfigurationError as error:
        problems += error.problems
    # The policy is looked at even when the environment is bad, so that one run shows everything.
    policy_file = PolicyFile(Path(policy_path or (config.policy_file if config else policy_path_of(environ))))
    try:
        policy = policy_file.load()
    except ConfigurationError as error:
        problems += error.problems
    if problems or config is None:
        raise ConfigurationError(problems)
    return config, policy_file, policy


def policy_path_of(environ: Mapping[str, str]) -> str:
    """Where the environment says that the policy is, whatever else is wrong with it."""
    return environ.get("AUTHZ_POLICY_FILE") or str(Config.model_fields["policy_file"].default)


def read_bytes(path: str) -> bytes:
    """The content of a file; :raises ConfigurationError: when it cannot be read, or is too large to be meant."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise ConfigurationError([f"{path}: {getattr(error, 'strerror', None) or error}"]) from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError([f"{path}: must be at most {MAX_FILE_BYTES} bytes long"])
    return content


def standard_input() -> BinaryIO:
    """:raises ConfigurationError: it was closed before this process began."""
    if sys.stdin is None:
        raise ConfigurationError(["standard input: is closed; there is nothing to read for -"])
    return sys.stdin.buffer


def read_text(path: str) -> str:
    """The same as text; :raises ConfigurationError: likewise, or when it is not UTF-8."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError([f"{path}: not UTF-8 text"]) from None


def print_json(value: object) -> None:
    """For scripts."""
    print(json.dumps(value, indent=2))


def report(problems: Sequence[str]) -> int:
    """Say on standard error what is unusable; :returns: the exit code for it."""
    count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    print(f"authz-service: {count} in the configuration:", file=sys.stderr)
    for problem in problems:
        print(f"  - {problem}", file=sys.stderr)
    return EXIT_BAD_CONFIGURATION
