"""``replay``: exit codes for CI, what flips in words and as JSON, unusable input without a traceback."""

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from authz_service.errors import AccessRefused, Reason
from authz_service.model import Allow, Claims, Decision, HttpRequest, Mode
from authz_service.observability.decision_line import decided, write_line
from authz_service.response.challenge import deny
from tests.support.tokens import claims_of

READ = '{name: groups, match: {path: "/groups/{id}"}, require: {permission: "groups:read"}}'
ANYBODY = '{name: groups, match: {path: "/groups/{id}"}, require: {authenticated: true}}'
ODD = "/groups/\x1b[31m\r\n\u2028"


def line(decision: Decision, path: str = "/groups/7") -> bytes:
    request = HttpRequest("GET", path, "chat.example.com", (), "r-1")
    return write_line(decided(request, decision, 0), plain_subject=False)


CALLER: Claims = claims_of("user-1")
ALLOWED = line(Allow(Reason.ALLOWED, "groups", Mode.ENFORCE, claims=CALLER))
DENIED = line(deny(AccessRefused(Reason.PERMISSION_DENIED, "No."), rule="groups", claims=CALLER))


def replay(
    directory: Path, log: bytes | str | Path, rule: str = READ, *options: str
) -> subprocess.CompletedProcess[bytes]:
    """``log``: the content of one, or what to name on the command line; then the content comes by standard input."""
    policy, path = directory / "policy.yaml", directory / "decisions.log"
    policy.write_text(f"version: 1\nrules: [{rule}]\n", encoding="utf-8")
    if isinstance(log, bytes):
        path.write_bytes(log)
    named = path if isinstance(log, bytes) else log
    command = [sys.executable, "-m", "authz_service", "replay", str(named), "--policy", str(policy), *options]
    given = {"PATH": os.environ["PATH"], "PYTHONUTF8": "1"}
    return subprocess.run(command, env=given, capture_output=True, input=ALLOWED, timeout=60, check=False)


def test_nothing_looser_ends_with_0_and_says_what_is_stricter(tmp_path: Path) -> None:
    result = replay(tmp_path, ALLOWED * 4 + DENIED)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == (
        "STRICTER groups: 4 requests: allowed -> permission_denied\n"
        "    line 1: GET chat.example.com/groups/7  request r-1\n"
        "    line 2: GET chat.example.com/groups/7  request r-1\n"
        "    line 3: GET chat.example.com/groups/7  request r-1\n"
        "5 of 5 lines decided again: 0 looser, 4 stricter.\n"
    )


def test_anything_looser_ends_with_1(tmp_path: Path) -> None:
    result = replay(tmp_path, ALLOWED * 4 + DENIED, ANYBODY)
    assert result.returncode == 1
    assert result.stdout.startswith(b"LOOSER groups: 1 request: permission_denied -> allowed\n    line 5: ")


def test_the_same_as_json_for_scripts(tmp_path: Path) -> None:
    result = replay(tmp_path, DENIED + b"damaged\n", ANYBODY, "--json")
    assert result.returncode == 1
    answer = {"rule": "groups", "mode": "enforce"}
    assert json.loads(result.stdout) == {
        "lines": 2, "decided": 1, "looser": 1, "stricter": 0, "disagreements": [],
        "damaged": {"count": 1, "first_lines": [2]}, "could_not_tell": [],
        "flips": [{
            "direction": "looser", "rule": "groups", "count": 1,
            "before": answer | {"decision": "deny", "reason": "permission_denied"},
            "after": answer | {"decision": "allow", "reason": "allowed"},
            "examples": [{
                "line": 1, "request_id": "r-1", "method": "GET", "host": "chat.example.com", "path": "/groups/7",
            }],
        }],
    }  # fmt: skip


def test_what_cannot_be_told_is_said_and_is_no_failure(tmp_path: Path) -> None:
    public = line(Allow(Reason.PUBLIC, "groups", Mode.ENFORCE)).replace(b'"credentials":false', b'"credentials":true')
    result = replay(tmp_path, public)
    assert result.returncode == 0
    assert b"COULD NOT TELL groups: 1 request: its token was not looked at then" in result.stdout
    assert b"0 of 1 line decided again: 0 looser, 0 stricter, 1 could not be told." in result.stdout
    (unknown,) = json.loads(replay(tmp_path, public, READ, "--json").stdout)["could_not_tell"]
    assert (unknown["rule"], unknown["why"], unknown["count"]) == ("groups", "not_looked_at", 1)


def test_what_a_comparison_disagreed_about_is_named_by_rule_and_is_no_matter_of_the_policy(tmp_path: Path) -> None:
    disagreed = ALLOWED.replace(b"}}\n", b'},"other_reason":"permission_denied"}\n')
    result = replay(tmp_path, disagreed)
    assert result.returncode == 0
    assert b"DISAGREED groups: 1 request: allowed, the other way permission_denied\n    line 1: " in result.stdout
    assert b"0 of 1 line decided again: 0 looser, 0 stricter, 1 disagreement of a comparison." in result.stdout
    (told,) = json.loads(replay(tmp_path, disagreed, READ, "--json").stdout)["disagreements"]
    assert (told["rule"], told["reason"], told["other_reason"]) == ("groups", "allowed", "permission_denied")


def test_a_log_can_come_by_standard_input(tmp_path: Path) -> None:
    result = replay(tmp_path, "-")
    assert (result.returncode, result.stdout.splitlines()[-1]) == (
        0, b"1 of 1 line decided again: 0 looser, 1 stricter.",
    )  # fmt: skip


def test_damaged_lines_are_named_and_do_not_end_it(tmp_path: Path) -> None:
    endless = b"[" * 3_000_000 + b"\n"
    result = replay(tmp_path, ALLOWED + ALLOWED[:40] + b"\n" + endless + ALLOWED)
    assert result.returncode == 0
    assert b"2 of 4 lines decided again: 0 looser, 2 stricter, 2 damaged lines (2, 3)." in result.stdout


@pytest.mark.parametrize(("log", "why"), [
    (b"", "is empty; with AUTHZ_DECISION_LOG"), (b"damaged\n", "holds no line of a decision log"),
    ("/missing.log", "No such file or directory"), ("/", "Is a directory"),
])  # fmt: skip
def test_an_unusable_log_is_no_traceback(tmp_path: Path, log: bytes | str, why: str) -> None:
    result = replay(tmp_path, log)
    assert (result.returncode, result.stdout) == (2, b"")
    assert why in result.stderr.decode()
    assert b"Traceback" not in result.stderr


def test_a_compressed_log_is_told_how_to_be_read(tmp_path: Path) -> None:
    log = tmp_path / "decisions.log.gz"
    log.write_bytes(gzip.compress(ALLOWED))
    result = replay(tmp_path, str(log))
    assert result.returncode == 2
    assert f"unpack it: zcat {log} | authz-service replay -" in result.stderr.decode()


def test_an_unusable_policy_is_told_as_everywhere(tmp_path: Path) -> None:
    result = replay(tmp_path, ALLOWED, "{name: groups}")
    assert result.returncode == 2
    assert b"rules[0]" in result.stderr


def test_an_interrupted_one_does_not_end_as_if_nothing_were_looser(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"version: 1\nrules: [{READ}]\n", encoding="utf-8")
    command = [sys.executable, "-m", "authz_service", "replay", "-", "--policy", str(policy)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        for _ in range(20):  # more than a pipe holds: once all is written, it is reading
            process.stdin.write(ALLOWED * 1_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_a_terminal_is_not_told_what_a_client_wants_it_to_do(tmp_path: Path) -> None:
    decision = Allow(Reason.PATH_AMBIGUOUS, "", Mode.SHADOW)
    result = replay(tmp_path, line(decision, ODD))
    assert b"STRICTER (no rule)" in result.stdout
    assert result.stdout.replace(b"\n", b"").decode().isprintable()


def test_a_terminal_sees_how_far_it_is(tmp_path: Path) -> None:
    log, policy = tmp_path / "decisions.log", tmp_path / "policy.yaml"
    log.write_bytes(ALLOWED * 5_000)
    policy.write_text(f"version: 1\nrules: [{READ}]\n", encoding="utf-8")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "authz_service", "replay", str(log), "--policy", str(policy), "--json"]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False)
    os.close(theirs)
    seen = os.read(ours, 65536)
    os.close(ours)
    assert json.loads(result.stdout)["lines"] == 5_000
    assert b"\r[" in seen
    assert b"lines" in seen
    assert seen.endswith(b"\r\x1b[K"), "it wipes itself away at the end"
