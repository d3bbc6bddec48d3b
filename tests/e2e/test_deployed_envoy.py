"""Envoy as ``deploy/kubernetes`` runs it: its derived configurations, and the farewell of its preStop hook."""

import asyncio
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from aiohttp import ClientSession

from authz_service.config import Address
from demo.envoy_bootstrap import ENVOY, load, with_endpoints
from tests.support.envoy import RunningEnvoy, run_envoy
from tests.support.ports import free_port
from tools.manifests import DERIVED, POLICY, SOURCES, lay_out

ENVOYS = {"sidecar": SOURCES / "sidecar" / "pod" / "chat-api.yaml", "gateway": SOURCES / "gateway" / "envoy.yaml"}
"""Where the overlay describes Envoy's container."""


def container(overlay: str) -> Any:
    for found in yaml.safe_load_all(ENVOYS[overlay].read_text(encoding="utf-8")):
        if found["kind"] == "Deployment":
            spec = found["spec"]["template"]["spec"]
            containers = [*spec.get("initContainers", ()), *spec["containers"]]
    return next(found for found in containers if found["name"] == "envoy")


@pytest.mark.parametrize("overlay", DERIVED)
def test_envoy_accepts_the_derived_configuration_and_calls_nothing_in_it_deprecated(
    overlay: str, tmp_path: Path
) -> None:
    lay_out(tmp_path / "tree", POLICY)
    arguments = container(overlay)["args"]
    path = tmp_path / "tree" / overlay / "generated" / "envoy.yaml"
    mounted = [str(path) if argument == "/etc/envoy/envoy.yaml" else argument for argument in arguments]
    assert mounted != arguments

    result = subprocess.run([ENVOY, "--mode", "validate", *mounted], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr.lower()


@pytest.fixture
def envoy() -> Any:
    nobody = Address("127.0.0.1", free_port())
    bootstrap = with_endpoints(load(), listener_port=0, authz=[nobody], chat_api_port=free_port(), admin_port=0)
    with run_envoy(bootstrap) as running:
        yield running


@pytest.mark.parametrize("overlay", ENVOYS)
async def test_pre_stop_bids_each_connection_farewell_and_still_answers(overlay: str, envoy: RunningEnvoy) -> None:
    async with ClientSession() as session:
        async with session.get(envoy.url) as before:
            assert "Connection" not in before.headers

        await pre_stop(overlay, envoy)

        async with session.get(envoy.url) as after:
            assert after.headers["Connection"] == "close"
        async with session.get(envoy.url) as new:
            assert new.status == before.status


@pytest.mark.parametrize("overlay", ENVOYS)
async def test_pre_stop_is_seen_by_whoever_asks_envoy_for_its_health(overlay: str, envoy: RunningEnvoy) -> None:
    await pre_stop(overlay, envoy)

    async with ClientSession() as session, session.get(f"{envoy.admin_url}/ready") as ready:
        assert (ready.status, (await ready.text()).strip()) == (503, "DRAINING")


async def pre_stop(overlay: str, envoy: RunningEnvoy) -> None:
    """The hook as it stands, less its wait, at the admin port of this Envoy."""
    *shell, script = container(overlay)["lifecycle"]["preStop"]["exec"]["command"]
    assert script.count("/9901") == 1
    here = script.replace("/9901", f"/{urlsplit(envoy.admin_url).port}").replace("sleep 35", "")
    process = await asyncio.create_subprocess_exec(*shell, here, stdout=asyncio.subprocess.PIPE)
    answer, _ = await process.communicate()
    assert process.returncode == 0
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
