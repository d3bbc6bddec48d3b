"""The quick rows of ``make chaos``: faults that happen, and what holds all the same."""

from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from chaos.rows import TABLE
from chaos.table import Row, as_text, run_row

ON_GRPCIO = {"sigterm-once", "issuer-down-at-start"}
"""Rows whose promise the transport has a part in; the others are run on the default one only."""


def quick_rows() -> Iterator[ParameterSet]:
    for row in TABLE.values():
        if row.quick:
            yield pytest.param(row, "native", id=row.name)
        if row.name in ON_GRPCIO:
            yield pytest.param(row, "grpcio", id=f"{row.name}, grpcio")


@pytest.mark.parametrize(("row", "server"), list(quick_rows()))
async def test_the_promise_holds(row: Row, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promises name seconds; a machine that stood still for one of them gets a second try."""
    monkeypatch.setenv("AUTHZ_TRANSPORT", server)
    result = await run_row(row)
    if not result.held:
        result = await run_row(row)
    assert result.held, f"\n{as_text(result)}"
