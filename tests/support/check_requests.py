"""What Envoy sends and what it makes of the answer, by envoy-data-plane: a second reading of Envoy's wire format."""

from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from tests.support.envoy_types import envoy_type

AUTH = "envoy.service.auth.v3"
CORE = "envoy.config.core.v3"


class Answer(NamedTuple):
    """A ``CheckResponse`` as Envoy reads it."""

    code: int
    allowed: bool
    http_status: int
    """0 on allow."""
    headers: list[tuple[str, str]]
    """Set on the request (allow), or on the answer to the client (denial)."""
    removed: list[str]
    body: str
    metadata: dict[str, Any]
    is_error: bool
    """Counted as ``ext_authz.error``, not as ``ext_authz.denied``."""


message = cache(envoy_type)


def check_request(
    method: str = "GET",
    path: str = "/",
    host: str = "chat.example.com",
    headers: Iterable[tuple[str, str]] = (),
    *,
    raw: bool = False,
    request_id: str = "",
) -> bytes:
    """An encoded ``CheckRequest``.

    :param headers: names are sent as given (Envoy's are in lower case). Repeated ones are joined by a comma, as Envoy
        does, unless ``raw``.
    :param raw: as Envoy under ``encode_raw_headers``: ``header_map`` and ``raw_value``, repeated headers repeated.
    :param request_id: sent as ``x-request-id``.
    """
    pairs = [*headers, *([("x-request-id", request_id)] if request_id else [])]
    http = message(f"{AUTH}.AttributeContextHttpRequest")(
        id="17", method=method, path=path, host=host, scheme="http", protocol="HTTP/1.1", size=-1,
        **({"header_map": header_map(pairs)} if raw else {"headers": joined(pairs)}),
    )  # fmt: skip
    return encode(http)


def encode(http: Any) -> bytes:
    """Wrap an ``AttributeContext.HttpRequest`` of envoy-data-plane as a ``CheckRequest``."""
    request = message(f"{AUTH}.AttributeContextRequest")(http=http)
    attributes = message(f"{AUTH}.AttributeContext")(request=request)
    return bytes(message(f"{AUTH}.CheckRequest")(attributes=attributes))


def header_map(headers: Iterable[tuple[str, str | bytes]]) -> Any:
    """Raw headers; text is encoded as UTF-8."""
    value = message(f"{CORE}.HeaderValue")
    return message(f"{CORE}.HeaderMap")(headers=[
        value(key=name, raw_value=text.encode() if isinstance(text, str) else text) for name, text in headers
    ])  # fmt: skip


def joined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One entry per name."""
    result: dict[str, str] = {}
    for name, value in headers:
        result[name] = f"{result[name]},{value}" if name in result else value
    return result


def decode(answer: bytes) -> Any:
    """The ``CheckResponse`` of envoy-data-plane."""
    return message(f"{AUTH}.CheckResponse").parse(answer)


def http_response(response: Any) -> Any:
    """Whichever of the three a decoded ``CheckResponse`` has (an empty message of betterproto2 is falsy)."""
    parts = (response.ok_response, response.denied_response, response.error_response)
    (part,) = (part for part in parts if part is not None)
    return part


def read_answer(answer: bytes) -> Answer:
    """Read an answer as Envoy does: ``status.code`` decides, then whichever ``http_response`` goes with it.

    :raises AssertionError: for an answer whose parts disagree, or that leaves a verdict to a default.
    """
    response = decode(answer)
    assert response.status is not None, "an absent status would mean allow"
    allowed = response.status.code == 0
    part = http_response(response)
    assert (part is response.ok_response) == allowed, "verdict and response disagree"
    return Answer(
        code=response.status.code, allowed=allowed,
        http_status=0 if allowed else int(part.status.code),
        headers=[_header(option) for option in part.headers],
        removed=list(part.headers_to_remove) if allowed else [],
        body="" if allowed else part.body,
        metadata={} if response.dynamic_metadata is None else response.dynamic_metadata.to_dict(),
        is_error=response.error_response is not None,
    )  # fmt: skip


def _header(option: Any) -> tuple[str, str]:
    overwrite = message(f"{CORE}.HeaderValueOptionHeaderAppendAction").OVERWRITE_IF_EXISTS_OR_ADD
    assert option.append_action == overwrite, "left to a default, it appends"
    assert option.keep_empty_value or option.header.value, "an empty value would be dropped"
    return option.header.key, option.header.value
