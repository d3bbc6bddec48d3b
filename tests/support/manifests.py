"""The manifests of ``deploy/kubernetes`` as kustomize renders them."""

import functools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tools.manifests import KUBECTL, OVERLAYS, POLICY, lay_out, render

Object = dict[str, Any]

needs_kubectl = pytest.mark.skipif(shutil.which(KUBECTL) is None, reason=f"{KUBECTL} is not on PATH")
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


class Pod(NamedTuple):
    """A pod as a Deployment makes it."""

    name: str
    labels: dict[str, str]
    spec: Object

    @property
    def sidecars(self) -> list[Object]:
        """Init containers, in the order in which they start."""
        found: list[Object] = self.spec.get("initContainers", [])
        return found

    @property
    def containers(self) -> list[Object]:
        """All of them, in the order in which they start."""
        return [*self.sidecars, *self.spec["containers"]]

    def container(self, name: str) -> Object:
        """By its name."""
        return next(container for container in self.containers if container["name"] == name)

    @property
    def ports(self) -> dict[str, int]:
        """What the containers declare."""
        return {port["name"]: port["containerPort"] for found in self.containers for port in found.get("ports", ())}


class Manifests(NamedTuple):
    """What one overlay renders to."""

    overlay: str
    objects: list[Object]

    def of(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """The object of this kind and name."""
        return next(found for found in self.of(kind) if found["metadata"]["name"] == name)

    def pods(self) -> list[Pod]:
        """One for each Deployment."""
        templates = ((found["metadata"]["name"], found["spec"]["template"]) for found in self.of("Deployment"))
        return [Pod(name, template["metadata"]["labels"], template["spec"]) for name, template in templates]

    def containers(self) -> Iterator[tuple[Pod, Object]]:
        """Every container of every pod."""
        return ((pod, container) for pod in self.pods() for container in pod.containers)

    def with_container(self, name: str) -> Pod:
        """The pod in which that container runs."""
        return next(pod for pod, container in self.containers() if container["name"] == name)

    def selected(self, labels: dict[str, str]) -> list[Pod]:
        """The pods with these labels."""
        return [pod for pod in self.pods() if labels.items() <= pod.labels.items()]

    def file(self, pod: Pod, container: str, path: str) -> str:
        """What a container reads at a path that a ConfigMap gives it."""
        directory, _, name = path.rpartition("/")
        mounts = pod.container(container)["volumeMounts"]
        volume = next(mount["name"] for mount in mounts if mount["mountPath"] == directory)
        source = next(found for found in pod.spec["volumes"] if found["name"] == volume)
        text: str = self.one("ConfigMap", source["configMap"]["name"])["data"][name]
        return text

    def environment(self, pod: Pod, container: str) -> dict[str, str]:
        """What a container's environment says, ConfigMaps and all."""
        found = pod.container(container)
        sources = [self.one("ConfigMap", source["configMapRef"]["name"]) for source in found.get("envFrom", ())]
        given = {name: value for source in sources for name, value in source["data"].items()}
        return given | {variable["name"]: variable["value"] for variable in found.get("env", ())}


@functools.cache
def manifests(overlay: str) -> Manifests:
    """Render an overlay, once."""
    with tempfile.TemporaryDirectory(prefix="manifests-") as directory:
        tree = Path(directory) / "kubernetes"
        lay_out(tree, POLICY)
        return Manifests(overlay, list(yaml.safe_load_all(render(tree / overlay))))


_UNITS = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def quantity(text: str) -> float:
    """A Kubernetes quantity, in bytes or cores."""
    digits = text.rstrip("".join(_UNITS))
    return float(digits) * _UNITS[text.removeprefix(digits)]
