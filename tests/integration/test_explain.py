"""``explain`` as people run it: exit codes, JSON, keys from a file or from the issuer, and no token in its words."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.issuer import issuer
from tests.support.tokens import KID, NOW, claims, jwks, signing_key, token

POLICY = """
version: 1
rules:
  - {name: health, match: {path: /healthz, methods: [GET]}, public: true}
  - {name: groups, match: {path: /groups, methods: [GET]}, require: {permission: "groups:read"}}
  - {name: trial, match: {path: /trial}, require: {role: admin}, mode: shadow}
"""
GOOD = token()
SIGNATURE = GOOD.rpartition(".")[2]


def run(*arguments: str | Path, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "authz_service", "explain", *map(str, arguments)]
    given = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": "ascii:strict", **environ}
    return subprocess.run(
        command, env=given, input=stdin, capture_output=True, text=True, timeout=60, check=False, encoding="utf-8"
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "jwks.json").write_bytes(jwks(signing_key()))
    (tmp_path / "token.txt").write_text(f"Bearer {GOOD}\n", encoding="utf-8")
    return tmp_path


def offline(
    files: Path, *arguments: str | Path, stdin: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    given = ("--policy", files / "policy.yaml", "--jwks", files / "jwks.json", "--now", str(NOW))
    return run(*given, *arguments, stdin=stdin, **environ)


@pytest.mark.parametrize("form", ["argument", "file", "standard input"])
def test_an_allowed_request_ends_with_0_however_the_token_comes(form: str, files: Path) -> None:
    given = {"argument": GOOD, "file": f"@{files / 'token.txt'}", "standard input": "-"}[form]
    result = offline(files, "GET", "/groups", "--token", given, stdin=GOOD if given == "-" else "")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0] == "GET /groups"
    assert "\nALLOW allowed, by rule groups, mode enforce\n" in result.stdout
    assert "x-auth-sub: user-1" in result.stdout
    assert SIGNATURE not in result.stdout


def test_a_denied_request_ends_with_1_and_says_why(files: Path) -> None:
    result = offline(files, "GET", "/groups", "--token", token(permissions=[]))
    assert result.returncode == 1
    assert "NO  requirement  permission_denied: This needs the permission groups:read." in result.stdout
    assert "DENY 403 permission_denied, by rule groups, mode enforce" in result.stdout


def test_a_rule_in_shadow_mode_lets_pass(files: Path) -> None:
    result = offline(files, "GET", "/trial", "--token", GOOD)
    assert result.returncode == 0
    assert "ALLOW role_denied, by rule trial, mode shadow" in result.stdout


def test_no_token_is_needed_to_ask(files: Path) -> None:
    assert offline(files, "GET", "/healthz").returncode == 0
    assert "DENY 401 token_missing" in offline(files, "GET", "/groups").stdout


def test_where_the_auth_api_decides_it_says_that_it_was_not_asked(files: Path) -> None:
    told = offline(files, "GET", "/groups", "--token", token(), USE_OAUTH2_AUTH="false")
    assert "the service asks the Auth-API" in told.stdout
    scripts = offline(files, "GET", "/groups", "--token", token(), "--json", USE_OAUTH2_AUTH="false")
    assert json.loads(scripts.stdout)["way"] == "auth_api"


def test_the_same_as_json_for_scripts(files: Path) -> None:
    result = offline(files, "GET", "/groups", "--json", "--token", token(exp=NOW - 60))
    assert result.returncode == 1
    answer = json.loads(result.stdout)
    assert (answer["allowed"], answer["status"], answer["reason"], answer["rule"]) == (
        False, 401, "token_expired", "groups"
    )  # fmt: skip
    assert [step["step"] for step in answer["steps"] if step["outcome"] == "refused"] == ["claims"]
    assert answer["headers"]["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("now", [str(NOW), "2025-06-15T15:06:40Z", "2025-06-15T15:06:40", "2025-06-15T17:06:40+02:00"])
def test_another_time_may_be_written_in_two_ways(now: str, files: Path) -> None:
    result = offline(files, "GET", "/healthz", "--json", "--now", now)
    assert json.loads(result.stdout)["now"] == NOW


def test_headers_count_as_envoy_would_pass_them_on(files: Path) -> None:
    result = offline(files, "GET", "/groups", "--token", GOOD, "--header", "Authorization: Bearer other")
    assert "DENY 400 multiple_tokens" in result.stdout


def test_claims_in_any_script_do_not_break_a_terminal(files: Path) -> None:
    assert offline(files, "GET", "/groups", "--token", token(username="Zoë")).returncode == 0


def service_of(url: str, files: Path) -> dict[str, str]:
    return {"AUTH_API_JWKS_URL": url, "AUTHZ_POLICY_FILE": str(files / "policy.yaml")}


async def test_without_a_file_the_keys_are_fetched_once_where_the_service_would(files: Path) -> None:
    good = signing_key().sign(claims(exp=2**40))
    async with issuer(jwks(signing_key())) as auth_api:
        result = await asyncio.to_thread(run, "GET", "/groups", "--token", good, **service_of(auth_api.url, files))
        assert (result.returncode, result.stderr) == (0, "")
        await asyncio.to_thread(run, "GET", "/healthz", **service_of(auth_api.url, files))
        assert len(auth_api.requests) == 1


async def test_keys_that_cannot_be_had_are_no_verdict(files: Path) -> None:
    async with issuer(jwks(signing_key())) as auth_api:
        url = auth_api.url
    result = await asyncio.to_thread(run, "GET", "/groups", "--token", GOOD, **service_of(url, files))
    assert (result.returncode, result.stdout) == (2, "")
    assert url in result.stderr
    assert "--jwks FILE" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("arguments", "said"), [
    (("GET",), "PATH"),
    (("GET", "groups"), "PATH: must begin with /"),
    (("G T", "/groups"), "METHOD: must be a method such as GET"),
    (("GET", "/groups", "--header", "nocolon"), "--header: must be 'NAME: VALUE'"),
    (("GET", "/groups", "--header", "na me: x"), "--header: must be 'NAME: VALUE'"),
    (("GET", "/groups", "--now", "soon"), "--now: must be Unix seconds"),
    (("GET", "/groups", "--token", ""), "--token: is empty"),
    (("GET", "/groups", "--token", "@/nonexistent"), "/nonexistent: No such file"),
    (("GET", "/groups", "--jwks", "/nonexistent"), "/nonexistent: No such file"),
    (("GET", "/groups", "--policy", "/nonexistent"), "/nonexistent: No such file"),
])  # fmt: skip
def test_what_cannot_be_used_ends_with_2_and_says_what_would_be_right(
    arguments: tuple[str, ...], said: str, files: Path
) -> None:
    result = run(*arguments, AUTHZ_POLICY_FILE=str(files / "policy.yaml"))
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_forgotten_at_sign_before_a_file_is_no_verdict(files: Path) -> None:
    file = files / "token.txt"
    result = offline(files, "GET", "/groups", "--token", file)
    assert (result.returncode, result.stdout) == (2, "")
    assert f"--token: {file} is a file; write @{file} " in result.stderr


def test_a_token_that_is_too_long_for_a_files_name_is_judged(files: Path) -> None:
    assert "DENY 401 token_" in offline(files, "GET", "/groups", "--token", "x" * 5000).stdout


@pytest.mark.parametrize("between", [" ", "\n"])
def test_a_broken_token_is_said_to_be_broken_and_not_shown(between: str, files: Path) -> None:
    (files / "broken.txt").write_text(f"{GOOD[:40]}{between}{GOOD[40:]}", encoding="utf-8")
    result = offline(files, "GET", "/groups", "--token", f"@{files / 'broken.txt'}")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--token: has a space or a line break within" in result.stderr
    assert GOOD[:40] not in result.stderr


@pytest.mark.parametrize(("document", "said"), [
    (b"{}", 'no "keys" array'), (b"", "not acceptable as JSON"), (b'{"keys": []}', "it is empty"),
    (jwks(signing_key().jwk(use="enc")), "use_not_sig"),
])  # fmt: skip
def test_a_file_without_usable_keys_is_refused(document: bytes, said: str, files: Path) -> None:
    (files / "jwks.json").write_bytes(document)
    result = offline(files, "GET", "/groups", "--token", GOOD)
    assert result.returncode == 2
    assert said in result.stderr


@pytest.mark.parametrize("arguments", [
    ("GET", "/groups", GOOD), (GOOD, "/groups"), ("GET", GOOD), ("GET", "/groups", "--token", "Bearer", GOOD),
    ("GET", "/groups", "--header", f"Authorization {GOOD}"), ("GET", "/groups", "--now", GOOD),
], ids=["behind", "method", "path", "two words", "header", "time"])  # fmt: skip
def test_a_token_in_a_wrong_place_is_not_repeated(arguments: tuple[str, ...], files: Path) -> None:
    result = offline(files, *arguments)
    assert result.returncode == 2
    assert SIGNATURE not in result.stderr + result.stdout


def test_many_rules_about_other_paths_are_one_line(files: Path) -> None:
    rules = "".join(f"  - {{name: r{n}, match: {{path: /r{n}}}, public: true}}\n" for n in range(50))
    (files / "policy.yaml").write_text(POLICY.replace("rules:\n", f"rules:\n{rules}"), encoding="utf-8")
    result = offline(files, "GET", "/groups", "--token", GOOD)
    assert "51 rules about other paths\n        groups: matches (/groups)" in result.stdout
    assert KID in result.stdout
