"""The policy file, field by field: what may stand where, and the words that explain it to people and editors."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from authz_service.model import Mode
from authz_service.policy.grammar import (
    HeaderName,
    Host,
    HttpUrl,
    IssuerUrl,
    Method,
    OnlyTrue,
    ParameterName,
    Path,
    Percent,
    Prefix,
    RuleName,
    Text,
    Version,
)
from authz_service.policy.template import PathPattern

MAX_RULES = 20_000
MAX_ISSUERS = 20

UP = ".."
"""A step of :func:`mistake` to the mapping around a field."""


def mistake(message: str, *at: str) -> PydanticCustomError:
    """An error of ours, seen from the field that is being validated.

    :param at: where the mistake is, as steps from that field; none: in the field itself.
    """
    return PydanticCustomError("mistake", "{message}", {"message": message, "at": at})


class _Mapping(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Matching(_Mapping):
    """Which requests a rule is about. Name either `path` or `prefix`."""

    model_config = ConfigDict(
        title="match", json_schema_extra={"oneOf": [{"required": ["path"]}, {"required": ["prefix"]}]}
    )

    path: Path | None = Field(
        None, description="A whole path. `{name}` stands for one segment that is not empty; a trailing slash counts."
    )
    prefix: Prefix | None = Field(
        None, validate_default=True, description="All paths that begin so. Ends with a slash; may have parameters too.",
    )
    methods: tuple[Method, ...] | None = Field(
        None, min_length=1, description=(
            "GET covers HEAD. Left out: GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS."
        ),
    )  # fmt: skip

    @field_validator("prefix", mode="after")
    @classmethod
    def _one_of_two(cls, prefix: PathPattern | None, info: ValidationInfo) -> PathPattern | None:
        if "path" in info.data and (prefix is None) == (info.data["path"] is None):
            raise mistake("needs either path or prefix, one of the two", UP)
        return prefix

    @property
    def pattern(self) -> PathPattern:
        """The one that is there."""
        pattern = self.path or self.prefix
        if pattern is None:
            raise ValueError("neither path nor prefix")
        return pattern


class Requiring(_Mapping):
    """What the token must say. All that is named must hold; comparison is literal."""

    model_config = ConfigDict(title="require", json_schema_extra={"minProperties": 1})

    permission: Text | None = Field(None, description="A permission that the token must carry.")
    any_permission: tuple[Text, ...] | None = Field(
        None, description="Permissions of which the token must carry at least one. An empty list grants nobody."
    )
    all_permissions: tuple[Text, ...] | None = Field(
        None, min_length=1, description="Permissions of which the token must carry each one."
    )
    role: Text | None = Field(None, description="A role that the token must carry.")
    any_role: tuple[Text, ...] | None = Field(
        None, description="Roles of which the token must carry at least one. An empty list grants nobody."
    )
    authenticated: OnlyTrue | None = Field(None, description="Any valid token will do.")
    claim_equals_param: dict[Text, ParameterName] | None = Field(
        None, min_length=1,
        description="Claims, each with the path parameter that it must equal: the claim is text, and the same text.",
    )

    @model_validator(mode="before")
    @classmethod
    def _not_empty(cls, given: object) -> object:
        if given == {}:
            raise mistake("asks for nothing; use authenticated: true for anyone with a valid token")
        return given


class RuleDocument(_Mapping):
    """One rule. It is either `public: true`, or it says what it requires."""

    model_config = ConfigDict(
        title="rule", json_schema_extra={"oneOf": [{"required": ["public"]}, {"required": ["require"]}]}
    )

    name: RuleName = Field(description="A short token for metrics, logs and people; each rule has its own.")
    match: Matching
    public: OnlyTrue | None = Field(None, description="Let everyone through, without looking at any token.")
    require: Requiring | None = Field(None, validate_default=True)
    mode: Mode | None = Field(None, description="In place of the default.")
    enforce_percent: Percent | None = Field(
        None, description=(
            "Enforce for this share of callers, the same ones each time by `sub`; others see `shadow`. "
            "Who has no valid token has no `sub`: for them `mode` stands."
        ),
    )  # fmt: skip
    cors_preflight: StrictBool | None = Field(
        None, description="Let CORS preflight requests for the path pass without a token."
    )

    @field_validator("require", mode="after")
    @classmethod
    def _public_or_require(cls, require: Requiring | None, info: ValidationInfo) -> Requiring | None:
        if "public" in info.data and (require is None) == (info.data["public"] is None):
            raise mistake("needs either public: true or require, one of the two", UP)
        return require

    @field_validator("require", mode="after")
    @classmethod
    def _parameters_exist(cls, require: Requiring | None, info: ValidationInfo) -> Requiring | None:
        if "match" in info.data and require is not None and require.claim_equals_param:
            there = {name for name, _ in info.data["match"].pattern.parameters}
            if missing := sorted(set(require.claim_equals_param.values()) - there):
                has = f"it has {', '.join(sorted(there))}" if there else "it has none"
                raise mistake(f"the path has no parameter {', '.join(missing)}; {has}", "claim_equals_param")
        return require


class DefaultsDocument(_Mapping):
    """What a rule does not say for itself."""

    model_config = ConfigDict(title="defaults")

    mode: Mode = Field(Mode.ENFORCE, description="Also what becomes of requests that no rule matches.")
    enforce_percent: Percent | None = Field(
        None, description="As in a rule. A rule with a `mode` of its own does not take this over."
    )
    cors_preflight: StrictBool = Field(default=False, description="As in a rule.")


class IssuerDocument(_Mapping):
    """An issuer whose tokens are accepted. Its keys are where one of `jwks_url` and `discovery` says, if either."""

    model_config = ConfigDict(title="issuer", json_schema_extra={"not": {"required": ["jwks_url", "discovery"]}})

    issuer: IssuerUrl = Field(description="The `iss` of its tokens, to the letter; each issuer stands here once.")
    jwks_url: HttpUrl | None = Field(None, description=(
        "Where its keys are. Left out: what AUTH_API_JWKS_URL says for the issuer of AUTH_API_ISSUER, and "
        "`.well-known/jwks.json` below the issuer for others."
    ))  # fmt: skip
    discovery: OnlyTrue | None = Field(None, validate_default=True, description=(
        "Its `.well-known/openid-configuration` says where its keys are, now and whenever they move."
    ))  # fmt: skip
    audiences: tuple[Text, ...] | None = Field(
        None, min_length=1, description="The `aud` of its tokens, any one of these. Left out: those of JWT_AUDIENCE."
    )
    claims_to_headers: dict[Text, HeaderName] | None = Field(
        None, description="As of the whole policy, which it takes the place of for this issuer's tokens."
    )

    @field_validator("discovery", mode="after")
    @classmethod
    def _one_place(cls, discovery: bool | None, info: ValidationInfo) -> bool | None:  # noqa: FBT001 - OnlyTrue
        if discovery and info.data.get("jwks_url") is not None:
            raise mistake("has both jwks_url and discovery; name one of the two, or neither", UP)
        return discovery


class PolicyDocument(_Mapping):
    """Who may send which requests. The first rule that matches decides; what none matches is denied."""

    model_config = ConfigDict(title="authz-service policy")

    version: Version = Field(description="The version of this format.")
    hosts: tuple[Host, ...] | None = Field(
        None, min_length=1, description=(
            "The only hosts that are served, without ports: a name, or `*.` and a name for all names below it. "
            "Left out: any host."
        ),
    )  # fmt: skip
    defaults: DefaultsDocument = Field(default_factory=DefaultsDocument)
    issuers: tuple[IssuerDocument, ...] | None = Field(
        None, min_length=1, json_schema_extra={"maxItems": MAX_ISSUERS}, description=(
            "All issuers whose tokens are accepted; the token's `iss` chooses. Left out: the one of AUTH_API_ISSUER."
        ),
    )  # fmt: skip
    claims_to_headers: dict[Text, HeaderName] | None = Field(
        None, description="Which claims the upstream sees, and in which headers. In place of the default map."
    )
    rules: tuple[RuleDocument, ...] = Field(
        description="In order of precedence.", json_schema_extra={"maxItems": MAX_RULES}
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _not_too_many(cls, rules: object) -> object:
        """Before each of them is looked at, while requests wait."""
        if isinstance(rules, list) and len(rules) > MAX_RULES:
            raise mistake(f"must be at most {MAX_RULES} rules, not {len(rules)}")
        return rules

    @field_validator("issuers", mode="before")
    @classmethod
    def _few_issuers(cls, issuers: object) -> object:
        if isinstance(issuers, list) and len(issuers) > MAX_ISSUERS:
            raise mistake(f"must be at most {MAX_ISSUERS} issuers, not {len(issuers)}")
        return issuers


class _PublishedSchema(GenerateJsonSchema):
    """``None`` stands for an absent key here; in the file a key has a value or is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        return {**super().dict_schema(schema), "additionalProperties": False}  # keys have a pattern, too


def policy_json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the policy file, for editors and reviews."""
    schema = PolicyDocument.model_json_schema(schema_generator=_PublishedSchema)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}
