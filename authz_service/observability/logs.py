"""Log lines as JSON or text. Whatever a line carries, it stays one line of printable characters."""

import atexit
import json
import logging
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from queue import SimpleQueue
from traceback import format_tb
from typing import Literal, TextIO

MAX_WAITING_LINES = 10_000
FLUSH_SECONDS = 0.5
"""How long the end of the process waits for a log that nobody reads."""


def configure_logging(level: str, format_name: Literal["json", "text"]) -> None:
    """Send this service's log to standard error, one line per record."""
    handler = DetachedHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format_name == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # The level is ours alone: what libraries tell at "debug" may hold what clients sent.
    root.setLevel(logging.WARNING)
    logging.getLogger("authz_service").setLevel(level.upper())
    # A log that cannot be written (closed pipe, full disk) must not disturb decisions.
    logging.raiseExceptions = False


class DetachedHandler(logging.Handler):
    """Lines are written by a thread of their own: a pipe that nobody reads holds up that thread and nothing else.

    While it is held up, ``MAX_WAITING_LINES`` are kept and later ones are dropped; how many is said with the next line.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over one line, or count it as dropped."""
        if self._lines.qsize() >= MAX_WAITING_LINES:
            self._dropped += 1
            return
        if self._dropped:
            note = f"{self._dropped} log lines were dropped: standard error was not read in time; check who reads it"
            self._dropped = 0
            self._lines.put(self.format(logging.makeLogRecord({"name": __name__, "levelname": "WARNING", "msg": note})))
        self._lines.put(self.format(record))

    def flush(self) -> None:
        """Wait until everything is written, for a moment at most."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(FLUSH_SECONDS)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            with suppress(OSError, ValueError):  # full disk, closed pipe, closed stream
                self._stream.write(line + "\n")
                self._stream.flush()


class JsonFormatter(logging.Formatter):
    """One JSON object a line; JSON's own escapes keep control characters out."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line = {
            "time": utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = _without_message(record)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """For a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record, control characters escaped."""
        text = f"{utc(record.created)} {record.levelname:7} {record.name}: {record.getMessage()}"
        if record.exc_info:
            text += " | " + _without_message(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _without_message(record: logging.LogRecord) -> str:
    """Where and what, without the exception's text: that may repeat a token."""
    kind, _, trace = record.exc_info or (None, None, None)
    return "".join(format_tb(trace)) + (kind.__name__ if kind else "")


def utc(seconds: float) -> str:
    """Unix seconds as all logs tell them: ``2025-06-15T15:06:40.000Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
