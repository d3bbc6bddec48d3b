"""People search for log lines. A warning or an error says what is the matter, and then what to do about it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import authz_service

ROOT = Path(authz_service.__file__).parent
TELLING = {"warning", "error", "exception", "critical"}
ADVICE = re.compile(r"\b([Cc]heck|[Ss]ee|[Mm]end|[Gg]ive|please report|The next good fetch writes a new one)\b")


def texts(call: ast.Call) -> str:
    """All that such a line can say, whichever way it is put together."""
    return "".join(
        node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def lines() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in TELLING
                and isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
            ):  # fmt: skip
                yield f"{path.relative_to(ROOT)}:{node.lineno}", texts(node)


FOUND = [pytest.param(text, id=place) for place, text in lines() if text]
"""Without those whose text is a name; there is one, and it asks for a report."""


@pytest.mark.parametrize("text", FOUND)
def test_a_warning_says_what_to_do(text: str) -> None:
    assert ADVICE.search(text), f"{text!r} leaves its reader alone: add what to check, see or mend, or ask for a report"


def test_there_are_lines_to_look_at() -> None:
    assert len(FOUND) > 20
