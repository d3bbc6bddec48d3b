"""Log lines as JSON or text. Whatever a line carries, it stays one line of printable characters."""

import json
import logging
import sys
import time
from traceback import format_tb
from typing import Literal


def configure_logging(level: str, format_name: Literal["json", "text"]) -> None:
    """Send this service's log to standard error, one line per record."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format_name == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # The level is ours alone: what libraries tell at "debug" may hold what clients sent.
    root.setLevel(logging.WARNING)
    logging.getLogger("authz_service").setLevel(level.upper())
    # A log that cannot be written (closed pipe, full disk) must not disturb decisions.
    logging.raiseExceptions = False


class JsonFormatter(logging.Formatter):
    """One JSON object a line; JSON's own escapes keep control characters out."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line = {
            "time": _utc(record.created),
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
        text = f"{_utc(record.created)} {record.levelname:7} {record.name}: {record.getMessage()}"
        if record.exc_info:
            text += " | " + _without_message(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _without_message(record: logging.LogRecord) -> str:
    """Where and what, without the exception's text: that may repeat a token."""
    kind, _, trace = record.exc_info or (None, None, None)
    return "".join(format_tb(trace)) + (kind.__name__ if kind else "")


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"
