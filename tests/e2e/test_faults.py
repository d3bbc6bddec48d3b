"""The quick rows of ``make chaos``: faults that happen, and what holds all the same."""

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from chaos.rows import TABLE
from chaos.table import Row, as_text, run_row


def quick_rows() -> Iterator[ParameterSet]:
    for row in TABLE.values():
        if row.quick:
            yield pytest.param(row, id=row.name)


@pytest.mark.parametrize("row", list(quick_rows()))
async def test_the_promise_holds(row: Row) -> None:
    """Promises name seconds; a machine that stood still for one of them gets a second try."""
    result = await run_row(row)
    if not result.held:
        result = await run_row(row)
    assert result.held, f"\n{as_text(result)}"
