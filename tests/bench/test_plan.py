"""How often what is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import pytest

from bench.machine import Cores
from bench.run import CORE, ENVOY, FULL, MEMORY, QUICK, SECTIONS, TRANSPORTS, Plan, _memory, _possible, measure
from bench.samples import Samples
from bench.stage import CONSTANT, NATIVE, Stage


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_every_start_has_as_many_repetitions(plan: Plan) -> None:
    assert plan.repetitions % plan.starts == 0


def test_each_start_has_new_processes_of_all_and_repetitions_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    @contextmanager
    def stage(_cores: Cores) -> Iterator[object]:
        seen.append("up")
        yield SimpleNamespace(token="token", message=b"message")
        seen.append("down")

    def part(_plan: Plan, numbers: range, *_more: object) -> None:
        seen.append(list(numbers))

    monkeypatch.setattr("bench.run.has", lambda _tool: True)
    monkeypatch.setattr("bench.run.stage", stage)
    monkeypatch.setattr("bench.run._memory", lambda *_: seen.append(MEMORY))
    monkeypatch.setattr("bench.run._transports", part)
    monkeypatch.setattr("bench.run._through_envoy", part)
    monkeypatch.setattr("bench.run._core", lambda plan, _running, what, _: seen.append((what, plan.in_each_start)))
    plan = FULL._replace(starts=2, repetitions=4, sections=SECTIONS)
    facts = measure(plan, Cores(0, 1), Samples(), lambda _line: None)
    alone = [("decisions", 2), ("rules", 2), ("tokens", 2), ("sizes", 2)]
    first, second = [0, 1], [2, 3]
    assert seen == [
        "up", MEMORY, first, first, *alone, "down",
        "up", MEMORY, second, second, *alone, "down",
    ]  # fmt: skip
    assert facts == {"starts": 2, "repetitions": 4, "token_bytes": 5, "message_bytes": 7}


def test_the_memory_of_what_is_no_service_is_not_shown() -> None:
    server = SimpleNamespace(rss_bytes=lambda: 1)
    samples = Samples()
    _memory(cast("Stage", SimpleNamespace(servers={NATIVE: server, CONSTANT: server})), samples)
    assert samples.subjects(MEMORY) == [NATIVE]


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
