"""Standard output of the offline commands: one that fails is neither a verdict nor a defect."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import TextIOWrapper
from typing import Any, TextIO, cast

from authz_service.commands.common import EXIT_BAD_CONFIGURATION

LAST_STANDARD_DESCRIPTOR = 2


def hold_standard_descriptors() -> None:
    """Give 0, 1 and 2 to nobody, where whoever began this process has closed them.

    The next socket would have such a number, and be written to as if it were the log; libuv aborts when it is closed.
    """
    lowest = 0
    while lowest <= LAST_STANDARD_DESCRIPTOR:
        lowest = os.open(os.devnull, os.O_RDWR)
    os.close(lowest)


class OutputFailed(Exception):
    """Standard output takes nothing more. Says the system's reason; that nobody reads is a BrokenPipeError still."""


class _Output:
    """A stream whose failures are told apart from those of the files that a command opens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _as_output():
            return self._stream.write(text)

    def flush(self) -> None:
        with _as_output():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _as_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(error.strerror or str(error)) from None


@contextmanager
def checked_output() -> Iterator[None]:
    """What is printed within is written at its end.

    :raises OutputFailed: not all of it, or standard output is closed.
    :raises BrokenPipeError: nobody reads it any more.
    """
    if sys.stdout is None:
        raise OutputFailed("it is closed")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal cannot show is no reason to fail
    with redirect_stdout(cast("TextIO", _Output(sys.stdout))):
        try:
            yield
        finally:
            sys.stdout.flush()  # now, for an error at the exit of Python could not be caught


def discard_output() -> None:
    """What is left in the buffer goes nowhere, so that the exit of Python does not try again."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report_output(failed: OutputFailed) -> int:
    """Say on standard error what became of standard output; :returns: the exit code for it."""
    discard_output()
    print(f"authz-service: standard output cannot be written: {failed}", file=sys.stderr)
    return EXIT_BAD_CONFIGURATION
