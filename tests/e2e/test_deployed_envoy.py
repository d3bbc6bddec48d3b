"""Envoy as ``deploy/kubernetes`` runs it: its derived configurations, and the farewell of its preStop hook."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from authz_service.address import Address
from demo.envoy_bootstrap import ENVOY, load, with_endpoints
from tests.support.deployed_envoy import envoy_container, pre_stop
from tests.support.envoy import RunningEnvoy, run_envoy
from tests.support.ports import free_port
from tools.manifests import DERIVED, POLICY, lay_out


@pytest.mark.parametrize("overlay", DERIVED)
def test_envoy_accepts_the_derived_configuration_and_calls_nothing_in_it_deprecated(
    overlay: str, tmp_path: Path
) -> None:
    lay_out(tmp_path / "tree", POLICY)
    arguments = envoy_container(overlay)["args"]
    path = tmp_path / "tree" / overlay / "generated" / "envoy.yaml"
    mounted = [str(path) if argument == "/etc/envoy/envoy.yaml" else argument for argument in arguments]
    assert mounted != arguments

    result = subprocess.run([ENVOY, "--mode", "validate", *mounted], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr.lower()


@pytest.fixture
def envoy() -> Iterator[RunningEnvoy]:
    nobody = Address("127.0.0.1", free_port())
    bootstrap = with_endpoints(load(), listener_port=0, authz=[nobody], chat_api_port=free_port(), admin_port=0)
    with run_envoy(bootstrap) as running:
        yield running


@pytest.mark.parametrize("overlay", DERIVED)
async def test_pre_stop_bids_each_connection_farewell_and_still_answers(overlay: str, envoy: RunningEnvoy) -> None:
    async with ClientSession() as session:
        async with session.get(envoy.url) as before:
            assert "Connection" not in before.headers

        await pre_stop(overlay, envoy)

        async with session.get(envoy.url) as after:
            assert after.headers["Connection"] == "close"
        async with session.get(envoy.url) as new:
            assert new.status == before.status


@pytest.mark.parametrize("overlay", DERIVED)
async def test_pre_stop_is_seen_by_whoever_asks_envoy_for_its_health(overlay: str, envoy: RunningEnvoy) -> None:
    await pre_stop(overlay, envoy)

    async with ClientSession() as session, session.get(f"{envoy.admin_url}/ready") as ready:
        assert (ready.status, (await ready.text()).strip()) == (503, "DRAINING")
