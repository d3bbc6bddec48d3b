"""Environment variables in, one frozen :class:`Config` out, or every mistake at once."""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from authz_service.address import Address
from authz_service.errors import ConfigurationError
from authz_service.http_url import check_http_url, well_known

OWN_PREFIXES = ("AUTHZ_", "JWKS_", "JWT_")
"""Names under these prefixes are ours: an unknown one is a typing mistake, not somebody else's variable."""

SHARED_PREFIXES = ("AUTH_API_", "USE_OAUTH")
"""Names under these prefixes may be somebody else's; only what is nearly a setting of ours is a typing mistake."""

NEARLY = 0.9
"""The ratio of difflib for a letter or two; ``AUTH_API_ISSUER_URL`` is further off and may be somebody else's."""

SIMILAR = 0.75
"""The ratio of difflib for a name worth a question; below it, what is found shares little but its prefix."""

MEANT = {
    "AUTHZ_ADMIN_PORT": "AUTHZ_ADMIN_LISTEN",
    "AUTHZ_PORT": "AUTHZ_LISTEN",
    "AUTHZ_WORKERS": "serve --workers N",
    "JWKS_URL": "AUTH_API_JWKS_URL",
    "JWT_ISSUER": "AUTH_API_ISSUER",
    "JWT_LEEWAY": "JWT_LEEWAY_SECONDS",
}
"""What is meant by names that are not spelled like it."""

WHAT_WOULD_BE_RIGHT = {
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "float_parsing": "must be a number",
}
"""Where pydantic says how it failed, by its type of error."""

KUBERNETES_SERVICE_LINK = re.compile(
    r"""\w+ (
        _SERVICE_HOST = {address}
      | _SERVICE_PORT (_\w+)? = [0-9]+
      | _PORT (_[0-9]+_{protocol})? = (tcp|udp|sctp)://\[?{address}]?:[0-9]+
      | _PORT_[0-9]+_{protocol} (_PROTO = (tcp|udp|sctp) | _PORT = [0-9]+ | _ADDR = {address})
    )""".format(address="[0-9a-f:.]+", protocol="(TCP|UDP|SCTP)"), re.ASCII | re.VERBOSE,
)  # fmt: skip
"""``NAME=value`` of what a Kubernetes Service called ``authz`` puts into each pod: ``AUTHZ_SERVICE_HOST=10.0.0.11`` and
its like are not ours. ``AUTHZ_LISTEN_PORT=9191`` is somebody's mistake: Kubernetes would say ``tcp://10.0.0.11:9191``."""


def _not_blank(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; give a value, or leave the variable unset for its default")
    return value


def _comma_separated(value: object) -> object:
    if not isinstance(value, str):
        return value
    items = [item.strip() for item in value.split(",")]
    if not all(items):
        raise ValueError("must be a comma-separated list without empty items")
    return items


def _address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _addresses(value: object) -> object:
    items = _comma_separated(value)
    return [_address(item) for item in items] if isinstance(items, list) else items


def _each_once(addresses: tuple[Address, ...]) -> tuple[Address, ...]:
    for one, other in combinations(addresses, 2):
        if one.covers(other) or other.covers(one):
            if one == other:
                raise ValueError(f"names {one} more than once; each address can be listened on once")
            raise ValueError(f"{one} and {other} overlap; leave one out, or give it another port")
    return addresses


def are_in_each_others_way(envoys: Address, admin: Address) -> bool:
    """Whether one of where Envoy connects and the admin port leaves no room for the other."""
    # [::] is IPv4 as well where Envoy connects (transport/listening.py), and not where the admin port is.
    return envoys.covers(admin) or admin.covers(envoys, ipv4_too=False)


def _not_envoys(address: Address, others: ValidationInfo) -> Address:
    for envoys in others.data.get("listen", ()):  # absent where it has a mistake itself
        if are_in_each_others_way(envoys, address):
            problem = "is in AUTHZ_LISTEN as well" if address == envoys else f"overlaps {envoys} of AUTHZ_LISTEN"
            raise ValueError(f"{problem}; the admin port needs an address of its own")
    return address


def _installed_if_on(value: str) -> str:
    if value == "otlp" and not all(map(_installed, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))):
        raise ValueError("needs OpenTelemetry: pip install 'authz-service[otel]', or choose 'off'")
    return value


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is a part of
        return False


HttpUrl = Annotated[str, AfterValidator(check_http_url), BeforeValidator(_not_blank)]
# RFC 7518 section 3.1, less what is symmetric and what the key objects do not support.
Algorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
TextList = Annotated[tuple[str, ...], BeforeValidator(_comma_separated), BeforeValidator(_not_blank)]


class Config(BaseModel):
    """The whole configuration. Field aliases are the environment's names; descriptions are the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    issuer: HttpUrl = Field(
        "http://auth-api:8000", alias="AUTH_API_ISSUER",
        description="required `iss`, exact match; if the policy file has `issuers`, those are required",
    )
    jwks_url: HttpUrl = Field(
        default_factory=lambda data: well_known(data["issuer"], "jwks.json"), alias="AUTH_API_JWKS_URL",
        description="where keys come from",
    )
    audiences: TextList = Field(
        ("chat-api",), alias="JWT_AUDIENCE",
        description="accepted `aud`, comma-separated, any match",
    )
    algorithms: Annotated[
        tuple[Algorithm, ...], BeforeValidator(_comma_separated), BeforeValidator(_not_blank),
    ] = Field(
        ("RS256",), alias="JWT_ALGORITHMS",
        description="allow-list; asymmetric algorithms only",
    )
    leeway_seconds: int = Field(
        30, alias="JWT_LEEWAY_SECONDS", ge=0, le=300,
        description="for `exp`, `nbf`, `iat`",
    )
    max_token_bytes: int = Field(
        8192, alias="JWT_MAX_TOKEN_BYTES", ge=256, le=65536,
        description="longer tokens are refused before any decoding",
    )
    jwks_refresh_interval_seconds: float = Field(
        1800, alias="JWKS_REFRESH_INTERVAL_SECONDS", ge=1, le=86400,
        description="longest age before a background refresh; a shorter `Cache-Control: max-age` wins "
        "(clamped to 30 s..interval); ±10 % jitter",
    )
    jwks_fetch_timeout_seconds: float = Field(
        5, alias="JWKS_FETCH_TIMEOUT_SECONDS", gt=0, le=60,
        description="total, not per read; with discovery, for each of the two documents",
    )
    jwks_max_stale_seconds: float = Field(
        86400, alias="JWKS_MAX_STALE_SECONDS", ge=1,
        description="after this without a good refresh, 503; refreshes come at least twice as often",
    )
    jwks_unknown_kid_cooldown_seconds: float = Field(
        30, alias="JWKS_UNKNOWN_KID_COOLDOWN_SECONDS", ge=0.1, le=3600,
        description="least time between refreshes that unknown key ids cause",
    )
    jwks_snapshot_path: Annotated[Path | None, BeforeValidator(_not_blank)] = Field(
        None, alias="JWKS_SNAPSHOT_PATH",
        description="last good key set on disk, so that a restart during an outage still serves; a file beside it "
        "for each further issuer of the policy",
    )
    policy_file: Annotated[Path, BeforeValidator(_not_blank)] = Field(
        Path("policy.yaml"), alias="AUTHZ_POLICY_FILE",
        description="route policy, hot-reloaded",
    )
    listen: Annotated[
        tuple[Address, ...], BeforeValidator(_addresses), BeforeValidator(_not_blank), AfterValidator(_each_once),
    ] = Field(
        (Address("127.0.0.1", 9191),), alias="AUTHZ_LISTEN",
        description="where Envoy connects: `host:port` or `unix:///path`, comma-separated",
    )
    admin_listen: Annotated[
        Address, BeforeValidator(_address), BeforeValidator(_not_blank), AfterValidator(_not_envoys),
    ] = Field(
        Address("127.0.0.1", 9902), alias="AUTHZ_ADMIN_LISTEN", validate_default=True,
        description="`/healthz`, `/readyz`, `/metrics`, `/status` (JSON), `/` (page); read-only",
    )
    transport: Literal["native", "grpcio"] = Field(
        "native", alias="AUTHZ_TRANSPORT",
        description="the gRPC server: `native` (our own HTTP/2, for speed) or `grpcio` (the reference)",
    )
    forward_authorization: bool = Field(
        default=False, alias="AUTHZ_FORWARD_AUTHORIZATION",
        description="keep `Authorization` on the upstream request",
    )
    max_injected_bytes: int = Field(
        8192, alias="AUTHZ_MAX_INJECTED_BYTES", ge=256, le=57344,
        description="cap on all injected headers together",
    )
    token_cache_entries: int = Field(
        50_000, alias="AUTHZ_TOKEN_CACHE_ENTRIES", ge=0, le=10_000_000,
        description="how many verified tokens are remembered",
    )
    token_cache_bytes: int = Field(
        64 * 1024 * 1024, alias="AUTHZ_TOKEN_CACHE_BYTES", ge=0, le=2**40,
        description="how much memory they may take, about",
    )
    tracing: Annotated[Literal["off", "otlp"], AfterValidator(_installed_if_on)] = Field(
        "off", alias="AUTHZ_TRACING",
        description="`otlp`: a span for each Check that Envoy samples, sent as the usual `OTEL_*` variables say; needs "
        "`authz-service[otel]`",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="AUTHZ_LOG_LEVEL",
        description="the least that is told, to standard error",
    )
    log_format: Literal["json", "text"] = Field(
        "json", alias="AUTHZ_LOG_FORMAT",
        description="`json` for machines, `text` for people; one line a record",
    )
    decision_log: Annotated[str | None, BeforeValidator(_not_blank)] = Field(
        None, alias="AUTHZ_DECISION_LOG",
        description="decisions as JSON lines, to this file (SIGHUP opens it again) or to `stdout`, for "
        "`authz-service replay`",
    )
    decision_log_sample: float = Field(
        0.01, alias="AUTHZ_DECISION_LOG_SAMPLE", ge=0, le=1,
        description="share of the allowed requests in it; what is denied, or would be, is there in full",
    )
    decision_log_subject: Literal["hash", "plain"] = Field(
        "hash", alias="AUTHZ_DECISION_LOG_SUBJECT",
        description="how it names callers: by what stands for their `sub`, or by `sub`",
    )
    use_oauth2_auth: bool = Field(
        default=True, alias="USE_OAUTH2_AUTH",
        description="`false`: decide by asking the Auth-API about each token, as before the migration",
    )
    permissions_url: HttpUrl = Field(
        default_factory=lambda data: data["issuer"].rstrip("/") + "/api/auth/permissions",
        alias="AUTH_API_PERMISSIONS_URL",
        description="where the Auth-API answers for a bearer token: 200 with its claims as JSON, or 401",
    )
    auth_api_timeout_seconds: float = Field(
        0.4, alias="AUTH_API_TIMEOUT_SECONDS", gt=0, le=30,
        description="total, for each question to it; less than Envoy allows for one try",
    )
    compare_sample: float = Field(
        0, alias="AUTHZ_COMPARE_SAMPLE", ge=0, le=1,
        description="share of requests that are also decided the other way, in the background",
    )

    @property
    def asks_auth_api(self) -> bool:
        """Whether the Auth-API is asked about tokens, to decide or to compare."""
        return not self.use_oauth2_auth or self.compare_sample > 0

    @property
    def way(self) -> str:
        """How tokens are judged: ``local``, by their signature, or ``auth_api``, by asking it."""
        return "local" if self.use_oauth2_auth else "auth_api"

    @property
    def needs_keys(self) -> bool:
        """Whether tokens are verified here, to decide or to compare."""
        return self.use_oauth2_auth or self.compare_sample > 0


NAMES = tuple(str(field.alias) for field in Config.model_fields.values())
"""Every environment variable that this service reads."""


def load_config(environ: Mapping[str, str]) -> Config:
    """Read the configuration; :raises ConfigurationError: with one line per mistake, in the environment's names."""
    problems = list(_unknown_names(environ))
    values: dict[str, Any] = {name: environ[name] for name in NAMES if name in environ}
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems += _mistakes(error.errors())
        raise ConfigurationError(problems) from None
    if problems:
        raise ConfigurationError(problems)
    return config


def _unknown_names(environ: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(environ):
        if name in NAMES or KUBERNETES_SERVICE_LINK.fullmatch(f"{name}={environ[name]}"):
            continue
        if name.startswith(OWN_PREFIXES):
            meant = MEANT.get(name) or _closest(name, SIMILAR)
            yield f"{name}: no such setting" + (f"; did you mean {meant}?" if meant else "")
        elif name.startswith(SHARED_PREFIXES) and (meant := _closest(name, NEARLY)):
            yield f"{name}: no such setting; did you mean {meant}?"


def _closest(name: str, cutoff: float) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - memory, for mistakes alone

    return next(iter(get_close_matches(name, NAMES, n=1, cutoff=cutoff)), None)


def _mistakes(errors: Iterable[ErrorDetails]) -> Iterator[str]:
    for error in errors:
        if error["type"] == "default_factory_not_called":
            continue  # a default that follows from another setting, which has its own line already
        name = str(error["loc"][0])
        if name in Config.model_fields:  # so are defaults called
            name = str(Config.model_fields[name].alias)
        yield f"{name}={_shown(error['input'])}: {_message(error)}"


def _message(error: ErrorDetails) -> str:
    text = WHAT_WOULD_BE_RIGHT.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    text = text.replace("Input should be", "must be", 1)
    return f"{text[:1].lower()}{text[1:]}"


_CREDENTIALS = re.compile(r"//.*@")
"""Of a URL that is refused; up to the last @, since what is wrong may be written in any way."""


def _shown(value: object) -> str:
    text = repr(str(value) if isinstance(value, Address) else value)  # an address is a default, which nobody typed
    text = _CREDENTIALS.sub("//***@", text)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - one line of a terminal
