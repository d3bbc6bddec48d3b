"""``check-config`` and ``serve`` refuse bad input whole, in words, with exit code 2."""

import json
import os
import subprocess
import sys
from errno import ENOSPC
from pathlib import Path

import pytest

from authz_service import __version__
from authz_service.cli import main
from authz_service.commands import check_config
from tests.integration.test_replay import ALLOWED

GOOD_POLICY = "version: 1\nrules:\n  - {name: all, match: {prefix: /}, require: {authenticated: true}}\n"
BAD_POLICY = """
version: 1
rules:
  - {name: one, match: {path: no-slash}, require: {authenticated: true}}
  - {name: two, match: {path: /two}, require: {permision: "x"}}
"""
THREE_MISTAKES = {"JWT_LEEWAY_SECONDS": "soon", "AUTHZ_LISTEN": "nowhere", "JWKS_REFRESH_SECONDS": "60"}


def run(*arguments: str, policy: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"]} | environ | ({"AUTHZ_POLICY_FILE": str(policy)} if policy else {})
    command = [sys.executable, "-m", "authz_service", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def bad_policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(BAD_POLICY, encoding="utf-8")
    return path


@pytest.fixture
def good_policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(GOOD_POLICY, encoding="utf-8")
    return path


@pytest.mark.parametrize("command", ["check-config", "serve"])
def test_three_mistakes_in_the_environment_and_two_in_the_policy_are_five_lines(command: str, bad_policy: Path) -> None:
    result = run(command, policy=bad_policy, **THREE_MISTAKES)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    first, *lines = result.stderr.splitlines()
    assert first == "authz-service: 5 mistakes in the configuration:"
    assert len(lines) == 5
    for name in (*THREE_MISTAKES, "rules[0] (one).match.path", "rules[1] (two).require.permision"):
        assert sum(name in line for line in lines) == 1, result.stderr


def test_the_same_as_json_for_scripts(bad_policy: Path) -> None:
    result = run("check-config", "--json", policy=bad_policy, **THREE_MISTAKES)
    assert result.returncode == 2
    answer = json.loads(result.stdout)
    assert answer["valid"] is False
    assert len(answer["problems"]) == 5


@pytest.mark.parametrize("command", ["explain GET /groups", "lint", "replay {decision_log}"])
def test_whoever_reads_json_reads_the_mistakes(command: str, bad_policy: Path, decision_log: Path) -> None:
    words = command.format(decision_log=decision_log).split()
    result = run(*words, "--json", "--policy", str(bad_policy))
    assert result.returncode == 2
    assert len(json.loads(result.stdout)["problems"]) == 2
    assert "2 mistakes" in result.stderr


def test_what_is_good_is_said_to_be_good(good_policy: Path) -> None:
    result = run("check-config", policy=good_policy)
    assert (result.returncode, result.stderr) == (0, "")
    assert str(good_policy) in result.stdout


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    result = run("check-config", policy=tmp_path / "missing.yaml")
    assert result.returncode == 2
    assert "missing.yaml: No such file or directory" in result.stderr


def test_the_schema_of_the_policy_file_is_printed() -> None:
    schema = json.loads(run("check-config", "--print-schema").stdout)
    assert schema["title"] == "authz-service policy"
    assert schema["properties"].keys() >= {"version", "hosts", "defaults", "rules"}


def test_a_reader_that_has_had_enough_is_no_reason_to_complain() -> None:
    command = f"{sys.executable} -m authz_service check-config --print-schema"
    done = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.fixture
def decision_log(tmp_path: Path) -> Path:
    path = tmp_path / "decisions.log"
    path.write_bytes(ALLOWED)
    return path


@pytest.mark.parametrize(("redirected", "why"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
@pytest.mark.parametrize("command", [
    "check-config", "check-config --print-schema", "explain GET /groups", "explain GET /groups --json", "lint",
    "replay {decision_log}",
])  # fmt: skip
def test_an_output_that_cannot_be_written_is_no_verdict(
    command: str, redirected: str, why: str, good_policy: Path, decision_log: Path
) -> None:
    words = command.format(decision_log=decision_log)
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m authz_service {words} --policy {good_policy} {redirected}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, f"authz-service: standard output cannot be written: {why}\n")


@pytest.mark.parametrize("asked", ["--help", "--version", "explain --help"])
def test_nor_is_one_that_takes_no_help(asked: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m authz_service {asked} >/dev/full"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = "authz-service: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_help_can_be_read_in_any_encoding() -> None:
    done = run("check-config", "--help", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["replay -", "explain GET /groups --token -"])
def test_an_input_that_is_closed_is_said_to_be(command: str, good_policy: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m authz_service {command} --policy {good_policy} <&-"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "standard input: is closed" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_failure_of_the_system_is_not_taken_for_one_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise OSError(ENOSPC, "not about the output")

    monkeypatch.setattr(check_config, "print_json", broken)
    with pytest.raises(OSError, match="not about the output"):
        main(["check-config", "--print-schema"])


@pytest.mark.parametrize(("transport", "said"), [
    ("native", ": No such file or directory"), ("grpcio", "; the gRPC library says why in a line above"),
])  # fmt: skip
def test_an_address_that_cannot_be_had_is_said_in_words(transport: str, said: str, good_policy: Path) -> None:
    settings = {"AUTHZ_LISTEN": "unix:///nonexistent/authz.sock", "AUTHZ_TRANSPORT": transport}
    result = run("serve", policy=good_policy, **settings)
    assert result.returncode == 2
    above, problem, _ = result.stderr.partition(f"AUTHZ_LISTEN: cannot listen on unix:///nonexistent/authz.sock{said}")
    assert problem, result.stderr
    assert "No such file or directory" in above + problem
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("arguments", [(), ("unknown",), ("serve", "--unknown")])
def test_wrong_arguments_are_answered_with_the_usage(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "usage: authz-service" in result.stderr


def test_version_and_help() -> None:
    assert run("--version").stdout == f"authz-service {__version__}\n"
    assert "AUTHZ_POLICY_FILE" in run("check-config", "--help").stdout


def test_the_help_says_what_reflection_needs() -> None:
    option = run("serve", "--help").stdout.partition("  --reflection")[2].partition("  --workers")[0]
    assert "only with AUTHZ_TRANSPORT=grpcio" in " ".join(option.split())
