"""``lint`` in CI: exit codes, JSON, drafts that overwrite nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import demo
from demo.envoy_bootstrap import ENVOY_YAML

POLICY = Path(demo.__file__).parent / "policy.yaml"
DEAD = "".join(f"  - {{name: {name}, match: {{path: /healthz}}, public: true}}\n" for name in ("dead", "late"))
MISSPELLED = '  - {name: typo, match: {path: /typo}, require: {permission: "group:read"}}\n'
OPENAPI = {
    "openapi": "3.0.3",
    "paths": {
        "/healthz": {"get": {}},
        "/api/chat/groups": {"get": {}, "post": {}, "put": {"operationId": "replaceGroups"}},
        "/api/chat/groups/{id}": {"get": {}, "delete": {}},
        "/api/chat/groups/{id}/messages": {"get": {}, "post": {}},
        "/api/orgs/{org}/members": {"get": {}},
    },
}


def lint(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "authz_service", "lint", *map(str, arguments)]
    given = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def policy(directory: Path, more: str) -> Path:
    path = directory / "policy.yaml"
    path.write_text(POLICY.read_text(encoding="utf-8") + more, encoding="utf-8")
    return path


@pytest.fixture
def openapi(tmp_path: Path) -> Path:
    path = tmp_path / "chat-api.json"
    path.write_text(json.dumps(OPENAPI), encoding="utf-8")
    return path


def test_what_is_shipped_is_clean() -> None:
    result = lint("--strict", "--envoy", ENVOY_YAML, AUTHZ_POLICY_FILE=str(POLICY), JWT_LEEWAY_SECONDS="not looked at")
    assert (result.returncode, result.stdout, result.stderr) == (0, "Nothing was found.\n", "")


def test_an_error_ends_with_1_and_says_where_and_what_to_do(tmp_path: Path) -> None:
    path = policy(tmp_path, DEAD)
    result = lint("--policy", path)
    assert result.returncode == 1
    assert f"{path}: rules[9] (late): error rule_unreachable: never decides: " in result.stdout
    assert "\n    move it before " in result.stdout


def test_a_warning_ends_with_0_unless_strict(tmp_path: Path) -> None:
    path = policy(tmp_path, MISSPELLED)
    assert (lint("--policy", path).returncode, lint("--policy", path, "--strict").returncode) == (0, 1)


def test_an_enforced_rule_beside_an_open_default_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "version: 1\ndefaults: {mode: shadow}\n"
        "rules: [{name: admin, match: {path: /admin}, require: {role: admin}, mode: enforce}]\n", encoding="utf-8",
    )  # fmt: skip
    result = lint("--policy", path)
    assert result.returncode == 0
    assert "rules[0] (admin)" in result.stdout


def test_the_same_as_json_for_scripts(tmp_path: Path) -> None:
    path = policy(tmp_path, MISSPELLED)
    (finding,) = json.loads(lint("--policy", path, "--json").stdout)["findings"]
    assert finding.keys() == {"file", "code", "severity", "place", "message", "advice"}
    assert (finding["file"], finding["code"], finding["severity"]) == (str(path), "permission_misspelled", "warning")


def test_permissions_are_held_against_a_list(tmp_path: Path) -> None:
    known = tmp_path / "permissions.txt"
    known.write_text("# all\ngroups:read\ngroups:write\ngroups:delete # rarely\nmessages:read\nmessages:write\n"
                     "orgs:manage\n", encoding="utf-8")  # fmt: skip
    result = lint("--policy", POLICY, "--permissions", known)
    assert result.returncode == 1
    assert result.stdout.count("permission_unknown") == 1
    assert "'orgs:support' is not among the known permissions" in result.stdout


def test_an_operation_without_a_rule_is_found_and_drafted(openapi: Path) -> None:
    result = lint("--policy", POLICY, "--openapi", openapi, "--write")
    assert result.returncode == 1
    assert f"{openapi}: PUT /api/chat/groups: error operation_without_rule" in result.stderr
    assert "  - name: replace-groups\n" in result.stdout
    assert "operation_without_rule" not in result.stdout


def test_a_draft_goes_to_a_new_file_and_overwrites_nothing(openapi: Path, tmp_path: Path) -> None:
    mine = policy(tmp_path, "")
    before = mine.read_bytes()
    refused = lint("--policy", mine, "--openapi", openapi, "--write", mine)
    assert (refused.returncode, mine.read_bytes()) == (2, before)
    assert "is there already" in refused.stderr
    lint("--policy", mine, "--openapi", openapi, "--write", tmp_path / "draft.yaml")
    assert "replace-groups" in (tmp_path / "draft.yaml").read_text(encoding="utf-8")


def test_settings_that_open_the_door_are_found(tmp_path: Path) -> None:
    path = tmp_path / "envoy.yaml"
    text = Path(ENVOY_YAML).read_text(encoding="utf-8")
    assert text.count("failure_mode_allow: false") == 1
    path.write_text(text.replace("failure_mode_allow: false", "failure_mode_allow: true"), encoding="utf-8")
    result = lint("--policy", POLICY, "--envoy", path)
    assert result.returncode == 1
    assert "error envoy_failure_mode_allow: " in result.stdout


@pytest.mark.parametrize(("arguments", "said"), [
    (("--policy", "/nonexistent"), "/nonexistent: No such file"),
    (("--openapi", "/nonexistent"), "/nonexistent: No such file"),
    (("--envoy", "/nonexistent"), "/nonexistent: No such file"),
    (("--permissions", "/nonexistent"), "/nonexistent: No such file"),
    (("--permissions", "/dev/null"), "lists no permission"),
    (("--openapi", str(POLICY)), "must be an OpenAPI 3 description"),
    (("--envoy", "/dev/null"), "/dev/null: must be a mapping"),
    (("--write",), "--write: needs --openapi"),
])  # fmt: skip
def test_what_cannot_be_used_ends_with_2_in_words(arguments: tuple[str, ...], said: str) -> None:
    result = lint(*arguments, AUTHZ_POLICY_FILE=str(POLICY))
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_json_and_a_draft_do_not_share_an_output() -> None:
    result = lint("--json", "--openapi", str(POLICY), "--write", AUTHZ_POLICY_FILE=str(POLICY))
    (problem,) = json.loads(result.stdout)["problems"]
    assert "--write: name a FILE" in problem
    assert (result.returncode, problem in result.stderr) == (2, True)
