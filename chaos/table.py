"""The table of faults: each row makes one fault happen, and says what was promised and what was measured."""

import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple


class Report:
    """What one row found out."""

    def __init__(self) -> None:
        self.measured: list[str] = []
        self.broken: list[str] = []
        self._promises = 0

    def show(self, text: str) -> None:
        """A figure that no promise hangs on."""
        self.measured.append(text)

    def hold(self, held: bool, text: str) -> None:  # noqa: FBT001 - reads as: hold(failed == 0, "0 failed")
        """A figure, and whether the promise about it held."""
        self._promises += 1
        self.measured.append(text)
        if not held:
            self.broken.append(text)

    @property
    def held(self) -> bool:
        """Whether every promise held; a row that compared nothing has shown nothing."""
        return self._promises > 0 and not self.broken


Fault = Callable[[Report], Awaitable[None]]


class Row(NamedTuple):
    """One line of the table."""

    name: str
    fault: str
    promise: str
    quick: bool
    """Takes a second or two and no quiet machine: ``make test`` runs it too."""
    happen: Fault

    @property
    def command(self) -> str:
        """What makes this fault happen again."""
        return "make soak" if self.name == "soak" else f"make chaos ARGS='--only {self.name}'"


class Result(NamedTuple):
    """A row that was run."""

    row: Row
    measured: tuple[str, ...]
    broken: tuple[str, ...]
    held: bool
    seconds: float


ROWS: dict[str, Row] = {}


def row(fault: str, promise: str, *, quick: bool = False) -> Callable[[Fault], Fault]:
    """Make a function a row of the table; its name is the row's."""

    def enter(happen: Fault) -> Fault:
        name = getattr(happen, "__name__", "").replace("_", "-")
        ROWS[name] = Row(name, fault, promise, quick, happen)
        return happen

    return enter


async def run_row(one: Row) -> Result:
    """Make the fault happen. A row that breaks has not held."""
    report, started = Report(), time.monotonic()
    try:
        await one.happen(report)
    except Exception as error:  # noqa: BLE001 - the other rows go on
        traceback.print_exc()
        report.hold(False, f"the row broke: {type(error).__name__} {str(error)[:200]}")  # noqa: FBT003
    seconds = time.monotonic() - started
    return Result(one, tuple(report.measured), tuple(report.broken), report.held, seconds)


def as_text(result: Result) -> str:
    """For a terminal."""
    lines = [
        f"{'holds ' if result.held else 'BROKEN'}  {result.row.name} ({result.seconds:.0f} s): {result.row.fault}",
        f"        promise   {result.row.promise}",
        *(f"        {'measured' if text not in result.broken else 'BROKEN  '}  {text}" for text in result.measured),
    ]
    return "\n".join(lines)


def as_markdown(results: Iterable[Result]) -> str:
    """For ``docs/reliability.md``."""
    lines = ["| fault | promise | measured | | repeat with |", "|---|---|---|---|---|"]
    for result in results:
        cells = (
            result.row.fault, result.row.promise, "; ".join(result.measured), "holds" if result.held else "**broken**",
            f"`{result.row.command}`",
        )  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
