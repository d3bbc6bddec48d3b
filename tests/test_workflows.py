"""What CI and the commit hooks run is what people run: the targets of the Makefile, which exist."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
MAKE = re.compile(r"make ([a-z0-9-]+)( [A-Z]+=\S+)*")
PINNED = re.compile(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})")
OUR_OWN = {"gh"}
"""Commands beside make: they publish what make has made."""


def workflow(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in workflow(path)["jobs"].items():
            yield from ((f"{path.name}: {name}", step) for step in job["steps"])


def hooks() -> list[dict[str, Any]]:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert all(repo["repo"] == "local" for repo in config["repos"])
    return [hook for repo in config["repos"] for hook in repo["hooks"]]


def is_target(command: str) -> bool:
    found = MAKE.fullmatch(command)
    return found is not None and found[1] in TARGETS


def test_there_are_workflows_and_targets() -> None:
    assert {path.stem for path in WORKFLOWS} == {"ci", "release"}
    assert {"test", "lint", "audit", "sbom"} <= TARGETS


@pytest.mark.parametrize("command", [
    pytest.param(step["run"], id=f"{place}: {step['run'][:20]}") for place, step in steps() if "run" in step
])  # fmt: skip
def test_each_command_is_a_target_that_exists(command: str) -> None:
    assert is_target(command) or command.split(maxsplit=1)[0] in OUR_OWN


@pytest.mark.parametrize("action", sorted({step["uses"] for _, step in steps() if "uses" in step}))
def test_each_action_is_pinned(action: str) -> None:
    assert PINNED.fullmatch(action)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_only_read_unless_a_job_says_otherwise(path: Path) -> None:
    assert workflow(path)["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_job_that_runs_our_code_may_only_read(path: Path) -> None:
    for job in workflow(path)["jobs"].values():
        runs_make = any(step.get("run", "").startswith("make ") for step in job["steps"])
        assert not (runs_make and "permissions" in job)


def test_the_checkout_leaves_no_credentials_to_our_code() -> None:
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_each_python_that_is_promised_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = re.findall(r":: (3\.\d+)", "\n".join(project["classifiers"]))
    (matrix,) = (
        job["strategy"]["matrix"]["python"] for path in WORKFLOWS for job in workflow(path)["jobs"].values()
        if "strategy" in job
    )  # fmt: skip
    assert matrix == promised
    assert project["requires-python"] == f">={promised[0]}"


@pytest.mark.parametrize("hook", hooks(), ids=lambda hook: hook["id"])
def test_each_hook_is_a_target_or_ruff(hook: dict[str, Any]) -> None:
    assert hook["language"] == "system"
    assert is_target(hook["entry"]) or hook["entry"].startswith(".venv/bin/ruff check")
