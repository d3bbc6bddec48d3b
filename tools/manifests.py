"""``deploy/kubernetes`` -> ``build/kubernetes``, complete, and each overlay of it rendered into ``build/manifests``.

Envoy's configuration and the policy have one source each. Kustomize reads no file outside of its own tree, so the
tree is laid out elsewhere, with both in it: what ``envoy/envoy.yaml`` says, at the addresses of the overlay.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from authz_service.address import Address
from authz_service.errors import ConfigurationError
from authz_service.policy.loader import Policy
from authz_service.policy_file import PolicyFile

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "deploy" / "kubernetes"
TREE, RENDERED = ROOT / "build" / "kubernetes", ROOT / "build" / "manifests"
ENVOY_YAML = ROOT / "envoy" / "envoy.yaml"
POLICY = ROOT / "demo" / "policy.yaml"
OVERLAYS = ("sidecar", "gateway", "istio", "envoy-gateway")
KUBECTL = "kubectl"
ABSENT = f"{KUBECTL} is not on PATH: nothing was rendered; kustomize can do it, too, from build/kubernetes"

EXIT_OK, EXIT_FAILED, EXIT_UNUSABLE = 0, 1, 2

ANYWHERE = Address("0.0.0.0", 10000)  # noqa: S104 - a pod's own network; its NetworkPolicy says who comes in
SOCKET = Address(path="/run/authz/authz.sock")
AUTHORIZERS = Address("authz-service-endpoints", 9191)
CHAT_API = Address("chat-api", 80)

Bootstrap = dict[str, Any]


def for_sidecar(source: Bootstrap) -> Bootstrap:
    """In one pod with authz-service, behind a Unix socket, and chat-api, on loopback as in the source."""
    bootstrap = deepcopy(source)
    _listen(bootstrap)
    _connect(_cluster(bootstrap, "authz"), SOCKET)
    return bootstrap


def for_gateway(source: Bootstrap) -> Bootstrap:
    """In pods of its own: both are found by the names of their Services, each authorizer as an endpoint."""
    bootstrap = deepcopy(source)
    _listen(bootstrap)
    for name, address in (("authz", AUTHORIZERS), ("chat_api", CHAT_API)):
        cluster = _cluster(bootstrap, name)
        cluster["type"] = "STRICT_DNS"
        _connect(cluster, address)
    return bootstrap


DERIVED: dict[str, Callable[[Bootstrap], Bootstrap]] = {"sidecar": for_sidecar, "gateway": for_gateway}
"""The overlays that bring an Envoy of ours."""


def _listen(bootstrap: Bootstrap) -> None:
    (listener,) = bootstrap["static_resources"]["listeners"]
    listener["address"] = _address(ANYWHERE)


def _cluster(bootstrap: Bootstrap, name: str) -> dict[str, Any]:
    clusters: list[dict[str, Any]] = bootstrap["static_resources"]["clusters"]
    return next(cluster for cluster in clusters if cluster["name"] == name)


def _connect(cluster: dict[str, Any], address: Address) -> None:
    endpoint = {"endpoint": {"address": _address(address)}}
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [endpoint]}]


def _address(address: Address) -> dict[str, Any]:
    """``envoy.config.core.v3.Address``."""
    if address.path:
        return {"pipe": {"path": address.path}}
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def lay_out(tree: Path, policy: Path) -> None:
    """Write the whole kustomize tree, in place of the one that is there.

    :raises ConfigurationError: the policy has mistakes, or cannot be read.
    """
    file = PolicyFile(policy)
    if problem := probe_problem(file.load()):
        print(f"{policy}: {problem}", file=sys.stderr)
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(SOURCES, tree)
    _generate(tree / "base" / "generated" / "policy.yaml", file.text)
    source = yaml.safe_load(ENVOY_YAML.read_text(encoding="utf-8"))
    for overlay, derive in DERIVED.items():
        text = yaml.safe_dump(derive(source), sort_keys=False, width=120)
        _generate(tree / overlay / "generated" / "envoy.yaml", f"# From envoy/envoy.yaml, which says why.\n{text}")


def probe_problem(policy: Policy) -> str:
    """Why no pod of the sidecar overlay would ever be ready under this policy; empty: they would.

    The kubelet asks at the pod's address, and that is what ``Host`` says unless the probe has one of its own.
    """
    match = policy.routes.match("GET", ("healthz",))
    problems = []
    if match is None or not match.rule.public:
        problems.append("add a public rule for GET /healthz")
    if not policy.hosts.permits("10.0.0.1:10000"):
        problems.append("add `httpHeaders: [{name: Host, value: ...}]` with one of its hosts to the probe of chat-api")
    if not problems:
        return ""
    return f"sidecar: the readiness probe of chat-api would be denied, and no pod be ready: {', and '.join(problems)}"


def _generate(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")


def render(overlay: Path) -> str:
    """What ``kubectl kustomize`` makes of it; :raises subprocess.CalledProcessError: it makes nothing of it."""
    command = [KUBECTL, "kustomize", str(overlay)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Lay out and render; 1 when kustomize refuses, 2 without kubectl or a usable policy."""
    arguments = _parser().parse_args(argv)
    try:
        lay_out(TREE, arguments.policy)
    except ConfigurationError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return EXIT_UNUSABLE
    if shutil.which(KUBECTL) is None:
        print(ABSENT, file=sys.stderr)
        return EXIT_UNUSABLE
    RENDERED.mkdir(exist_ok=True)
    refused = [overlay for overlay in OVERLAYS if not _render(overlay)]
    return EXIT_FAILED if refused else EXIT_OK


def _render(overlay: str) -> bool:
    target = RENDERED / f"{overlay}.yaml"
    try:
        text = render(TREE / overlay)
    except subprocess.CalledProcessError as error:
        print(f"{overlay}: {error.stderr.strip()}", file=sys.stderr)
        return False
    target.write_text(text, encoding="utf-8")
    print(f"{target.relative_to(ROOT)}: {len(list(yaml.safe_load_all(text)))} objects")
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make manifests", description="Render the Kubernetes manifests of deploy/.")
    parser.add_argument("--policy", type=Path, default=POLICY, help="the policy that they carry (demo/policy.yaml)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
