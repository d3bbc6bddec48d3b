"""A log line is one line, whatever it carries, and never an exception's own words."""

import json
import logging
import threading
from collections.abc import Iterator
from errno import ENOSPC
from io import StringIO

import pytest

from authz_service.observability.logs import JsonFormatter, TextFormatter, configure_logging

SECRET = "eyJhbGciOiJSUzI1NiJ9.secret"


@pytest.fixture
def loggers() -> Iterator[None]:
    """What configure_logging changes, put back."""
    root, ours = logging.getLogger(), logging.getLogger("authz_service")
    before = root.handlers[:], root.level, ours.level, logging.raiseExceptions
    yield
    root.handlers[:], root.level, ours.level, logging.raiseExceptions = before


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("authz_service.room", logging.WARNING, __file__, 1, message, args, None)


def failed() -> logging.LogRecord:
    try:
        raise KeyError(SECRET)  # noqa: TRY301 - a traceback is what is wanted
    except KeyError as error:
        info = (type(error), error, error.__traceback__)
        return logging.LogRecord("authz_service.room", logging.ERROR, __file__, 1, "broke", (), info)


def test_json_lines_hold_time_level_logger_and_message() -> None:
    line = json.loads(JsonFormatter().format(record("%d keys", 2)))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "authz_service.room", "2 keys")
    assert line["time"].endswith("Z")


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
@pytest.mark.parametrize("hostile", ["a\nb", "a\r\nb", "\x1b[31m", "\x00", "\u2028", "\x85", "\ud800"])
def test_a_line_stays_one_printable_line(formatter: logging.Formatter, hostile: str) -> None:
    line = formatter.format(record("kid %s", hostile))
    assert line.isprintable()
    assert line.encode()


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_is_told_by_place_and_type_and_never_by_its_text(formatter: logging.Formatter) -> None:
    line = formatter.format(failed())
    assert "KeyError" in line
    assert "in failed" in line
    assert SECRET not in line
    assert line.isprintable()


@pytest.mark.usefixtures("loggers")
def test_the_level_is_ours_alone(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")
    logging.getLogger("authz_service.room").debug("ours")
    logging.getLogger("library").debug("%s", SECRET)
    logging.getLogger("library").warning("theirs")
    logging.getLogger().handlers[0].flush()
    lines = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["ours", "theirs"]


class Full(StringIO):
    """A disk without space."""

    def write(self, _text: str) -> int:
        raise OSError(ENOSPC, "No space left on device")


@pytest.mark.usefixtures("loggers")
def test_a_log_that_cannot_be_written_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Full())
    configure_logging("info", "text")
    for _ in range(3):
        logging.getLogger("authz_service.room").warning("nobody reads this")
        logging.getLogger().handlers[0].flush()


class Stuck(StringIO):
    """A pipe that nobody reads, until somebody does."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = threading.Event()

    def write(self, text: str) -> int:
        self.reader.wait()
        return super().write(text)


@pytest.mark.usefixtures("loggers")
def test_a_pipe_that_nobody_reads_holds_up_nobody_and_what_was_dropped_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("authz_service.observability.logs.MAX_WAITING_LINES", 10)
    monkeypatch.setattr("authz_service.observability.logs.FLUSH_SECONDS", 20)
    stuck = Stuck()
    monkeypatch.setattr("sys.stderr", stuck)
    configure_logging("info", "text")
    room, (handler,) = logging.getLogger("authz_service.room"), logging.getLogger().handlers
    for number in range(100):
        room.warning("line %d", number)
    stuck.reader.set()
    handler.flush()
    room.warning("the last line")
    handler.flush()
    lines = stuck.getvalue().splitlines()
    written = sum("line " in line and "room" in line for line in lines)
    assert 10 <= written <= 11
    assert f"{100 - written} log lines were dropped" in lines[-2]
    assert "the last line" in lines[-1]
