"""Each setting of ``envoy/envoy.yaml`` that keeps the lock: change it, and exactly that is found."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz_service.errors import ConfigurationError
from authz_service.finding import Finding, Severity
from authz_service.lint.documents import get, read_document
from authz_service.lint.envoy import lint_envoy
from demo.envoy_bootstrap import ENVOY_YAML

SHIPPED = read_document(Path(ENVOY_YAML).read_text(encoding="utf-8"))
MANAGER = ("static_resources", "listeners", 0, "filter_chains", 0, "filters", 0, "typed_config")
FILTER = (*MANAGER, "http_filters", 0)
AUTHZ = (*FILTER, "typed_config")
ROUTE = (*MANAGER, "route_config", "virtual_hosts", 0, "routes", 0)
CLUSTER = ("static_resources", "clusters", 0)
OPTIONS = (*CLUSTER, "typed_extension_protocol_options", "envoy.extensions.upstreams.http.v3.HttpProtocolOptions")
TYPE = "type.googleapis.com/"
GONE = object()

Change = tuple[tuple[str | int, ...], object]


def changed(*changes: Change) -> dict[str, Any]:
    configuration = deepcopy(SHIPPED)
    for keys, value in changes:
        around: Any = configuration
        for key in keys[:-1]:
            around = around[key]
        if value is GONE:
            del around[keys[-1]]
        else:
            around[keys[-1]] = value
    return configuration


def found(*changes: Change) -> list[Finding]:
    return lint_envoy(changed(*changes))


def test_the_shipped_configuration_is_clean() -> None:
    assert lint_envoy(SHIPPED) == []


def camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.split("_")[0] + "".join(part.capitalize() for part in key.split("_")[1:]): camel(item)
                for key, item in value.items()}  # fmt: skip
    return [camel(item) for item in value] if isinstance(value, list) else value


def test_json_with_the_names_of_protobuf_is_the_same() -> None:
    open_door = camel(changed(((*AUTHZ, "failure_mode_allow"), True)))
    assert lint_envoy(read_document(json.dumps(camel(SHIPPED)))) == []
    assert [finding.code for finding in lint_envoy(open_door)] == ["envoy_failure_mode_allow"]


OFF = {"@type": f"{TYPE}envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute", "disabled": True}
LUA = {"name": "lua", "typed_config": {"@type": f"{TYPE}envoy.extensions.filters.http.lua.v3.Lua"}}
ROUTER = get(SHIPPED, *MANAGER, "http_filters", 1)


@pytest.mark.parametrize(("code", "keys", "values"), [
    ("envoy_failure_mode_allow", (*AUTHZ, "failure_mode_allow"), (True, "true", 1)),
    ("envoy_clear_route_cache", (*AUTHZ, "clear_route_cache"), (True,)),
    ("envoy_status_on_error", (*AUTHZ, "status_on_error"), ({"code": 200}, {"code": "OK"}, {"code": "302"})),
    ("envoy_filter_enabled", (*AUTHZ, "deny_at_disable"), (GONE, {"default_value": False}, {"runtime_key": "a"})),
    ("envoy_filter_enabled", (*AUTHZ, "filter_enabled", "default_value", "numerator"), (99, 0, GONE, "99", "all")),
    ("envoy_filter_enabled", (*AUTHZ, "filter_enabled", "default_value", "denominator"), ("MILLION", "SOME")),
    ("envoy_filter_enabled", (*AUTHZ, "filter_enabled_metadata"), ({},)),
    ("envoy_no_grpc_service", (*AUTHZ, "grpc_service"), (GONE,)),
    ("envoy_no_cluster", (*AUTHZ, "grpc_service", "envoy_grpc", "cluster_name"), ("elsewhere",)),
    ("envoy_filter_off", (*FILTER, "disabled"), (True,)),
    ("envoy_filter_off", (*FILTER, "is_optional"), (True,)),
    ("envoy_no_ext_authz", (*MANAGER, "http_filters"), ([], GONE, [ROUTER])),
    ("envoy_no_ext_authz", ("static_resources", "listeners"), ([], GONE)),
    ("envoy_path_not_normalized", (*MANAGER, "normalize_path"), (False, GONE)),
    ("envoy_slashes_not_merged", (*MANAGER, "merge_slashes"), (False, GONE)),
    ("envoy_escaped_slashes", (*MANAGER, "path_with_escaped_slashes_action"), ("KEEP_UNCHANGED", GONE)),
    ("envoy_underscores", (*MANAGER, "common_http_protocol_options", "headers_with_underscores_action"),
     ("ALLOW", GONE)),
    ("envoy_underscores", (*MANAGER, "common_http_protocol_options"), (GONE,)),
    ("envoy_identity_headers", (*MANAGER, "early_header_mutation_extensions"), (GONE, [])),
    ("envoy_identity_headers", (*MANAGER, "early_header_mutation_extensions", 0, "typed_config", "mutations", 0),
     ({"remove": "x-auth-sub"}, {"remove_on_match": {"key_matcher": {"prefix": "x-auth-sub"}}},
      {"remove_on_match": {"key_matcher": {"prefix": ""}}},
      {"remove_on_match": {"key_matcher": {"exact": "x-auth-"}}})),
    ("envoy_route_disabled", (*ROUTE, "typed_per_filter_config"), (
        {"envoy.filters.http.ext_authz": OFF}, {"by-another-name": OFF},
        {"envoy.filters.http.ext_authz": {"@type": f"{TYPE}envoy.config.route.v3.FilterConfig", "disabled": True}},
        {"x": {"@type": f"{TYPE}envoy.config.route.v3.FilterConfig", "config": OFF}},
    )),
])  # fmt: skip
def test_what_opens_the_door_is_one_error(code: str, keys: tuple[str | int, ...], values: tuple[object, ...]) -> None:
    for value in values:
        assert [(finding.code, finding.severity) for finding in found((keys, value))] == [(code, Severity.ERROR)], value


@pytest.mark.parametrize(("code", "keys", "values"), [
    ("envoy_status_on_error", (*AUTHZ, "status_on_error"), (GONE, {"code": 403}, {"code": "Forbidden"}, {})),
    ("envoy_timeout", (*AUTHZ, "grpc_service", "timeout"), (GONE, "0.2s", "0s", "30s", "soon")),
    ("envoy_mutations_unchecked", (*AUTHZ, "validate_mutations"), (GONE, False)),
    ("envoy_body_buffered", (*AUTHZ, "with_request_body"), ({"max_request_bytes": 8192},)),
    ("envoy_body_buffered", (*ROUTE, "typed_per_filter_config"), (
        {"x": {"@type": OFF["@type"], "check_settings": {"with_request_body": {"max_request_bytes": 1}}}},
    )),
    ("envoy_no_retries", (*OPTIONS, "retry_policy"), (GONE,)),
    ("envoy_google_grpc", (*AUTHZ, "grpc_service"), (
        {"google_grpc": {"target_uri": "127.0.0.1:9191"}, "timeout": "0.5s"},
    )),
    ("envoy_no_health_check", (*CLUSTER, "health_checks"), (GONE, [])),
    ("envoy_health_check", (*CLUSTER, "health_checks", 0), ({"http_health_check": {"path": "/"}},)),
    ("envoy_health_check", (*CLUSTER, "health_checks", 0, "grpc_health_check", "service_name"), ("chat",)),
    ("envoy_few_retries", (*CLUSTER, "circuit_breakers"), (GONE, {"thresholds": [{"max_retries": 3}]})),
    ("envoy_filter_after", (*MANAGER, "http_filters", 1), (LUA,)),
])  # fmt: skip
def test_what_works_and_hardly_as_meant_is_one_warning(
    code: str, keys: tuple[str | int, ...], values: tuple[object, ...]
) -> None:
    for value in values:
        (finding,) = found((keys, value))
        assert (finding.code, finding.severity) == (code, Severity.WARNING), value


@pytest.mark.parametrize("change", [
    ((*AUTHZ, "failure_mode_allow"), GONE), ((*AUTHZ, "clear_route_cache"), GONE), ((*AUTHZ, "filter_enabled"), GONE),
    ((*MANAGER, "path_with_escaped_slashes_action"), "UNESCAPE_AND_REDIRECT"),
    ((*AUTHZ, "status_on_error"), {"code": "ServiceUnavailable"}), ((*AUTHZ, "status_on_error"), {"code": "503"}),
    ((*MANAGER, "early_header_mutation_extensions", 0, "typed_config", "mutations", 0),
     {"remove_on_match": {"key_matcher": {"prefix": "X-Auth"}}}),
])  # fmt: skip
def test_other_ways_to_say_the_same_are_no_finding(change: Change) -> None:
    assert found(change) == []


def test_retries_may_be_said_where_envoy_before_1_37_reads_them() -> None:
    of_service = ((*AUTHZ, "grpc_service", "retry_policy"), {"retry_on": "unavailable", "num_retries": 1})

    assert found(((*OPTIONS, "retry_policy"), GONE), of_service) == []


def test_a_cluster_from_a_control_plane_is_not_missed() -> None:
    moved = changed(((*CLUSTER, "name"), "other"), (("dynamic_resources",), {"cds_config": {"ads": {}}}))
    assert lint_envoy(moved) == []


def test_a_finding_names_its_place_and_what_to_do() -> None:
    (finding,) = found(((*AUTHZ, "failure_mode_allow"), True))
    assert finding.place == (
        "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.http_filters[0].typed_config."
        "failure_mode_allow"
    )
    assert finding.advice == "set it to false"


every_key = [
    (*AUTHZ, key) for key in (*get(SHIPPED, *AUTHZ), "with_request_body", "filter_enabled_metadata")
] + [(*MANAGER, key) for key in get(SHIPPED, *MANAGER)] + [(*CLUSTER, key) for key in get(SHIPPED, *CLUSTER)] + [
    (*FILTER, "disabled"), (*FILTER, "typed_config"), (*ROUTE, "typed_per_filter_config"), ("static_resources",),
    (*AUTHZ, "filter_enabled", "default_value"), (*AUTHZ, "grpc_service", "timeout"), (*CLUSTER, "circuit_breakers"),
]  # fmt: skip
odd: Callable[[], st.SearchStrategy[Any]] = lambda: st.recursive(  # noqa: E731 - strategies are made where they are used
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["code", "thresholds", "max_retries", "default_value", "numerator", "@type", "x"]), inner,
        max_size=3,
    ), max_leaves=6,
)  # fmt: skip


@given(st.sampled_from(every_key), odd())
def test_nothing_in_a_place_breaks_it(keys: tuple[str | int, ...], value: Any) -> None:
    assert all(isinstance(finding, Finding) for finding in found((keys, value)))


def test_endless_aliases_end() -> None:
    layers = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30))
    assert lint_envoy(read_document(f"l0: &l0 [a]\n{layers}\n"))[0].code == "envoy_no_ext_authz"


def test_a_loop_of_aliases_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        lint_envoy(read_document("a: &a\n  b: *a\n"))
