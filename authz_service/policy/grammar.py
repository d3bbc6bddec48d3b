"""The words of the policy file: how each kind of value is spelled, checked here and published as a JSON Schema."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, StrictInt, StrictStr, WithJsonSchema
from pydantic_core import PydanticKnownError

from authz_service.http_url import HTTP_URL_PATTERN, check_http_url
from authz_service.policy.hosts import HOST_PATTERN, parse_host_pattern
from authz_service.policy.routes import NEVER_METHODS
from authz_service.policy.template import PATH_PATTERN, PREFIX_PATTERN, PathPattern, parse_path, parse_prefix

MAX_TEXT_LENGTH = 256
MAX_URL_LENGTH = 2048
RESERVED_HEADERS = frozenset({"x-auth-contract", "x-auth-shadow"})

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
METHOD_PATTERN = r"^(?!(CONNECT|TRACE)$)[A-Z][A-Z0-9_-]{0,31}$"
PARAMETER_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
ISSUER_PATTERN = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"
HEADER_PATTERN = r"^(?!x-auth-(contract|shadow)$)x-auth-[a-z0-9]+(-[a-z0-9]+)*$"


def _exactly(value: object, written: str) -> BeforeValidator:
    """``1 == True`` in Python; a policy is stricter."""

    def check(given: object) -> object:
        if type(given) is type(value) and given == value:
            return given
        raise PydanticKnownError("literal_error", {"expected": written})

    return BeforeValidator(check)


def _parsed_by(parse: Callable[[str], PathPattern]) -> PlainValidator:
    def check(given: object) -> PathPattern:
        if isinstance(given, str):
            return parse(given)
        raise PydanticKnownError("string_type")

    return PlainValidator(check)


def _spelled(pattern: str, must: str) -> AfterValidator:
    grammar = re.compile(pattern)

    def check(text: str) -> str:
        if grammar.fullmatch(text):
            return text
        raise ValueError(f"{must}, not {text[:MAX_TEXT_LENGTH]!r}")

    return AfterValidator(check)


def _literal_text(text: str) -> str:
    if text and text == text.strip() and text.isprintable() and len(text) <= MAX_TEXT_LENGTH:
        return text
    raise ValueError(
        f"must be text of 1 to {MAX_TEXT_LENGTH} characters, without control characters or spaces around it"
    )


def _method(text: str) -> str:
    if text in NEVER_METHODS:
        raise ValueError(f"{text} is never let through; leave it out")
    if re.fullmatch(METHOD_PATTERN, text):
        return text
    if re.fullmatch(METHOD_PATTERN, text.upper()):
        raise ValueError(f"methods are case-sensitive; write {text.upper()}")
    raise ValueError("must be a method such as GET or POST")


def _url(text: str) -> str:
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(f"must be at most {MAX_URL_LENGTH} characters long")
    return check_http_url(text)


def _issuer(text: str) -> str:
    if "?" in _url(text):
        raise ValueError("must not have a query (OpenID Connect Discovery 1.0 section 3)")
    return text


def _own_header(name: str) -> str:
    if name in RESERVED_HEADERS:
        raise ValueError(f"{name} is what this service itself says; choose another name")
    return name


def _text_schema(pattern: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


RuleName = Annotated[
    StrictStr,
    _spelled(NAME_PATTERN, "must be a short token of a-z, 0-9, '.', '_' and '-'"),
    _text_schema(NAME_PATTERN),
]
Path = Annotated[PathPattern, _parsed_by(parse_path), _text_schema(PATH_PATTERN)]
Prefix = Annotated[PathPattern, _parsed_by(parse_prefix), _text_schema(PREFIX_PATTERN)]
Host = Annotated[StrictStr, AfterValidator(parse_host_pattern), _text_schema(HOST_PATTERN)]
Method = Annotated[StrictStr, AfterValidator(_method), _text_schema(METHOD_PATTERN)]
Text = Annotated[StrictStr, AfterValidator(_literal_text), _text_schema(r"^\S(.*\S)?$", maxLength=MAX_TEXT_LENGTH)]
ParameterName = Annotated[
    StrictStr,
    _spelled(PARAMETER_PATTERN, "must be the name of a parameter of the path"),
    _text_schema(PARAMETER_PATTERN),
]
HeaderName = Annotated[
    StrictStr,
    AfterValidator(_own_header),
    _spelled(HEADER_PATTERN, "must be a lower-case header name that begins with x-auth-"),
    _text_schema(HEADER_PATTERN),
]
HttpUrl = Annotated[StrictStr, AfterValidator(_url), _text_schema(HTTP_URL_PATTERN, maxLength=MAX_URL_LENGTH)]
IssuerUrl = Annotated[StrictStr, AfterValidator(_issuer), _text_schema(ISSUER_PATTERN, maxLength=MAX_URL_LENGTH)]
OnlyTrue = Annotated[Literal[True], _exactly(value=True, written="true")]
Percent = Annotated[StrictInt, Field(ge=0, le=100)]
Version = Annotated[Literal[1], _exactly(value=1, written="1")]
