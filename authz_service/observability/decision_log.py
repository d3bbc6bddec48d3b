"""The log of decisions: complete for what was denied or would be, a sample of what was allowed.

Nothing here holds up a decision. Lines are made and written by a thread of their own; when that cannot keep up, or the
disk is full or the pipe closed, they are dropped and counted.
"""

import errno
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue

from prometheus_client.core import CounterMetricFamily, Metric

from authz_service.errors import PERMITTED, ConfigurationError, Reason
from authz_service.model import Decision, HttpRequest
from authz_service.observability.decision_line import Decided, decided, write_line

STDOUT = "stdout"
MAX_WAITING_LINES = 10_000
CLOSE_SECONDS = 1.0
"""How long the end of the process waits for a log that nobody reads."""
MODE = 0o640
"""Of a file that is new: it tells who may do what, so it is not for everybody."""

log = logging.getLogger(__name__)


class LogFile:
    """Where lines go: the end of a file, or standard output.

    Each line is one ``write``: with several processes appending to one file, lines stay whole.

    :param target: a path, or ``stdout``.
    :raises ConfigurationError: it cannot be opened.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._torn = b""
        try:
            self._descriptor = self._open()
        except (OSError, ValueError) as error:  # ValueError: a null character
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError([
                f"AUTHZ_DECISION_LOG={target!r}: {reason}; name a file that can be written, or {STDOUT}"
            ]) from None

    def write(self, line: bytes) -> None:
        """:raises OSError: not written, or only the beginning of it; that is then ended before the next line."""
        written = os.write(self._descriptor, self._torn + line)
        whole = written == len(self._torn) + len(line)
        self._torn = b"" if whole else b"\n"
        if not whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def reopen(self) -> None:
        """Go on in the file that has the name now; :raises OSError: there is none to be had, the old one serves on."""
        if self._target == STDOUT:
            return
        descriptor = self._open()
        os.close(self._descriptor)
        self._descriptor, self._torn = descriptor, b""

    def _open(self) -> int:
        if self._target == STDOUT:
            if sys.stdout is None:  # it was closed before this process began, and its number may be anybody's
                raise OSError(errno.EBADF, "standard output is closed")
            return os.dup(sys.stdout.fileno())
        # O_NONBLOCK: a named pipe without a reader is an error here, not a wait.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._target, flags, MODE)
        os.set_blocking(descriptor, True)
        return descriptor


class DecisionLog:
    """Sees every decision (:class:`authz_service.transport.check_service.Witness`), tells some of them.

    :param sample: share of the allowed requests that are told, 0 to 1.
    :param plain_subject: tell ``sub`` as it is, not what stands for it.
    :param clock: Unix seconds.
    """

    def __init__(
        self, file: LogFile, sample: float, *, plain_subject: bool = False,
        clock: Callable[[], float] = time.time, chance: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._file = file
        self._sample = sample
        self._plain_subject = plain_subject
        self._clock = clock
        self._chance = chance
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        # Each is counted by one thread alone.
        self._written = 0
        self._unwritten = 0
        self._overrun = 0
        self._failing = ""
        threading.Thread(target=self._work, name="decision-log", daemon=True).start()

    def saw(self, request: HttpRequest, decision: Decision) -> None:
        """A request was decided."""
        if decision.reason in PERMITTED and self._chance() >= self._sample:
            return
        self._tell(decided(request, decision, self._clock()))

    def disagreed(self, request: HttpRequest, decision: Decision, other_reason: Reason) -> None:
        """A comparison came to another end than this decision; always told."""
        self._tell(decided(request, decision, self._clock(), other_reason))

    def reopen(self) -> None:
        """The file was renamed: go on in a new one, after the lines that wait."""
        self._tasks.put(self._reopen)

    def close(self) -> None:
        """Wait until everything is written, for a moment at most."""
        written = threading.Event()
        self._tasks.put(written.set)
        if not written.wait(CLOSE_SECONDS):
            log.warning(
                "the decision log was not written to its end, some %d lines are lost. Check who reads "
                "AUTHZ_DECISION_LOG.", self._tasks.qsize(),
            )  # fmt: skip

    def families(self) -> Iterator[Metric]:
        """For Prometheus."""
        yield CounterMetricFamily(
            "authz_decision_log_written", "Lines of the decision log that were written.", value=self._written
        )
        yield CounterMetricFamily(
            "authz_decision_log_dropped", "Lines of the decision log that were not.",
            value=self._overrun + self._unwritten,
        )  # fmt: skip

    def _tell(self, seen: Decided) -> None:
        if self._tasks.qsize() >= MAX_WAITING_LINES:
            self._overrun += 1
        else:
            self._tasks.put(partial(self._write, seen))

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            except Exception:
                log.exception("The decision log broke, and goes on. This is a defect: please report this line.")

    def _write(self, seen: Decided) -> None:
        try:
            self._file.write(write_line(seen, plain_subject=self._plain_subject))
        except OSError as error:  # full disk, closed pipe
            self._unwritten += 1
            self._fail(error.strerror or type(error).__name__)
        except Exception:
            self._unwritten += 1
            raise
        else:
            self._written += 1
            self._recover()

    def _reopen(self) -> None:
        try:
            self._file.reopen()
        except OSError as error:
            log.error(  # noqa: TRY400 - the reason is all that there is to know
                "the decision log cannot be opened again, the old file is written on: %s. Check AUTHZ_DECISION_LOG, "
                "then send SIGHUP again.", error.strerror,
            )  # fmt: skip
        else:
            log.info("decision log opened again")

    def _fail(self, why: str) -> None:
        """Logged when it begins and when it changes: one line for a full disk, not one for each decision."""
        if why != self._failing:
            log.error(
                "the decision log cannot be written: %s. Decisions go on, lines are dropped and counted. Make room, or "
                "check who reads AUTHZ_DECISION_LOG.", why,
            )  # fmt: skip
        self._failing = why

    def _recover(self) -> None:
        if self._failing:
            log.info("the decision log is written again")
        self._failing = ""


def open_decision_log(target: str | None, sample: float, subject: str) -> DecisionLog | None:
    """As configured; None: it is not wanted. :raises ConfigurationError: it cannot be written."""
    if target is None:
        return None
    return DecisionLog(LogFile(target), sample, plain_subject=subject == "plain")
