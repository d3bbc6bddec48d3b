"""One Envoy with a listener for each subject: ``envoy/envoy.yaml`` each time, but for the filter that decides.

All share one process and one worker thread, so that nothing differs between them but that filter. What all go without
is the access log, and a chat-api: the route answers itself, so that a figure is of Envoy and the subject alone.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench.credentials import CLAIMS_TO_HEADERS, ISSUER
from bench.processes import PATIENCE_SECONDS, Child
from demo.auth_api import AUDIENCE
from demo.envoy_bootstrap import ENVOY, Bootstrap, load

REACHED = "reached"
NO_AUTH, JWT_AUTHN, JWT_AUTHN_CACHED = "no auth", "jwt_authn", "jwt_authn, cache"
JWT_CACHE_TOKENS = 1000

Filter = dict[str, Any]


class Envoy(Child):
    """The process; ready when it says so.

    :param sidecars: Unix sockets of ext_authz servers, by subject.
    """

    def __init__(self, directory: Path, key_set: str, sidecars: Mapping[str, Path], *, core: int) -> None:
        self._admin = directory / "envoy-admin"
        config = directory / "envoy.json"
        config.write_text(json.dumps(bootstrap(key_set, sidecars)), encoding="utf-8")
        command = [
            str(ENVOY), "--config-path", str(config), "--admin-address-path", str(self._admin),
            "--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning",
        ]  # fmt: skip
        super().__init__(command, core=core, log=directory / "envoy.log")
        self.ports: dict[str, int] = {}
        """By subject."""

    def ready(self) -> bool:  # noqa: D102
        if not self._admin.exists() or not self._admin.read_text():
            return False
        try:
            listeners = json.loads(self._ask("/listeners?format=json"))["listener_statuses"]
            self.ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in listeners}
            return self._ask("/ready").strip() == "LIVE"
        except OSError:
            return False

    def _ask(self, path: str) -> str:
        with urlopen(f"http://{self._admin.read_text()}{path}", timeout=PATIENCE_SECONDS) as response:
            text: str = response.read().decode()
            return text


def bootstrap(key_set: str, sidecars: Mapping[str, Path]) -> Bootstrap:
    """A listener for each sidecar, for the peers inside Envoy and for no authorization at all."""
    changed = load()
    resources = changed["static_resources"]
    (listener,) = resources["listeners"]
    authz = next(cluster for cluster in resources["clusters"] if cluster["name"] == "authz")
    ext_authz, _router = _manager(listener)["http_filters"]
    deciding: dict[str, list[Filter]] = {
        NO_AUTH: [],
        JWT_AUTHN: [jwt_authn(key_set, cache=False)],
        JWT_AUTHN_CACHED: [jwt_authn(key_set, cache=True)],
        **{subject: [_asking(ext_authz, subject)] for subject in sidecars},
    }
    changed["admin"]["address"]["socket_address"]["port_value"] = 0
    resources["listeners"] = [_listener(listener, subject, filters) for subject, filters in deciding.items()]
    resources["clusters"] = [_cluster(authz, subject, socket) for subject, socket in sidecars.items()]
    return changed


def jwt_authn(key_set: str, *, cache: bool) -> Filter:
    """Envoy's own filter, with the same token, the checks that it has, and the claims in the same headers.

    It holds the token against no rule.
    """
    provider: dict[str, Any] = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": key_set},
        "require_expiration": True,
        "claim_to_headers": [
            {"claim_name": claim, "header_name": name} for claim, name in CLAIMS_TO_HEADERS.items()
        ],
    }  # fmt: skip
    if cache:
        provider["jwt_cache_config"] = {"jwt_cache_size": JWT_CACHE_TOKENS}
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"issuer": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
        },
    }


def _listener(listener: dict[str, Any], subject: str, filters: list[Filter]) -> dict[str, Any]:
    changed = deepcopy(listener)
    changed["name"] = subject
    changed["address"]["socket_address"]["port_value"] = 0
    manager = _manager(changed)
    manager["stat_prefix"] = subject
    del manager["access_log"]
    manager["http_filters"] = [*filters, manager["http_filters"][-1]]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": REACHED}}}
    ]
    return changed


def _manager(listener: dict[str, Any]) -> dict[str, Any]:
    manager: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def _asking(ext_authz: Filter, subject: str) -> Filter:
    """With more patience: on a busy machine the shipped time limits would turn slow answers into more Checks."""
    changed = deepcopy(ext_authz)
    grpc_service = changed["typed_config"]["grpc_service"]
    grpc_service["envoy_grpc"]["cluster_name"] = subject
    grpc_service["timeout"] = f"{PATIENCE_SECONDS}s"
    (one_try,) = grpc_service["initial_metadata"]
    one_try["value"] = str(PATIENCE_SECONDS * 1000)
    return changed


def _cluster(authz: dict[str, Any], subject: str, socket: Path) -> dict[str, Any]:
    changed = deepcopy(authz)
    changed["name"] = subject
    endpoint = {"endpoint": {"address": {"pipe": {"path": str(socket)}}}}
    changed["load_assignment"] = {"cluster_name": subject, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return changed
