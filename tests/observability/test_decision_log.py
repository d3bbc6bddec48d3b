"""What is told of decisions, and that telling it never stands in their way."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from authz_service.errors import AccessRefused, ConfigurationError, Reason
from authz_service.model import Allow, HttpRequest, Mode
from authz_service.observability import decision_log
from authz_service.observability.decision_log import DecisionLog, LogFile, open_decision_log
from authz_service.response.challenge import deny

REQUEST = HttpRequest("GET", "/groups", "chat.example.com", ())
ALLOWED = Allow(Reason.ALLOWED, "groups", Mode.ENFORCE)
WOULD_DENY = Allow(Reason.PERMISSION_DENIED, "groups", Mode.SHADOW)
DENIED = deny(AccessRefused(Reason.PERMISSION_DENIED, "A sentence."), rule="groups")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, everything is written before a test looks."""
    monkeypatch.setattr(decision_log, "CLOSE_SECONDS", 20)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]


def counted(log: DecisionLog) -> tuple[float, float]:
    """Written and dropped."""
    written, dropped = (family.samples[0].value for family in log.families())
    return written, dropped


def test_of_what_is_allowed_a_sample_is_told_and_all_of_what_is_or_would_be_denied(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    chances = cycle([0.1, 0.25, 0.9, 0.5])
    log = DecisionLog(LogFile(str(path)), 0.25, chance=lambda: next(chances))
    for decision in (ALLOWED, DENIED, WOULD_DENY):
        for _ in range(8):
            log.saw(REQUEST, decision)
    log.close()
    told = [(line["decision"], line["reason"], line["mode"]) for line in lines(path)]
    assert told == (
        [("allow", "allowed", "enforce")] * 2 + [("deny", "permission_denied", "enforce")] * 8
        + [("allow", "permission_denied", "shadow")] * 8
    )  # fmt: skip
    assert counted(log) == (18, 0)


@pytest.mark.parametrize("reason", [Reason.ALLOWED, Reason.PUBLIC, Reason.CORS_PREFLIGHT])
def test_without_a_sample_nothing_that_is_permitted_is_told(tmp_path: Path, reason: Reason) -> None:
    log = DecisionLog(LogFile(str(tmp_path / "decisions.log")), 0, chance=lambda: 0.0)
    log.saw(REQUEST, Allow(reason, "groups", Mode.ENFORCE))
    log.close()
    assert counted(log) == (0, 0)


def test_each_disagreement_is_told_with_both_reasons(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    log = DecisionLog(LogFile(str(path)), 0)
    log.disagreed(REQUEST, ALLOWED, Reason.TOKEN_EXPIRED)
    log.close()
    (line,) = lines(path)
    assert (line["reason"], line["other_reason"]) == ("allowed", "token_expired")


def test_a_full_disk_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    log = DecisionLog(LogFile("/dev/full"), 1)
    for _ in range(5):
        log.saw(REQUEST, DENIED)
    log.close()
    assert counted(log) == (0, 5)
    assert caplog.text.count("the decision log cannot be written: No space left on device") == 1


@pytest.fixture
def pipe(tmp_path: Path) -> str:
    """A named pipe, with nobody at its ends."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    return path


@contextmanager
def reading(pipe: str) -> Iterator[int]:
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield reader
    finally:
        os.close(reader)


def test_a_closed_pipe_is_counted_and_a_new_reader_finds_lines_again(
    pipe: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with reading(pipe):
        log = DecisionLog(LogFile(pipe), 1)
    log.saw(REQUEST, DENIED)
    log.close()
    assert counted(log) == (0, 1)
    with reading(pipe) as reader:
        log.saw(REQUEST, DENIED)
        log.close()
        assert counted(log) == (1, 1)
        assert json.loads(os.read(reader, 65536))["reason"] == "permission_denied"
    assert "the decision log is written again" in caplog.text


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_every_line_is_accounted_for(
    pipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "MAX_WAITING_LINES", 100)
    with reading(pipe) as reader:
        log = DecisionLog(LogFile(pipe), 1)
        for _ in range(5_000):  # several times what a pipe holds
            log.saw(REQUEST, DENIED)
        read = b""
        while sum(counted(log)) < 5_000:
            with suppress(BlockingIOError):
                read += os.read(reader, 1 << 20)
        with suppress(BlockingIOError):
            read += os.read(reader, 1 << 20)
    written, dropped = counted(log)
    assert dropped > 0
    assert written + dropped == 5_000
    assert [json.loads(line)["reason"] for line in read.splitlines()] == ["permission_denied"] * int(written)


def test_renamed_and_opened_again_it_goes_on_in_a_new_file_and_no_line_is_lost(tmp_path: Path) -> None:
    path, rotated = tmp_path / "decisions.log", tmp_path / "decisions.log.1"
    log = DecisionLog(LogFile(str(path)), 1)
    log.saw(REQUEST, DENIED)
    log.close()
    path.rename(rotated)
    log.saw(REQUEST, DENIED)
    log.reopen()
    log.saw(REQUEST, DENIED)
    log.close()
    assert (len(lines(rotated)), len(lines(path))) == (2, 1)


def test_where_no_new_file_can_be_opened_the_old_one_serves_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log = DecisionLog(LogFile(str(directory / "decisions.log")), 1)
    directory.rename(tmp_path / "elsewhere")
    log.reopen()
    log.saw(REQUEST, DENIED)
    log.close()
    assert len(lines(tmp_path / "elsewhere" / "decisions.log")) == 1
    assert "the old file is written on: No such file or directory" in caplog.text


def test_several_logs_of_one_file_keep_their_lines_whole(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    logs = [DecisionLog(LogFile(str(path)), 1) for _ in range(4)]
    for _ in range(500):
        for log in logs:
            log.saw(REQUEST, DENIED)
    for log in logs:
        log.close()
    assert len(lines(path)) == 2_000


def test_a_defect_costs_a_line_and_not_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "decisions.log"
    log = DecisionLog(LogFile(str(path)), 1)
    with monkeypatch.context() as broken:
        broken.setattr(decision_log, "write_line", lambda *_, **__: 1 / 0)
        log.saw(REQUEST, DENIED)
        log.close()
    log.saw(REQUEST, DENIED)
    log.close()
    assert (len(lines(path)), counted(log)) == (1, (1, 1))
    assert "This is a defect" in caplog.text


def test_a_new_file_is_not_for_everybody_to_read(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    LogFile(str(path))
    assert path.stat().st_mode & 0o007 == 0


def test_it_goes_on_at_the_end_of_a_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "decisions.log"
    for _ in range(2):
        log = DecisionLog(LogFile(str(path)), 1)
        log.saw(REQUEST, DENIED)
        log.close()
    assert len(lines(path)) == 2


@pytest.mark.parametrize(("target", "why"), [
    ("missing/decisions.log", "No such file or directory"), (".", "Is a directory"), ("pipe", "No such device"),
    ("a\x00b", "null"),
])  # fmt: skip
def test_what_cannot_be_written_is_refused_at_the_start(tmp_path: Path, target: str, why: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # that nobody reads: to open it must not wait
    with pytest.raises(ConfigurationError, match=why) as refused:
        LogFile(str(tmp_path / target))
    assert str(refused.value).startswith("AUTHZ_DECISION_LOG=")
    assert str(refused.value).isprintable()


def test_unless_it_is_wanted_there_is_none() -> None:
    threads = threading.active_count()
    assert open_decision_log(None, 1, "hash") is None
    assert threading.active_count() == threads
