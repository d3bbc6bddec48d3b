"""``authz-service replay``."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from authz_service.commands.common import EXIT_FAILED, EXIT_OK, policy_path_of, print_json, standard_input
from authz_service.errors import ConfigurationError
from authz_service.policy_file import PolicyFile

if TYPE_CHECKING:
    from authz_service.migration.logged import Answer
    from authz_service.migration.report import Example, Flip, Found, Report

STDIN = "-"
MAX_LINE_BYTES = 1 << 20
"""The service writes no such line."""
BAR_WIDTH = 30
REDRAW_SECONDS = 0.1
LINES_BETWEEN_LOOKS = 1000
"""A look at the clock for each line would cost more than the bar is worth."""

DESCRIPTION = """\
Decide a decision log (AUTHZ_DECISION_LOG) again under another policy, and print what flips, rule by rule. An answer is
looser when the policy permits what it denied, enforced or not, or the client gets through where it did not. Signatures,
times and audiences of tokens stay as they were judged; what the log does not hold is not guessed but counted apart.

  authz-service replay decisions.log --policy new.yaml
  zcat decisions.log.*.gz | authz-service replay - --policy new.yaml --json

Exit codes: 0 nothing becomes looser; 1 something does; 2 a policy or a log that cannot be used."""


def add_replay(commands: "argparse._SubParsersAction[Any]") -> None:
    """Announce the command."""
    replay = commands.add_parser(
        "replay", help="say what another policy would have decided about the requests of a decision log",
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    replay.add_argument("log", metavar="LOG", help="the decision log; - reads it from standard input")
    replay.add_argument("--policy", metavar="FILE", help="the policy to try, in place of AUTHZ_POLICY_FILE")
    replay.add_argument("--json", action="store_true", help="print the result as JSON")
    replay.set_defaults(command=_replay)


def _replay(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    # What only this command needs is not loaded for the others.
    from authz_service.migration.replay import Replay  # noqa: PLC0415
    from authz_service.migration.report import Direction  # noqa: PLC0415

    policy = PolicyFile(Path(arguments.policy or policy_path_of(environ))).load()
    replay = Replay(policy)
    with _opened(arguments.log) as file:
        replay.read(_with_progress(file) if sys.stderr.isatty() else _lines(file))
    report = replay.report
    _check(arguments.log, report)
    if arguments.json:
        print_json(_as_json(report))
    else:
        _print(report)
    return EXIT_FAILED if report.total(Direction.LOOSER) else EXIT_OK


def _check(path: str, report: "Report") -> None:
    """:raises ConfigurationError: nothing was shown about the policy."""
    if report.damaged == report.lines:
        said = "holds no line of a decision log" if report.lines else "is empty"
        how = "with AUTHZ_DECISION_LOG the service writes one"
        if path.endswith(".gz"):
            how = f"unpack it: zcat {path} | authz-service replay -"
        raise ConfigurationError([f"{path}: {said}; {how}"])


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """:raises ConfigurationError: it cannot be read."""
    try:
        if path == STDIN:
            yield standard_input()
            return
        with Path(path).open("rb") as file:
            yield file
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise ConfigurationError([f"{path}: {getattr(error, 'strerror', None) or error}"]) from None


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """However long a line is, so much of it is kept."""
    while line := file.readline(MAX_LINE_BYTES):
        yield line
        while not line.endswith(b"\n") and (line := file.readline(MAX_LINE_BYTES)):
            pass


def _with_progress(file: IO[bytes]) -> Iterator[bytes]:
    total = os.fstat(file.fileno()).st_size
    read, drawn = 0, 0.0
    for number, line in enumerate(_lines(file)):
        read += len(line)
        if number % LINES_BETWEEN_LOOKS == 0 and (now := time.monotonic()) >= drawn + REDRAW_SECONDS:
            drawn = now
            print(f"\r{_bar(read, total)} {number:,} lines ", end="", file=sys.stderr, flush=True)
        yield line
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _bar(read: int, total: int) -> str:
    """Nothing is known of how long a pipe is."""
    if not total:
        return ""
    done = min(BAR_WIDTH, BAR_WIDTH * read // total)
    return f"[{'#' * done}{' ' * (BAR_WIDTH - done)}] {min(100, 100 * read // total)} %"


def _print(report: "Report") -> None:
    for flip, found in _in_order(report):
        print(f"{flip.direction.upper()} {_rule(flip.rule)}: {_requests(found)}: {_change(flip)}")
        _print_examples(found)
    for unknown, found in report.unknown.items():
        print(f"COULD NOT TELL {_rule(unknown.rule)}: {_requests(found)}: {unknown.why}")
        _print_examples(found)
    for disagreement, found in report.disagreements.items():
        way = f"{disagreement.reason}, the other way {disagreement.other_reason}"
        print(f"DISAGREED {_rule(disagreement.rule)}: {_requests(found)}: {way}")
        _print_examples(found)
    print(_summary(report))


def _print_examples(found: "Found") -> None:
    for example in found.examples:
        print(f"    line {example.line}: {_request(example)}")


def _in_order(report: "Report") -> "list[tuple[Flip, Found]]":
    """What is looser first, then rule by rule, the most frequent first."""
    return sorted(report.flips.items(), key=lambda item: (item[0].direction, item[0].rule, -item[1].count))


def _rule(name: str) -> str:
    return name or "(no rule)"


def _requests(found: "Found") -> str:
    return _some(found.count, "request")


def _some(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _change(flip: "Flip") -> str:
    before, after = _told(flip.before), _told(flip.after)
    if flip.before.rule != flip.after.rule:
        before += f" by {_rule(flip.before.rule)}"
        after += f" by {_rule(flip.after.rule)}"
    return f"{before} -> {after}"


def _told(answer: "Answer") -> str:
    return f"{answer.reason} (in shadow mode: let through)" if answer.passed > answer.permitted else answer.reason


def _request(example: "Example") -> str:
    asked = example.logged.asked
    request_id = f"  request {example.logged.request_id}" if example.logged.request_id else ""
    return _printable(f"{asked.method} {asked.host}{asked.path}{request_id}")


def _printable(text: str) -> str:
    """A client chose it; a terminal obeys what is not printable."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _summary(report: "Report") -> str:
    from authz_service.migration.report import Direction  # noqa: PLC0415 - as above

    looser, stricter = report.total(Direction.LOOSER), report.total(Direction.STRICTER)
    parts = [f"{looser:,} looser", f"{stricter:,} stricter"]
    if unknown := sum(found.count for found in report.unknown.values()):
        parts.append(f"{unknown:,} could not be told")
    if disagreements := sum(found.count for found in report.disagreements.values()):
        parts.append(f"{_some(disagreements, 'disagreement')} of a comparison")
    if report.damaged:
        shown = ", ".join(map(str, report.damaged_lines))
        more = ", ..." if report.damaged > len(report.damaged_lines) else ""
        parts.append(f"{_some(report.damaged, 'damaged line')} ({shown}{more})")
    return f"{report.decided:,} of {_some(report.lines, 'line')} decided again: {', '.join(parts)}."


def _as_json(report: "Report") -> dict[str, Any]:
    from authz_service.migration.report import Direction  # noqa: PLC0415 - as above

    return {
        "lines": report.lines, "decided": report.decided, "looser": report.total(Direction.LOOSER),
        "stricter": report.total(Direction.STRICTER),
        "damaged": {"count": report.damaged, "first_lines": report.damaged_lines},
        "flips": [
            {
                "direction": flip.direction, "rule": flip.rule, "before": _answer_json(flip.before),
                "after": _answer_json(flip.after), **_found_json(found),
            }
            for flip, found in _in_order(report)
        ],
        "could_not_tell": [
            {"rule": unknown.rule, "why": unknown.why.name.lower(), **_found_json(found)}
            for unknown, found in report.unknown.items()
        ],
        "disagreements": [
            {**disagreement._asdict(), **_found_json(found)} for disagreement, found in report.disagreements.items()
        ],
    }  # fmt: skip


def _answer_json(answer: "Answer") -> dict[str, Any]:
    return {
        "decision": "allow" if answer.passed else "deny", "reason": answer.reason, "rule": answer.rule,
        "mode": answer.mode,
    }  # fmt: skip


def _found_json(found: "Found") -> dict[str, Any]:
    return {"count": found.count, "examples": [_example_json(example) for example in found.examples]}


def _example_json(example: "Example") -> dict[str, Any]:
    asked = example.logged.asked
    return {
        "line": example.line, "request_id": example.logged.request_id, "method": asked.method, "host": asked.host,
        "path": asked.path,
    }  # fmt: skip
