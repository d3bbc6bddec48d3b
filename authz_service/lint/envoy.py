"""Envoy's side of the lock: the settings that would undo it, in a configuration as Envoy reads it.

Only what stands in the file is seen: what Envoy fetches from a control plane, or what its runtime overrides, is not.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from authz_service.finding import Finding, Severity
from authz_service.lint.documents import Steps, get, is_on, items, mappings, snake, written
from authz_service.lint.envoy_cluster import lint_cluster
from authz_service.lint.envoy_filter import lint_filter

CONNECTION_MANAGER = "HttpConnectionManager"
EXT_AUTHZ, EXT_AUTHZ_OF_ROUTE = ".ext_authz.v3.ExtAuthz", ".ext_authz.v3.ExtAuthzPerRoute"
FILTER_OF_ROUTE = "envoy.config.route.v3.FilterConfig"
IDENTITY_HEADERS = ("x-auth-sub", "x-auth-roles", "x-auth-permissions", "x-auth-whatever-comes")

# They can change what was decided about: method, path, host, or the identity headers.
MEDDLERS = ("ext_proc", "golang", "header_mutation", "lua", "wasm", "dynamic_modules")


class _Must(NamedTuple):
    """A setting of the connection manager."""

    code: str
    keys: tuple[str, ...]
    values: tuple[object, ...]
    why: str


_READING = (
    _Must("envoy_path_not_normalized", ("normalize_path",), (True,), "/a/../b reaches the decision as it is"),
    _Must("envoy_slashes_not_merged", ("merge_slashes",), (True,), "//a reaches the decision as it is"),
    _Must(
        "envoy_escaped_slashes", ("path_with_escaped_slashes_action",),
        ("REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"),
        "%2F and %5C reach the application, and frameworks disagree about them",
    ),
    _Must(
        "envoy_underscores", ("common_http_protocol_options", "headers_with_underscores_action"),
        ("REJECT_REQUEST", "DROP_HEADER"), "x_auth_sub is x-auth-sub to CGI and WSGI applications",
    ),
)  # fmt: skip


def lint_envoy(configuration: dict[str, Any]) -> list[Finding]:
    """All findings, in the order of the file."""
    root = snake(configuration)
    managers = [(at, found) for at, found in mappings(root) if _is(found, CONNECTION_MANAGER)]
    findings = [finding for at, manager in managers for finding in _lint_manager(at, manager, root)]
    if not managers:
        findings.append(Finding(
            "envoy_no_ext_authz", Severity.ERROR, "the file", "there is no HTTP connection manager in it",
            "name the file with the listeners",
        ))  # fmt: skip
    filters = [found for _, manager in managers for found in items(manager, "http_filters")]
    names = {str(get(found, "name")) for found in filters if _is(get(found, "typed_config"), EXT_AUTHZ)}
    return [*findings, *_about_routes(root, names)]


def _lint_manager(at: Steps, manager: dict[str, Any], root: dict[str, Any]) -> Iterator[Finding]:
    filters = items(manager, "http_filters")
    ours = [number for number, found in enumerate(filters) if _is(get(found, "typed_config"), EXT_AUTHZ)]
    if not ours:
        yield Finding(
            "envoy_no_ext_authz", Severity.ERROR, written((*at, "http_filters")),
            "no ext_authz filter: nobody is asked about the requests of this listener",
            "put the filter before the router, as envoy/envoy.yaml does",
        )  # fmt: skip
        return
    for must in _READING:
        yield from _about_reading(at, manager, must)
    yield from _about_identity(at, manager)
    for number in ours:
        where = (*at, "http_filters", number)
        yield from _about_place(where, filters[number])
        yield from lint_filter((*where, "typed_config"), filters[number]["typed_config"])
        yield from lint_cluster((*where, "typed_config"), filters[number]["typed_config"], root)
    for number, found in enumerate(filters[ours[0] + 1 :], start=ours[0] + 1):
        yield from _about_meddlers((*at, "http_filters", number), found)


def _about_reading(at: Steps, manager: dict[str, Any], must: _Must) -> Iterator[Finding]:
    if get(manager, *must.keys) not in must.values:
        right = " or ".join(str(value).lower() if value is True else str(value) for value in must.values)
        yield Finding(
            must.code, Severity.ERROR, written((*at, *must.keys)), f"not {right}: {must.why}", f"set it to {right}"
        )


def _about_identity(at: Steps, manager: dict[str, Any]) -> Iterator[Finding]:
    extensions = items(manager, "early_header_mutation_extensions")
    mutations = [item for found in extensions for item in items(found, "typed_config", "mutations")]
    matchers = [matcher for item in mutations if (matcher := get(item, "remove_on_match", "key_matcher"))]
    if not all(any(_matches(matcher, name) for matcher in matchers) for name in IDENTITY_HEADERS):
        yield Finding(
            "envoy_identity_headers", Severity.ERROR, written((*at, "early_header_mutation_extensions")),
            "x-auth-* headers of clients are not removed before all filters: with ext_authz switched off, chat-api "
            "would believe them",
            "add the mutation remove_on_match: {key_matcher: {prefix: x-auth-}}",
        )


def _matches(matcher: Any, name: str) -> bool:
    """``envoy.type.matcher.v3.StringMatcher``, as far as it can cover all names that begin alike."""
    prefix = get(matcher, "prefix")
    return isinstance(prefix, str) and prefix != "" and name.startswith(prefix.lower())


def _about_place(at: Steps, found: dict[str, Any]) -> Iterator[Finding]:
    for key in ("disabled", "is_optional"):
        if is_on(found.get(key)):
            yield Finding(
                "envoy_filter_off", Severity.ERROR, written((*at, key)),
                "the filter is left out" if key == "disabled" else "an Envoy without the filter starts all the same",
                f"remove {key}",
            )


def _about_meddlers(at: Steps, found: Any) -> Iterator[Finding]:
    kind = str(get(found, "typed_config", "@type") or "")
    if any(f".{meddler}." in kind for meddler in MEDDLERS):
        yield Finding(
            "envoy_filter_after", Severity.WARNING, written(at),
            "a filter behind ext_authz can change the request that was decided about, or the identity headers",
            "move it before ext_authz, unless you know that it changes neither",
        )


def _about_routes(root: dict[str, Any], names: set[str]) -> Iterator[Finding]:
    """``names``: those of the ext_authz filters, by which routes speak of them."""
    for at, found in mappings(root):
        overrides = get(found, "typed_per_filter_config")
        for name, config in overrides.items() if isinstance(overrides, dict) else ():
            yield from _about_route((*at, "typed_per_filter_config", str(name)), config, ours=name in names)


def _about_route(at: Steps, config: Any, *, ours: bool) -> Iterator[Finding]:
    inner = get(config, "config") if _is(config, FILTER_OF_ROUTE) else None
    if not ours and not any(_is(part, EXT_AUTHZ_OF_ROUTE) for part in (config, inner)):
        return
    if any(is_on(get(part, key)) for part in (config, inner) for key in ("disabled", "is_optional")):
        yield Finding(
            "envoy_route_disabled", Severity.ERROR, written(at), "ext_authz is switched off here",
            "remove it; what needs no token is a public rule of the policy",
        )  # fmt: skip
    for part in (config, inner):
        if get(part, "check_settings", "with_request_body") is not None:
            yield Finding(
                "envoy_body_buffered", Severity.WARNING, written((*at, "check_settings", "with_request_body")),
                "bodies are held back and sent along, and nobody reads them", "remove it",
            )  # fmt: skip


def _is(found: Any, kind: str) -> bool:
    type_url = get(found, "@type")
    return isinstance(type_url, str) and type_url.endswith(kind)
