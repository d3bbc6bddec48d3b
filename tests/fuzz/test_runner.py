"""``tools/fuzz.py`` without the fuzzer: what it makes of what a target's process leaves behind."""

from pathlib import Path

import pytest

from tools import fuzz

STATISTICS = """
#7	INITED cov: 12 ft: 9
#4242	DONE   cov: 125 ft: 322 corp: 38/10Kb
stat::number_of_executed_units: 4242
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fuzz, "ROOT", tmp_path)
    return tmp_path


def ends(monkeypatch: pytest.MonkeyPatch, code: int, output: str, artifact: Path | None = None) -> None:
    def ran(_command: tuple[str, ...], _seconds: int) -> tuple[int, str]:
        if artifact:
            artifact.write_bytes(b"input")
        return code, output

    monkeypatch.setattr(fuzz, "_ran", ran)


def test_a_run_without_findings_is_a_success(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, 0, STATISTICS)
    assert fuzz.main(["token"]) == 0


def test_executions_and_coverage_are_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(monkeypatch, 0, STATISTICS)
    fuzz.main(["token"])
    assert capsys.readouterr().out.splitlines()[-1].split() == ["token", "4,242", "125", "0"]


def test_a_finding_is_a_failure_and_says_how_to_repeat_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ".fuzz/findings/token/crash-0"
    ends(monkeypatch, 77, STATISTICS, root / found)
    assert fuzz.main(["token"]) == 1
    assert f"-m tests.fuzz token {found}" in capsys.readouterr().out


def test_an_earlier_finding_is_not_found_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = root / ".fuzz/findings/token"
    findings.mkdir(parents=True)
    (findings / "crash-of-last-week").touch()
    ends(monkeypatch, 0, STATISTICS)
    assert fuzz.main(["token"]) == 0


def test_a_process_that_dies_is_a_failure_without_any_finding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, 1, "ModuleNotFoundError: No module named 'atheris'")
    assert fuzz.main(["token"]) == 1


def test_one_bad_target_does_not_stop_the_others(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(monkeypatch, 1, "")
    fuzz.main(["token", "path"])
    assert "\npath " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["tokens"], ["--seconds", "0"], ["--seconds", "ten"]])
def test_a_mistyped_call_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        fuzz.main(arguments)
