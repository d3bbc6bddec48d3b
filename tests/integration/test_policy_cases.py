"""``check-config --cases``: exit codes for CI, failures that a person can act on, the same as JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import demo

DEMO = Path(demo.__file__).parent
POLICY, CASES = DEMO / "policy.yaml", DEMO / "cases.yaml"
WRONG = """
version: 1
cases:
  - {name: good, request: {path: /healthz}, expect: allow}
  - name: readers delete groups
    request: {method: DELETE, path: /api/chat/groups/7}
    claims: {permissions: ["groups:read"]}
    expect: allow
"""


def check(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "authz_service", "check-config", *map(str, arguments)]
    given = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "cases.yaml"
    path.write_text(WRONG, encoding="utf-8")
    return path


def test_the_demo_policy_decides_its_cases() -> None:
    result = check("--policy", POLICY, "--cases", CASES)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("13 cases came out as expected.\n")


def test_a_case_that_fails_is_told_with_its_line_and_why(wrong: Path) -> None:
    result = check("--policy", POLICY, "--cases", wrong)
    assert result.returncode == 1
    assert f"FAILED {wrong}:5: readers delete groups\n" in result.stdout
    for line in ("asked     DELETE /api/chat/groups/7 with claims {'permissions': ['groups:read']}",
                 "expected  allow", "got       permission_denied, rule delete-group, mode enforce",
                 "because   This needs the permissions groups:delete and groups:read.",
                 "1 of 2 cases came out otherwise."):  # fmt: skip
        assert line in result.stdout


def test_the_same_as_json_for_scripts(wrong: Path) -> None:
    result = check("--json", "--policy", POLICY, "--cases", wrong)
    assert result.returncode == 1
    cases = json.loads(result.stdout)["cases"]
    assert cases["decided"] == 2
    assert [(case["name"], case["line"], case["expected"]) for case in cases["failed"]] == [
        ("readers delete groups", 5, "allow")
    ]


def test_mistakes_in_environment_policy_and_cases_are_told_at_once(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text("version: 1\ncases: [{name: one, request: {path: /}, expect: maybe}]\n", encoding="utf-8")
    result = check("--policy", tmp_path / "missing.yaml", "--cases", cases, JWT_LEEWAY_SECONDS="soon")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 4
    for said in ("JWT_LEEWAY_SECONDS", "missing.yaml: No such file", f"{cases}: line 2, cases[0] (one).expect"):
        assert said in result.stderr


@pytest.mark.parametrize("content", [None, b"\xff", b"[]"])
def test_unusable_cases_are_no_traceback(content: bytes | None, tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    if content is not None:
        cases.write_bytes(content)
    result = check("--json", "--policy", POLICY, "--cases", cases)
    assert (result.returncode, result.stderr) == (2, "")
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem.startswith(f"{cases}: ")
    assert problem.count(str(cases)) == 1
