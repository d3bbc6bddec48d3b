"""``docs/reliability.md``: its tables are what was measured last, and are written by the command that measured."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from chaos.table import Result, as_markdown

DOCUMENT = Path(__file__).parent.parent / "docs" / "reliability.md"


def write(section: str, results: Sequence[Result], command: str) -> None:
    """Replace the section between ``<!-- section -->`` and ``<!-- end of section -->``."""
    held, seconds = sum(result.held for result in results), sum(result.seconds for result in results)
    outcome = f"{held} of {len(results)} rows held" if len(results) > 1 else "Held" if held else "Not held"
    heading = f"{outcome}, in {seconds / 60:.0f} minutes on {_machine()}. `{command}` writes this section anew."
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    section_text = f"{begin}\n\n{heading}\n\n{as_markdown(results)}\n\n{end}"
    changed, found = pattern.subn(lambda _: section_text, text)
    if found != 1:
        raise ValueError(f"{DOCUMENT} has no section {section}")
    DOCUMENT.write_text(changed, encoding="utf-8")


def _machine() -> str:
    transport = os.environ.get("AUTHZ_TRANSPORT", "the default")
    return f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {transport} transport"
