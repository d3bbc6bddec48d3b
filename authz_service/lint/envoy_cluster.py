"""The cluster that ext_authz asks: what keeps a restart, or a dead endpoint, from being an outage."""

from collections.abc import Iterator
from typing import Any

from authz_service.finding import Finding, Severity
from authz_service.lint.documents import Steps, get, items, number, written

ENOUGH_RETRIES = 100
HEALTH_SERVICES = (None, "", "envoy.service.auth.v3.Authorization")
"""What authz-service answers health checks for."""


def lint_cluster(at: Steps, config: dict[str, Any], root: dict[str, Any]) -> Iterator[Finding]:
    """Findings about where a filter's questions go."""
    if get(config, "grpc_service", "google_grpc") is not None:
        yield Finding(
            "envoy_google_grpc", Severity.WARNING, written((*at, "grpc_service", "google_grpc")),
            "this client knows no health checks and no other endpoints",
            "use envoy_grpc with a cluster, as envoy/envoy.yaml does",
        )  # fmt: skip
    name = get(config, "grpc_service", "envoy_grpc", "cluster_name")
    clusters = items(root, "static_resources", "clusters")
    found = [(at_number, cluster) for at_number, cluster in enumerate(clusters) if get(cluster, "name") == name]
    if name is not None and clusters and not found and get(root, "dynamic_resources", "cds_config") is None:
        yield Finding(
            "envoy_no_cluster", Severity.ERROR, written((*at, "grpc_service", "envoy_grpc", "cluster_name")),
            "there is no such cluster: no request gets an answer", "name one of static_resources.clusters",
        )  # fmt: skip
    for at_number, cluster in found:
        where = ("static_resources", "clusters", at_number)
        yield from _about_retries(where, config, cluster)
        yield from _about(where, cluster)


def _about_retries(at: Steps, config: dict[str, Any], cluster: dict[str, Any]) -> Iterator[Finding]:
    """``HttpProtocolOptions.retry_policy``, for all requests to the cluster, or that of this gRPC service."""
    options = get(cluster, "typed_extension_protocol_options")
    of_cluster = [get(each, "retry_policy") for each in options.values()] if isinstance(options, dict) else []
    if all(policy is None for policy in (get(config, "grpc_service", "retry_policy"), *of_cluster)):
        yield Finding(
            "envoy_no_retries", Severity.WARNING, written((*at, "typed_extension_protocol_options")),
            "a restart of authz-service loses requests; a Check changes nothing and may be asked again",
            "copy the retry_policy of envoy/envoy.yaml",
        )  # fmt: skip


def _about(at: Steps, cluster: dict[str, Any]) -> Iterator[Finding]:
    checks = items(cluster, "health_checks")
    if not checks:
        yield Finding(
            "envoy_no_health_check", Severity.WARNING, written((*at, "health_checks")),
            "requests go to an endpoint that drains, or has no keys yet",
            "add a grpc_health_check with service_name envoy.service.auth.v3.Authorization",
        )  # fmt: skip
    for at_number, check in enumerate(checks):
        asked = get(check, "grpc_health_check")
        if asked is None or get(asked, "service_name") not in HEALTH_SERVICES:
            yield Finding(
                "envoy_health_check", Severity.WARNING, written((*at, "health_checks", at_number)),
                "authz-service answers gRPC health checks, about envoy.service.auth.v3.Authorization or everything",
                "use grpc_health_check with that service_name",
            )  # fmt: skip
    thresholds = items(cluster, "circuit_breakers", "thresholds")
    retries = max((number(get(item, "max_retries")) or 0 for item in thresholds), default=0)
    if retries < ENOUGH_RETRIES:
        yield Finding(
            "envoy_few_retries", Severity.WARNING, written((*at, "circuit_breakers")),
            "few retries may run at once (the default is 3), so that most fail just when they are needed",
            "set max_retries: 1024 in thresholds",
        )  # fmt: skip
