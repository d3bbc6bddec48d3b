"""The ext_authz filter's own settings (``envoy.extensions.filters.http.ext_authz.v3.ExtAuthz``)."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from authz_service.finding import Finding, Severity
from authz_service.lint.documents import Steps, get, is_on, number, written

SHORTEST_SECONDS = 0.25
"""A token with an unknown key id waits up to 0.15 s for the new key."""
LONGEST_SECONDS = 5.0

_DENOMINATORS = {"HUNDRED": 100, "TEN_THOUSAND": 10_000, "MILLION": 1_000_000}
_CLIENT_ERROR, _SERVER_ERROR = 400, 500
_FORBIDDEN = 403
_NAMED_STATUS = {status.phrase.replace(" ", ""): status.value for status in HTTPStatus}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)s")


def lint_filter(at: Steps, config: dict[str, Any]) -> list[Finding]:
    """Findings about one filter; its cluster is looked at elsewhere."""
    return [
        Finding(code, severity, written((*at, *key.split("."))), message, advice)
        for code, severity, key, message, advice in _all(config)
    ]


_Found = tuple[str, Severity, str, str, str]


def _all(config: dict[str, Any]) -> Iterator[_Found]:
    if is_on(config.get("failure_mode_allow")):
        yield ("envoy_failure_mode_allow", Severity.ERROR, "failure_mode_allow",
               "when authz-service does not answer, every request passes", "set it to false")  # fmt: skip
    if is_on(config.get("clear_route_cache")):
        yield ("envoy_clear_route_cache", Severity.ERROR, "clear_route_cache",
               "an injected header can choose another route than the authorized one", "set it to false")  # fmt: skip
    if config.get("validate_mutations") is not True:
        yield ("envoy_mutations_unchecked", Severity.WARNING, "validate_mutations",
               "a line break in an answer's header would split the response", "set it to true")  # fmt: skip
    if config.get("with_request_body") is not None:
        yield ("envoy_body_buffered", Severity.WARNING, "with_request_body",
               "bodies are held back and sent along, and nobody reads them", "remove it")  # fmt: skip
    yield from _about_status(config)
    yield from _about_switch(config)
    yield from _about_service(config)


def _about_status(config: dict[str, Any]) -> Iterator[_Found]:
    code = get(config, "status_on_error", "code")
    status = _FORBIDDEN if code is None else number(code) or _NAMED_STATUS.get(str(code), 0)
    if status < _CLIENT_ERROR:
        yield ("envoy_status_on_error", Severity.ERROR, "status_on_error",
               "a request that could not be decided seems to have succeeded", "set it to {code: 503}")  # fmt: skip
    elif status < _SERVER_ERROR:
        yield ("envoy_status_on_error", Severity.WARNING, "status_on_error",
               f"users read {status}, as if it were their fault, when authz-service does not answer",
               "set it to {code: 503}")  # fmt: skip


def _about_switch(config: dict[str, Any]) -> Iterator[_Found]:
    """``filter_enabled`` lets unchecked requests pass, unless ``deny_at_disable`` holds."""
    share = get(config, "filter_enabled", "default_value")
    denies = get(config, "deny_at_disable", "default_value") is True
    if config.get("filter_enabled") is not None and not denies:
        yield ("envoy_filter_enabled", Severity.ERROR, "deny_at_disable",
               "one runtime key (filter_enabled) lets requests pass unchecked",
               "set deny_at_disable with default_value: true")  # fmt: skip
    if share is not None and not _is_whole(share):
        yield ("envoy_filter_enabled", Severity.ERROR, "filter_enabled.default_value",
               f"not each request is checked; the others are {'refused' if denies else 'let through'}",
               "set it to 100 HUNDRED, or remove filter_enabled")  # fmt: skip
    if config.get("filter_enabled_metadata") is not None:
        yield ("envoy_filter_enabled", Severity.ERROR, "filter_enabled_metadata",
               "what other filters say decides whether a request is checked", "remove it")  # fmt: skip


def _is_whole(share: Any) -> bool:
    numerator, whole = number(get(share, "numerator")), _DENOMINATORS.get(str(get(share, "denominator") or "HUNDRED"))
    return numerator is not None and whole is not None and numerator >= whole


def _about_service(config: dict[str, Any]) -> Iterator[_Found]:
    if config.get("grpc_service") is None:
        yield ("envoy_no_grpc_service", Severity.ERROR, "grpc_service", "authz-service is asked over gRPC only",
               "name the cluster with grpc_service: {envoy_grpc: {cluster_name: ...}}")  # fmt: skip
        return
    seconds = _seconds(get(config, "grpc_service", "timeout"))
    if seconds is None:
        yield ("envoy_timeout", Severity.WARNING, "grpc_service.timeout",
               "the default of 0.2 s leaves no time to try again, nor for a new key", "set it to 0.5s")  # fmt: skip
    elif not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
        short = 0 < seconds < SHORTEST_SECONDS
        message = "too short for a new key" if short else "a process that hangs holds requests up"
        yield ("envoy_timeout", Severity.WARNING, "grpc_service.timeout", message, "set it to 0.5s")


def _seconds(given: Any) -> float | None:
    """A protobuf Duration in JSON."""
    found = _DURATION.fullmatch(given) if isinstance(given, str) else None
    return float(found[1]) if found else None
