"""The manifests and the service, Envoy and the drain: what one promises, the other does."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from authz_service.address import Address
from authz_service.config import Config, load_config
from authz_service.decision_server import DRAIN_GRACE_SECONDS, DRAIN_NOTICE_SECONDS
from demo.envoy_bootstrap import load
from tests.support.manifests import Manifests, Object, Pod, each_overlay, manifests, needs_kubectl, quantity
from tools.manifests import DERIVED, SOURCES

pytestmark = needs_kubectl
with_envoy = pytest.mark.parametrize("overlay", DERIVED)
with_authorizers = pytest.mark.parametrize("overlay", ["gateway", "istio", "envoy-gateway"])

DRAIN_SECONDS = DRAIN_NOTICE_SECONDS + DRAIN_GRACE_SECONDS
AT_REST_BYTES = 65 * 2**20
"""What a process takes that has served, without its cache."""
ENVOY_HEAP_SHARE = 0.9


@pytest.fixture
def rendered(overlay: str) -> Manifests:
    return manifests(overlay)


def config_of(rendered: Manifests) -> Config:
    return load_config(rendered.environment(rendered.with_container("authz-service"), "authz-service"))


def bootstrap_of(rendered: Manifests) -> Any:
    return yaml.safe_load(rendered.file(rendered.with_container("envoy"), "envoy", "/etc/envoy/envoy.yaml"))


def pre_stop_seconds(container: Object) -> int:
    """The sleep of Kubernetes, or the last line of a script."""
    hook = container.get("lifecycle", {}).get("preStop", {})
    if "sleep" in hook:
        return int(hook["sleep"]["seconds"])
    *_, last = hook.get("exec", {"command": [""]})["command"][-1].split("sleep ")
    return int(last) if last.strip().isdigit() else 0


def request_seconds() -> float:
    """How long ``envoy/envoy.yaml`` allows a request to take."""
    manager = load()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    return float(route["route"]["timeout"].removesuffix("s"))


# Settings.


@each_overlay
def test_the_service_knows_every_setting_and_accepts_it(rendered: Manifests) -> None:
    given = rendered.environment(rendered.with_container("authz-service"), "authz-service")

    assert given.keys() <= {str(field.alias) for field in Config.model_fields.values()}
    load_config(given)


@each_overlay
def test_the_policy_is_where_the_service_looks_for_it_and_good(rendered: Manifests, tmp_path: Path) -> None:
    pod = rendered.with_container("authz-service")
    path = tmp_path / "policy.yaml"
    path.write_text(rendered.file(pod, "authz-service", str(config_of(rendered).policy_file)), encoding="utf-8")
    environ = rendered.environment(pod, "authz-service") | {"PATH": os.environ["PATH"]}

    result = run(environ, "check-config", "--policy", path)

    assert (result.returncode, result.stderr) == (0, "")


@each_overlay
def test_the_key_set_is_kept_on_a_volume_that_can_be_written(rendered: Manifests) -> None:
    pod, snapshot = rendered.with_container("authz-service"), config_of(rendered).jwks_snapshot_path
    assert snapshot is not None
    mounts = {found["mountPath"]: found for found in pod.container("authz-service")["volumeMounts"]}
    mount = mounts[str(snapshot.parent)]
    (volume,) = (found for found in pod.spec["volumes"] if found["name"] == mount["name"])

    assert "emptyDir" in volume
    assert not mount.get("readOnly", False)


@each_overlay
def test_the_kubelet_and_prometheus_reach_the_admin_port(rendered: Manifests) -> None:
    admin = config_of(rendered).admin_listen
    assert admin == Address("0.0.0.0", rendered.with_container("authz-service").ports["admin"])  # noqa: S104


@with_authorizers
def test_authorizers_listen_at_the_port_that_their_pod_declares(rendered: Manifests) -> None:
    listen = (Address("0.0.0.0", rendered.with_container("authz-service").ports["grpc"]),)  # noqa: S104
    assert config_of(rendered).listen == listen


@with_authorizers
def test_the_kubelet_asks_authorizers_what_envoy_asks(rendered: Manifests) -> None:
    probe = rendered.with_container("authz-service").container("authz-service")["readinessProbe"]["grpc"]
    (check,) = load()["static_resources"]["clusters"][0]["health_checks"]

    assert probe["service"] == check["grpc_health_check"]["service_name"]
    assert probe["port"] == config_of(rendered).listen[0].port


@each_overlay
def test_no_restart_for_want_of_keys(rendered: Manifests) -> None:
    """``/readyz`` and gRPC health tell about keys, which no restart brings; ``/healthz`` tells alive from dead."""
    container = rendered.with_container("authz-service").container("authz-service")
    assert [container[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe")] == ["/healthz"] * 2


# Envoy.


@with_envoy
def test_what_is_shipped_is_clean(rendered: Manifests, tmp_path: Path) -> None:
    pod = rendered.with_container("envoy")
    authz = rendered.with_container("authz-service")
    for name, found, container, path in (
        ("envoy.yaml", pod, "envoy", "/etc/envoy/envoy.yaml"),
        ("policy.yaml", authz, "authz-service", "/etc/authz/policy.yaml"),
    ):
        (tmp_path / name).write_text(rendered.file(found, container, path), encoding="utf-8")

    result = run({}, "lint", "--strict", "--policy", tmp_path / "policy.yaml", "--envoy", tmp_path / "envoy.yaml")

    assert (result.returncode, result.stdout) == (0, "Nothing was found.\n")


@with_envoy
def test_envoy_reads_its_configuration_where_it_is_mounted(rendered: Manifests) -> None:
    args = rendered.with_container("envoy").container("envoy")["args"]
    assert args[args.index("--config-path") + 1] == "/etc/envoy/envoy.yaml"


@with_envoy
def test_envoy_listens_at_the_port_that_its_pod_declares(rendered: Manifests) -> None:
    (listener,) = bootstrap_of(rendered)["static_resources"]["listeners"]
    address = listener["address"]["socket_address"]
    assert (address["address"], address["port_value"]) == ("0.0.0.0", rendered.with_container("envoy").ports["chat"])  # noqa: S104


@with_envoy
def test_envoy_gives_memory_back_before_its_container_is_killed(rendered: Manifests) -> None:
    heap = bootstrap_of(rendered)["overload_manager"]["resource_monitors"][0]["typed_config"]["max_heap_size_bytes"]
    limit = quantity(rendered.with_container("envoy").container("envoy")["resources"]["limits"]["memory"])
    assert heap <= ENVOY_HEAP_SHARE * limit


@each_overlay
def test_there_is_room_for_the_process_and_its_cache(rendered: Manifests) -> None:
    resources = rendered.with_container("authz-service").container("authz-service")["resources"]
    needed = AT_REST_BYTES + config_of(rendered).token_cache_bytes

    assert quantity(resources["requests"]["memory"]) >= needed
    assert quantity(resources["limits"]["memory"]) >= 1.5 * needed
    assert quantity(resources["limits"]["cpu"]) >= 1


@each_overlay
def test_every_container_says_what_it_needs_and_how_much_memory_it_may_take(rendered: Manifests) -> None:
    for _, container in rendered.containers():
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


# In one pod.


def sidecar() -> Pod:
    return manifests("sidecar").with_container("chat-api")


def test_authz_service_starts_before_envoy_and_envoy_before_chat_api() -> None:
    assert [container["name"] for container in sidecar().containers] == ["authz-service", "envoy", "chat-api"]


def test_both_go_on_running_and_end_after_chat_api() -> None:
    assert [container.get("restartPolicy") for container in sidecar().sidecars] == ["Always", "Always"]


def test_the_next_one_waits_until_each_has_started() -> None:
    assert all("startupProbe" in container for container in sidecar().sidecars)


def test_the_socket_is_one_file_in_memory_that_both_see() -> None:
    (listen,) = config_of(manifests("sidecar")).listen
    authz, _ = bootstrap_of(manifests("sidecar"))["static_resources"]["clusters"]
    ((endpoint,),) = (locality["lb_endpoints"] for locality in authz["load_assignment"]["endpoints"])

    assert endpoint["endpoint"]["address"] == {"pipe": {"path": listen.path}}
    directory = str(PurePosixPath(listen.path).parent)
    names = {mount["name"]: found["name"] for found, mount in mounts() if mount["mountPath"] == directory}
    assert list(names) == ["socket"]
    (volume,) = (found for found in sidecar().spec["volumes"] if found["name"] == "socket")
    assert volume["emptyDir"]["medium"] == "Memory"


def test_only_authz_service_and_envoy_see_the_socket_and_are_the_same_user() -> None:
    users = {container["name"]: container["securityContext"]["runAsUser"] for container in sidecar().containers}

    assert {found["name"] for found, mount in mounts() if mount["name"] == "socket"} == {"authz-service", "envoy"}
    assert users["authz-service"] == users["envoy"] != users["chat-api"]


def mounts() -> Iterator[tuple[Object, Object]]:
    return ((found, mount) for found in sidecar().containers for mount in found.get("volumeMounts", ()))


def test_clients_of_the_service_meet_envoy() -> None:
    (port,) = manifests("sidecar").one("Service", "chat-api")["spec"]["ports"]
    assert port["targetPort"] == "chat"


def test_chat_api_is_ready_when_the_whole_way_to_it_is() -> None:
    probe = sidecar().container("chat-api")["readinessProbe"]["httpGet"]
    assert probe["port"] == sidecar().ports["chat"]


# At a gateway.


def service_of(cluster_name: str) -> tuple[Object, int]:
    """The Service that Envoy's cluster names, and the port at which it asks."""
    clusters = bootstrap_of(manifests("gateway"))["static_resources"]["clusters"]
    (cluster,) = (found for found in clusters if found["name"] == cluster_name)
    ((endpoint,),) = (locality["lb_endpoints"] for locality in cluster["load_assignment"]["endpoints"])
    address = endpoint["endpoint"]["address"]["socket_address"]
    return manifests("gateway").one("Service", address["address"])["spec"], address["port_value"]


def test_envoy_finds_each_authorizer_by_its_own_address() -> None:
    service, port = service_of("authz")
    (pod,) = manifests("gateway").selected(service["selector"])

    assert service["clusterIP"] == "None"
    assert port == pod.ports["grpc"]


def test_envoy_finds_chat_api_by_its_service() -> None:
    service, port = service_of("chat_api")

    assert "clusterIP" not in service
    assert [found["port"] for found in service["ports"]] == [port]


def test_envoy_hears_of_authorizers_that_are_not_ready() -> None:
    """Which are well is for its own health checks to say, and what to do when none is."""
    assert manifests("gateway").one("Service", "authz-service-endpoints")["spec"]["publishNotReadyAddresses"] is True


# The end of a pod.


@with_authorizers
def test_no_old_authorizer_goes_before_dns_has_told_of_the_new_one(rendered: Manifests) -> None:
    longest_kept = 30  # by the DNS of a cluster, as it is usually set up
    assert rendered.one("Deployment", "authz-service")["spec"]["minReadySeconds"] >= longest_kept


@with_authorizers
def test_an_authorizer_has_time_to_drain(rendered: Manifests) -> None:
    pod = rendered.with_container("authz-service")
    waits = pre_stop_seconds(pod.container("authz-service"))

    assert waits >= 5
    assert waits + DRAIN_SECONDS < pod.spec["terminationGracePeriodSeconds"]


def test_an_envoy_at_the_gateway_outlasts_its_requests() -> None:
    pod = manifests("gateway").with_container("envoy")
    waits = pre_stop_seconds(pod.container("envoy"))

    assert request_seconds() < waits < pod.spec["terminationGracePeriodSeconds"]


@each_overlay
def test_chat_api_is_told_to_end_after_everybody_has_heard_and_may_finish(rendered: Manifests) -> None:
    pod = rendered.with_container("chat-api")
    waits = pre_stop_seconds(pod.container("chat-api"))
    afterwards = DRAIN_SECONDS if pod.sidecars else 0

    assert waits >= 5
    assert waits + request_seconds() + afterwards < pod.spec["terminationGracePeriodSeconds"]


def test_beside_chat_api_nobody_waits_longer_than_chat_api() -> None:
    """All preStop hooks begin at once: one that took longer would only use up the grace period."""
    waits = [pre_stop_seconds(container) for container in sidecar().containers]
    assert max(waits) == waits[-1]


# Who reaches whom.


ANYBODY: Object = {"podSelector": {"matchLabels": {}}, "namespaceSelector": {"matchLabels": {}}}


def about(rendered: Manifests, name: str, direction: str) -> list[Object]:
    """The rules for these pods; a pod that no policy speaks of is open."""
    specs = [found["spec"] for found in rendered.of("NetworkPolicy")]
    ours = [spec for spec in specs if spec["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}]
    speaking = [spec for spec in ours if direction.capitalize() in spec["policyTypes"]]
    assert speaking
    return [rule for spec in speaking for rule in spec[direction]]


def ingress(rendered: Manifests, name: str) -> dict[int, list[Object]]:
    """Who may come, by port."""
    came: dict[int, list[Object]] = {}
    for rule in about(rendered, name, "ingress"):
        for port in rule["ports"]:
            came.setdefault(port["port"], []).extend(rule.get("from", [ANYBODY]))
    return came


def only(peers: list[Object], kind: str, label: str, value: str) -> bool:
    return bool(peers) and all(peer[kind]["matchLabels"].get(label) == value for peer in peers)


@each_overlay
def test_metrics_are_for_prometheus(rendered: Manifests) -> None:
    came = ingress(rendered, rendered.with_container("authz-service").name)
    assert only(came[9902], "namespaceSelector", "kubernetes.io/metadata.name", "monitoring")


def test_beside_chat_api_the_network_reaches_envoy_alone() -> None:
    assert ingress(manifests("sidecar"), "chat-api").keys() == {10000, 9902}
    assert manifests("sidecar").environment(sidecar(), "chat-api")["HOST"] == "127.0.0.1"


@pytest.mark.parametrize(("name", "port"), [("chat-api", 8080), ("authz-service", 9191)])
def test_at_the_gateway_envoy_alone_reaches_the_others(name: str, port: int) -> None:
    assert only(ingress(manifests("gateway"), name)[port], "podSelector", "app.kubernetes.io/name", "envoy")


@pytest.mark.parametrize(("name", "port"), [("chat-api", 8080), ("authz-service", 9191)])
def test_with_envoy_gateway_its_envoys_alone_reach_the_others(name: str, port: int) -> None:
    peers = ingress(manifests("envoy-gateway"), name)[port]
    assert only(peers, "podSelector", "gateway.envoyproxy.io/owning-gateway-name", "chat")
    assert only(peers, "namespaceSelector", "kubernetes.io/metadata.name", "envoy-gateway-system")


@with_authorizers
def test_authorizers_go_to_the_auth_api_and_dns_and_their_mesh_alone(rendered: Manifests) -> None:
    rules = about(rendered, "authz-service", "egress")
    ports = sorted(port["port"] for rule in rules for port in rule["ports"])

    assert all(rule["to"] for rule in rules)
    assert ports == [53, 53, 8000] + [15012] * (rendered.overlay == "istio")


# In a mesh, and with Envoy Gateway: the same lock, said in their words.


def test_the_mesh_asks_about_every_request() -> None:
    istio = manifests("istio")
    policy = istio.one("AuthorizationPolicy", "chat-api")["spec"]

    assert (policy["action"], policy["rules"]) == ("CUSTOM", [{}])
    assert istio.selected(policy["selector"]["matchLabels"]) == [istio.with_container("chat-api")]


def test_the_mesh_knows_the_provider_and_fails_closed() -> None:
    values = yaml.safe_load((SOURCES / "istio" / "istiod-values.yaml").read_text("utf-8"))["meshConfig"]
    (provider,) = values["extensionProviders"]
    service = manifests("istio").one("Service", "authz-service")
    grpc = provider["envoyExtAuthzGrpc"]

    assert provider["name"] == manifests("istio").one("AuthorizationPolicy", "chat-api")["spec"]["provider"]["name"]
    assert grpc.pop("service") == f"authz-service.{service['metadata']['namespace']}.svc.cluster.local"
    assert grpc.pop("port") == service["spec"]["ports"][0]["port"]
    assert grpc == {"timeout": "1s", "failOpen": False, "statusOnError": "503", "clearRouteCache": False}
    assert values["pathNormalization"] == {"normalization": "MERGE_SLASHES"}


def test_the_mesh_takes_no_plain_text_but_for_metrics() -> None:
    istio = manifests("istio")
    modes = [found["spec"]["mtls"]["mode"] for found in istio.of("PeerAuthentication")]

    assert modes == ["STRICT", "STRICT"]
    assert istio.one("PeerAuthentication", "authz-service")["spec"]["portLevelMtls"] == {"9902": {"mode": "PERMISSIVE"}}


def test_envoy_gateway_asks_about_every_request_and_fails_closed() -> None:
    rendered = manifests("envoy-gateway")
    spec = rendered.one("SecurityPolicy", "chat")["spec"]
    extension = spec["extAuth"]

    assert spec["targetRefs"] == [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "chat"}]
    assert (extension["failOpen"], extension["statusOnError"], extension["recomputeRoute"]) == (False, 503, False)
    assert "headersToExtAuth" not in extension
    (backend,) = extension["grpc"]["backendRefs"]
    assert backend["port"] in [port["port"] for port in rendered.one("Service", backend["name"])["spec"]["ports"]]


def test_envoy_gateway_asks_as_often_and_as_long_as_our_envoy() -> None:
    resources = load()["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    service = manager["http_filters"][0]["typed_config"]["grpc_service"]
    (options,) = resources["clusters"][0]["typed_extension_protocol_options"].values()
    retries = options["retry_policy"]
    extension = manifests("envoy-gateway").one("SecurityPolicy", "chat")["spec"]["extAuth"]
    retry = extension["grpc"]["backendSettings"]["retry"]

    assert extension["timeout"] == service["timeout"]
    assert retry["perRetry"]["timeout"] == f"{service['initial_metadata'][0]['value']}ms"
    assert retry["numRetries"] == retries["num_retries"]
    assert retry["retryOn"]["triggers"] == retries["retry_on"].split(",")


def test_envoy_gateway_removes_what_our_envoy_removes() -> None:
    manager = load()["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    mutations = manager["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    spec = manifests("envoy-gateway").one("ClientTrafficPolicy", "chat")["spec"]

    assert spec["headers"]["earlyRequestHeaders"] == {
        "remove": [found["remove"] for found in mutations if "remove" in found],
        "removeOnMatch": [{"type": "Prefix", "value": "x-auth-"}],
    }  # fmt: skip
    assert spec["headers"]["withUnderscoresAction"] == "RejectRequest"
    assert spec["path"] == {"escapedSlashesAction": "RejectRequest", "disableMergeSlashes": False}


def run(environ: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "authz_service", *map(str, arguments)]
    given = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)
