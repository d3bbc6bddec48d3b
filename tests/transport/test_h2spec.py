"""The native server against the public conformance test, where that is installed; what ``make h2spec`` says of it."""

import logging
import shutil
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tools import h2spec

TOOL = shutil.which(h2spec.TOOL)


@pytest.mark.skipif(TOOL is None, reason=h2spec.ABSENT)
@pytest.mark.parametrize("over_tls", [False, True], ids=["in the clear", "over TLS"])
async def test_no_case_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture, over_tls: bool) -> None:
    caplog.set_level(logging.ERROR)  # each case ends its connection by a fault of its own
    verdict, report = await h2spec.conform(TOOL or "", tls=Authority(tmp_path).server() if over_tls else None)
    assert verdict.startswith("passed"), report


def tool(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """What stands on PATH as ``h2spec``, and nothing else."""
    program = directory / h2spec.TOOL
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))


@pytest.mark.parametrize(("script", "code"), [
    pytest.param("echo '146 tests, 144 passed, 2 skipped, 0 failed'", 0, id="all passed"),
    pytest.param("echo '146 tests, 145 passed, 0 skipped, 1 failed'; exit 1", 1, id="one failed"),
    pytest.param("echo '146 tests, 145 passed, 0 skipped, 1 failed'", 1, id="one failed, and the exit code is lost"),
    pytest.param("echo '146 tests, 146 passed, 0 skipped, 0 failed'; exit 2", 1, id="died at the end"),
    pytest.param("echo '146 tests, 0 passed, 146 skipped, 0 failed'", 1, id="nothing was tried"),
    pytest.param("echo 'Error: connection refused'", 1, id="no summary"),
])  # fmt: skip
def test_only_cases_that_pass_are_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, code: int
) -> None:
    tool(tmp_path, monkeypatch, script)
    assert h2spec.main() == code


def test_the_report_of_what_failed_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool(tmp_path, monkeypatch, "echo '6.7. PING'; echo '2 tests, 1 passed, 0 skipped, 1 failed'; exit 1")
    h2spec.main()
    assert "6.7. PING" in capsys.readouterr().out


def test_without_the_tool_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert h2spec.main() == 0
    assert capsys.readouterr().out == h2spec.ABSENT + "\n"
