"""``envoy/envoy.yaml``, and what is left of it when one of its guards is taken out: then authz-service stands alone."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from typing import Any

from authz_service.address import Address
from demo.auth_api import Issuer, auth_api
from demo.envoy_bootstrap import Bootstrap, load, with_endpoints
from tests.support.envoy import RunningEnvoy, run_envoy
from tests.support.service import Service, service
from tests.support.web import serve_app

Change = Callable[[Bootstrap], None]

RULE_HEADER = "x-enforced-rule"


def connection_manager(bootstrap: Bootstrap) -> dict[str, Any]:
    """The ``HttpConnectionManager`` of the one listener."""
    (listener,) = bootstrap["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    (network_filter,) = chain["filters"]
    manager: dict[str, Any] = network_filter["typed_config"]
    return manager


def as_shipped(bootstrap: Bootstrap) -> None:
    """Nothing is changed."""


def raw_headers(bootstrap: Bootstrap) -> None:
    """``ext_authz`` sends ``header_map`` in place of ``headers``."""
    connection_manager(bootstrap)["http_filters"][0]["typed_config"]["encode_raw_headers"] = True


def no_header_guards(bootstrap: Bootstrap) -> None:
    """Names of every spelling get as far as authz-service."""
    manager = connection_manager(bootstrap)
    del manager["early_header_mutation_extensions"]
    manager["common_http_protocol_options"]["headers_with_underscores_action"] = "ALLOW"


def tells_nothing_of_identities(bootstrap: Bootstrap) -> None:
    """authz-service is asked without the ``x-auth-*`` headers that the client sent."""
    allowed = connection_manager(bootstrap)["http_filters"][0]["typed_config"]["allowed_headers"]
    allowed["patterns"] = [pattern for pattern in allowed["patterns"] if "prefix" not in pattern]


def no_path_guards(bootstrap: Bootstrap) -> None:
    """Paths get as far as authz-service, and then chat-api, as clients wrote them."""
    manager = connection_manager(bootstrap)
    manager |= {"normalize_path": False, "merge_slashes": False, "strip_trailing_host_dot": False}
    manager["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"


def tell_rule(bootstrap: Bootstrap) -> None:
    """Answers of chat-api say in ``RULE_HEADER`` which rule let the request through."""
    (host,) = connection_manager(bootstrap)["route_config"]["virtual_hosts"]
    value = "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:rule)%"
    host["response_headers_to_add"] = [
        {"header": {"key": RULE_HEADER, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    ]


@asynccontextmanager
async def deciding(policy: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[tuple[Issuer, Service]]:
    """The service as a process of its own, with its issuer; a valid token would pass."""
    issuer = Issuer("http://issuer.test")
    async with serve_app(auth_api(issuer)) as url:
        settings = {"AUTH_API_ISSUER": issuer.url, "AUTH_API_JWKS_URL": f"{url}/.well-known/jwks.json"}
        async with service(settings | dict(environ or {}), policy) as authz:
            await authz.until_logged("health: SERVING")
            yield issuer, authz


@asynccontextmanager
async def edges(authz: Address, chat_api_port: int, *changes: tuple[Change, ...]) -> AsyncIterator[list[RunningEnvoy]]:
    """One Envoy for each tuple of changes, all before the same service and the same chat-api."""
    async with AsyncExitStack() as stack:
        bootstraps = [_changed(authz, chat_api_port, each) for each in changes]
        yield [await stack.enter_async_context(run_envoy(bootstrap)) for bootstrap in bootstraps]


def _changed(authz: Address, chat_api_port: int, changes: tuple[Change, ...]) -> Bootstrap:
    bootstrap = with_endpoints(
        deepcopy(load()), listener_port=0, authz=[authz], chat_api_port=chat_api_port, admin_port=0
    )
    _as_if_nothing_took_time(bootstrap)
    for change in changes:
        change(bootstrap)
    return bootstrap


def _as_if_nothing_took_time(bootstrap: Bootstrap) -> None:
    """On a busy machine an answer may take longer than users would wait for it; that would be a 503."""
    manager = connection_manager(bootstrap)
    manager["delayed_close_timeout"] = "0.05s"  # how long a client that was refused is kept waiting
    manager["http_filters"][0]["typed_config"]["grpc_service"]["timeout"] = "20s"
    for cluster in bootstrap["static_resources"]["clusters"]:
        cluster["connect_timeout"] = "20s"
        cluster.pop("health_checks", None)
        cluster.pop("outlier_detection", None)
