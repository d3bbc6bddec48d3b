"""The run: repetition by repetition, each subject in turn, so that all of them see the same machine."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from bench import core
from bench.constant_answer import COMPILER
from bench.constant_rate import constant_rate
from bench.envoy_listeners import JWT_AUTHN, JWT_AUTHN_CACHED, NO_AUTH, REACHED
from bench.load import Load, h2load, has, wrk
from bench.machine import Cores, on_core
from bench.processes import BenchFailed, Child, module
from bench.samples import Samples
from bench.stage import (
    CONSTANT,
    EMPTY,
    EMPTY_NATIVE,
    GRPCIO,
    NATIVE,
    Stage,
    ask_directly,
    questions,
    raw_request,
    stage,
)

CORE, GROWTH, TRANSPORTS, ENVOY, MEMORY = "core", "growth", "transports", "envoy", "memory"
SECTIONS = (CORE, GROWTH, TRANSPORTS, ENVOY, MEMORY)
BUSY, SINGLE, HALF = "envoy, 32 connections", "envoy, 1 connection", "envoy, half load"
CONNECTIONS = 32
SAME_RATE = (NO_AUTH, JWT_AUTHN, JWT_AUTHN_CACHED, NATIVE)
"""Asked for half of what the last of them can bear; the others for half of what they can bear themselves."""
CORE_SECONDS = 600

Say = Callable[[str], None]


class Plan(NamedTuple):
    """How long and how often."""

    starts: int
    """How often each process is started anew: where its memory came to lie makes it slower or faster for as long as it
    runs."""
    repetitions: int
    """Of everything, in all starts together."""
    seconds: int
    calls: int
    tokens: int
    sections: tuple[str, ...] = SECTIONS

    @property
    def in_each_start(self) -> int:
        """How many of the repetitions."""
        return self.repetitions // self.starts


FULL = Plan(starts=7, repetitions=7, seconds=3, calls=20_000, tokens=100_000)
QUICK = Plan(starts=1, repetitions=3, seconds=1, calls=4_000, tokens=10_000)


def measure(plan: Plan, cores: Cores, samples: Samples, say: Say) -> dict[str, int]:
    """Fill in the samples; :returns: what a reader must know about them.

    :raises BenchFailed: something did not work, which makes the figures worthless.
    """
    plan = _possible(plan, say)
    for start in range(plan.starts):
        say(f"starting the subjects: {start + 1} of {plan.starts}")
        with stage(cores) as running:
            _side_by_side(plan, start, running, samples, say)
            _by_themselves(plan, running, samples, say)
            facts = {"token_bytes": len(running.token), "message_bytes": len(running.message)}
    return {"starts": plan.starts, "repetitions": plan.repetitions, **facts}


def _possible(plan: Plan, say: Say) -> Plan:
    """Less what cannot be measured here, said once."""
    missing = {
        TRANSPORTS: "" if has("h2load") else "h2load is not installed (Debian: nghttp2-client)",
        ENVOY: "" if has("wrk") else "wrk is not installed (Debian: wrk)",
    }
    for section in plan.sections:
        if missing.get(section):
            say(f"{section}: skipped, {missing[section]}")
    if ENVOY in plan.sections and not has(COMPILER):
        say(f"{CONSTANT}: skipped, {COMPILER} is not installed (Debian: gcc)")
    return plan._replace(sections=tuple(section for section in plan.sections if not missing.get(section)))


def _side_by_side(plan: Plan, start: int, running: Stage, samples: Samples, say: Say) -> None:
    if MEMORY in plan.sections:
        _memory(running, samples)
    numbers = range(start * plan.in_each_start, (start + 1) * plan.in_each_start)
    for section, part in ((TRANSPORTS, _transports), (ENVOY, _through_envoy)):
        if section in plan.sections:
            part(plan, numbers, running, samples, say)


def _by_themselves(plan: Plan, running: Stage, samples: Samples, say: Say) -> None:
    for section, parts in ((CORE, ["decisions"]), (GROWTH, ["rules", "tokens", "sizes"])):
        for what in parts if section in plan.sections else ():
            say(f"core: {what}")
            _core(plan, running, what, samples)


def _memory(running: Stage, samples: Samples) -> None:
    """At rest: keys are there, one request was answered."""
    for subject, server in running.servers.items():
        if subject != CONSTANT:  # which is no service
            samples.add(MEMORY, subject, rss_bytes=server.rss_bytes())


def _core(plan: Plan, running: Stage, what: str, samples: Samples) -> None:
    recorded = running.directory / "recorded"
    recorded.write_bytes(running.message)
    with on_core(running.cores.subject):
        command = module("bench.core", what, recorded, plan.in_each_start, plan.calls, plan.tokens)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=CORE_SECONDS)
    if done.returncode:
        raise BenchFailed(done.stderr[-2000:])
    for section, subject, quantities in map(json.loads, done.stdout.splitlines()):
        samples.add(section, subject, **quantities)


def _transports(plan: Plan, numbers: range, running: Stage, samples: Samples, say: Say) -> None:
    subjects = (NATIVE, EMPTY, GRPCIO, EMPTY_NATIVE)
    call = running.directory / "call"
    for subject in subjects:
        if not ask_directly(running.servers[subject], running.message).startswith(core.ALLOWED):
            raise BenchFailed(f"{subject}: a good request was refused")
        with running.turn(subject):
            h2load(running.servers[subject].socket, call, seconds=1, core=running.cores.generator)
    for number in numbers:
        say(f"transports alone: {number + 1} of {plan.repetitions}")
        for subject in subjects:
            server = running.servers[subject]
            with running.turn(subject), _used({"server": server}) as used:
                load = h2load(server.socket, call, seconds=plan.seconds, core=running.cores.generator)
            samples.add(TRANSPORTS, subject, per_second=load.per_second, **_each(used, load))


def _through_envoy(plan: Plan, numbers: range, running: Stage, samples: Samples, say: Say) -> None:
    for subject in running.envoy.ports:
        with running.turn(subject):
            _wrk(running, subject, CONNECTIONS, 1)
    (running.directory / "request").write_bytes(raw_request(running))
    for number in numbers:
        for section in (BUSY, HALF, SINGLE):
            say(f"{section}: {number + 1} of {plan.repetitions}")
            for subject in running.envoy.ports:
                asked = questions(running)
                with running.turn(subject), _used_by(running, subject) as used:
                    load = _load(plan, running, samples, section, subject)
                samples.add(
                    section, subject, per_second=load.per_second, p50_ms=load.p50_ms, p99_ms=load.p99_ms,
                    failed=load.failed, asked=(questions(running) - asked) / load.requests, **_each(used, load),
                )  # fmt: skip


def _load(plan: Plan, running: Stage, samples: Samples, section: str, subject: str) -> Load:
    if section != HALF:
        return _wrk(running, subject, CONNECTIONS if section == BUSY else 1, plan.seconds)
    # Half of what was borne in this repetition: the machine is not as fast in each.
    rate = samples.values(BUSY, NATIVE if subject in SAME_RATE else subject, "per_second")[-1] / 2
    return constant_rate(
        running.envoy.ports[subject], running.directory / "request", rate=rate, seconds=plan.seconds,
        connections=CONNECTIONS, core=running.cores.generator, answer_end=REACHED,
    )  # fmt: skip


def _wrk(running: Stage, subject: str, connections: int, seconds: int) -> Load:
    return wrk(
        running.url(subject), running.headers, connections=connections, seconds=seconds, core=running.cores.generator
    )


@contextmanager
def _used(processes: Mapping[str, Child]) -> Iterator[dict[str, float]]:
    """Processor seconds of each, once it is over."""
    before = {name: process.cpu_seconds() for name, process in processes.items()}
    used: dict[str, float] = {}
    yield used
    used.update({name: process.cpu_seconds() - before[name] for name, process in processes.items()})


def _used_by(running: Stage, subject: str) -> AbstractContextManager[dict[str, float]]:
    server = running.servers.get(subject)
    return _used({"envoy": running.envoy, **({"server": server} if server else {})})


def _each(used: Mapping[str, float], load: Load) -> dict[str, float]:
    """Microseconds for each request: of each process, and of the pair."""
    each = {f"{name}_us": seconds / load.requests * 1e6 for name, seconds in used.items()}
    return {**each, "pair_us": sum(each.values())}

