"""Envoy configuration, typed by envoy-data-plane: a misspelt field or a value of the wrong type is an error."""

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

from demo.envoy_bootstrap import Bootstrap

TYPE_URL_PREFIX = "type.googleapis.com/"


def typed(bootstrap: Bootstrap) -> Any:
    """An ``envoy.config.bootstrap.v3.Bootstrap``; each ``typed_config`` in it is an ``Any`` to ``unpack()``.

    :raises KeyError: for a field that Envoy's API does not have.
    """
    for type_url in set(_type_urls(bootstrap)):
        envoy_type(type_url.removeprefix(TYPE_URL_PREFIX))  # its import makes the type known to ``Any``
    return envoy_type("envoy.config.bootstrap.v3.Bootstrap").from_dict(bootstrap)


def envoy_type(name: str) -> Any:
    """The class of a message by its full name in Envoy's API."""
    package, _, message = name.rpartition(".")
    with warnings.catch_warnings():
        # The package itself uses what its pydantic calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        return getattr(importlib.import_module(f"envoy_data_plane.{package}"), message)


def _type_urls(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "@type" in node:
            yield node["@type"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _type_urls(child)
