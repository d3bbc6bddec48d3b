"""Envoy's container as ``deploy/kubernetes`` describes it, and its preStop hook, carried out here."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.support.envoy import RunningEnvoy
from tools.manifests import SOURCES

OVERLAYS = {"sidecar": SOURCES / "sidecar" / "pod" / "chat-api.yaml", "gateway": SOURCES / "gateway" / "envoy.yaml"}
"""Those that bring an Envoy, and where."""


def envoy_container(overlay: str) -> Any:
    """As it stands in the Deployment."""
    found = yaml.safe_load_all(OVERLAYS[overlay].read_text(encoding="utf-8"))
    pod = next(document["spec"]["template"]["spec"] for document in found if document["kind"] == "Deployment")
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    return next(container for container in containers if container["name"] == "envoy")


async def pre_stop(overlay: str, envoy: RunningEnvoy) -> None:
    """The hook as it stands, less its wait, at the admin port of this Envoy."""
    *shell, script = envoy_container(overlay)["lifecycle"]["preStop"]["exec"]["command"]
    assert script.count("/9901") == 1
    here = script.replace("/9901", f"/{urlsplit(envoy.admin_url).port}").replace("sleep 35", "")
    process = await asyncio.create_subprocess_exec(*shell, here, stdout=asyncio.subprocess.PIPE)
    answer, _ = await process.communicate()
    assert process.returncode == 0
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
