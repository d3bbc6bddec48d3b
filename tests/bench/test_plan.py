"""How often what is measured."""

from typing import cast

import pytest

from bench.run import CORE, ENVOY, FULL, GROWTH, MEMORY, QUICK, TRANSPORTS, Plan, _by_themselves, _possible
from bench.samples import Samples
from bench.stage import CONSTANT, Stage


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_every_start_has_as_many_repetitions(plan: Plan) -> None:
    assert plan.repetitions % plan.starts == 0


def test_what_needs_no_server_has_new_processes_in_each_start(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []

    def core(plan: Plan, _running: Stage, what: str, _samples: Samples) -> None:
        ran.append((what, plan.in_each_start))

    monkeypatch.setattr("bench.run._core", core)
    plan = FULL._replace(starts=2, repetitions=6, sections=(CORE, GROWTH))
    _by_themselves(plan, cast("Stage", None), Samples(), lambda _line: None)
    assert ran == [("decisions", 3), ("rules", 3), ("tokens", 3), ("sizes", 3)] * 2


@pytest.mark.parametrize("section", [MEMORY, TRANSPORTS, ENVOY])
def test_servers_are_started_anew_where_they_are_measured(section: str) -> None:
    assert not FULL._replace(sections=(CORE, section)).alone
    assert FULL._replace(sections=(CORE, GROWTH)).alone


@pytest.mark.parametrize(
    ("tools", "left", "skipped"),
    [
        ("h2load wrk cc", (CORE, TRANSPORTS, ENVOY, MEMORY), []),
        ("h2load wrk", (CORE, TRANSPORTS, ENVOY, MEMORY), [CONSTANT]),
        ("wrk cc", (CORE, ENVOY, MEMORY), [TRANSPORTS]),
        ("", (CORE, MEMORY), [TRANSPORTS, ENVOY, CONSTANT]),
    ],
)
def test_what_a_tool_is_missing_for_is_left_out_and_said_once(
    tools: str, left: tuple[str, ...], skipped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.run.has", lambda tool: tool in tools.split())
    said: list[str] = []
    plan = _possible(FULL._replace(sections=(CORE, TRANSPORTS, ENVOY, MEMORY)), said.append)
    assert plan.sections == left
    assert [line.split(":")[0] for line in said] == skipped
