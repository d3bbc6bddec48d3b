"""``deploy/Dockerfile``, as far as it can be held to its promises without building it."""

import asyncio
import json
import re
import sys
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest
from aiohttp import web

from authz_service.config import load_config
from authz_service.decision_server import DRAIN_GRACE_SECONDS, DRAIN_NOTICE_SECONDS
from tests.support.web import serve_app

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
DOCKER_STOP_SECONDS = 10
"""How long `docker stop` waits for the end."""
PINNED = re.compile(r"[a-z0-9./-]+:[\w.-]+@sha256:[0-9a-f]{64}")


class Instruction(NamedTuple):
    """One line, its continuations joined; ``stage`` counts from 0, and is -1 before the first FROM."""

    stage: int
    name: str
    value: str


def instructions() -> list[Instruction]:
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    found, stage = [], -1
    for line in filter(None, "\n".join(lines).replace("\\\n", " ").splitlines()):
        name, _, value = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, " ".join(value.split())))
    return found


ALL = instructions()
LAST = max(instruction.stage for instruction in ALL)


def values(name: str, stage: int | None = None) -> list[str]:
    return [found.value for found in ALL if found.name == name and stage in {None, found.stage}]


def environment() -> dict[str, str]:
    (text,) = values("ENV", LAST)
    return dict(pair.split("=", 1) for pair in text.split())


def test_every_stage_begins_with_the_one_base_and_its_digest() -> None:
    (argument,) = values("ARG", -1)
    name, _, base = argument.partition("=")

    assert PINNED.fullmatch(base)
    assert [value.partition(" AS ")[0] for value in values("FROM")] == [f"${{{name}}}"] * (LAST + 1)


def test_the_base_is_a_python_that_the_service_supports() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r"/python:(\d+\.\d+)", values("ARG", -1)[0])

    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in project


@pytest.mark.parametrize("copied", [source for value in values("COPY", 0) for source in value.split()[:-1]])
def test_what_is_copied_is_there_and_not_kept_out(copied: str) -> None:
    assert (ROOT / copied).exists()
    assert f"!{copied}" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_nothing_else_gets_into_the_build() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    admitted = {line.removeprefix("!") for line in lines if line.startswith("!")}

    assert [line for line in lines if not line.startswith(("#", "!"))] == ["*", "**/__pycache__"]
    assert admitted == {source for value in values("COPY", 0) for source in value.split()[:-1]}


def test_the_last_stage_takes_the_environment_and_nothing_else() -> None:
    (copied,) = values("COPY", LAST)
    options, source, target = copied.split()

    assert options == "--from=build"
    assert source == target
    assert str(PurePosixPath(source) / "bin") == environment()["PATH"].removesuffix(":$PATH")


def test_what_is_installed_is_locked_by_hash_and_never_compiled() -> None:
    installs = [value for value in values("RUN") if re.search(r"pip .*\binstall ", value) and "--no-index" not in value]

    assert len(installs) == 2
    assert all("--require-hashes --only-binary :all: -r requirements/" in value for value in installs)


def test_the_last_stage_keeps_no_installer() -> None:
    (command,) = values("RUN", LAST)

    assert command == "pip uninstall --yes pip && rm -rf /usr/local/lib/python3*/ensurepip"
    (environment_made,) = [value for value in values("RUN", 0) if " venv " in value]
    assert "--without-pip" in environment_made


def test_our_own_code_is_compiled_or_there_is_no_image() -> None:
    (wheel,) = [value for value in values("RUN", 0) if " wheel " in value]
    assert wheel.startswith("COMPILE=required pip wheel --no-build-isolation --no-deps ")
    assert not any("apt-get" in value for value in values("RUN", LAST))


def test_it_runs_as_nobody_in_particular_by_number() -> None:
    user, group = values("USER", LAST)[-1].split(":")

    assert int(user) > 0
    assert int(group) > 0


def test_its_settings_are_ours_and_reachable_from_outside_of_the_container() -> None:
    config = load_config(environment())

    assert config.policy_file == Path("/etc/authz/policy.yaml")
    assert [address.host for address in (*config.listen, config.admin_listen)] == ["0.0.0.0", "0.0.0.0"]  # noqa: S104
    assert values("EXPOSE", LAST) == [f"{config.listen[0].port} {config.admin_listen.port}"]


def test_it_drains_before_docker_loses_patience() -> None:
    assert values("STOPSIGNAL") == []  # SIGTERM
    assert DRAIN_NOTICE_SECONDS + DRAIN_GRACE_SECONDS < DOCKER_STOP_SECONDS


def test_it_serves_unless_told_otherwise() -> None:
    assert [json.loads(value) for value in values("ENTRYPOINT", LAST)] == [["authz-service"]]
    assert [json.loads(value) for value in values("CMD", LAST)] == [["serve"]]


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
async def test_the_health_check_tells_alive_from_dead(status: int, code: int) -> None:
    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    async with serve_app(app) as url:
        assert await _health_check(url.rpartition(":")[2]) == code


async def test_the_health_check_tells_when_nobody_is_there() -> None:
    assert await _health_check("1") == 1


async def _health_check(port: str) -> int:
    """The image's own command, at another port, with a busy machine's patience."""
    (text,) = values("HEALTHCHECK", LAST)
    python, *arguments = json.loads(text.partition(" CMD ")[2])
    assert python == "python"
    own_port = str(load_config(environment()).admin_listen.port)
    changed = [argument.replace(own_port, port).replace("timeout=2", "timeout=60") for argument in arguments]
    assert changed != arguments
    process = await asyncio.create_subprocess_exec(sys.executable, *changed, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait()
