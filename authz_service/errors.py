"""Everything that this service raises, and the closed list of reasons for its answers.

.. code-block:: text

    AuthzServiceError
    ├── ConfigurationError   environment or policy is unusable; lists every mistake at once
    ├── NoAnswer             another server could not be asked, or what it sent is not to be read
    ├── KeySetRefused        a JWKS document, or the way it arrived, was not usable
    ├── NoVerdictYet         something has to be waited for, then the request is decided again
    │   ├── UnknownKeyId     refresh the key set once
    │   └── UnknownToken     ask the Auth-API about it
    └── Refused              a verdict: this request does not pass
        ├── TokenRefused     401, RFC 6750 section 3.1 "invalid_token"
        │   └── AlgorithmNotAllowed   which one, as far as it is a known one
        ├── RequestRefused   400, RFC 6750 section 3.1 "invalid_request"
        ├── AccessRefused    403, RFC 6750 section 3.1 "insufficient_scope"
        ├── Unavailable      503, nothing is wrong with the request
        └── InternalError    500, something is wrong with this service

The text of a :class:`Refused` reaches the client, so it never repeats what the client sent.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar

OTHER_ALGORITHM = "other"
SIGNATURE_ALGORITHMS = frozenset({
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512",
    "none", "EdDSA",
})  # fmt: skip
"""RFC 7518 section 3.1 and RFC 8037 section 3.1: what a refused token may be said to name."""


class Reason(StrEnum):
    """Why a request was allowed or denied: one word, the same in bodies, metrics, logs and metadata."""

    __hash__ = str.__hash__  # counted once a request; the hash of Enum is a function in Python

    # allowed
    ALLOWED = "allowed"
    PUBLIC = "public"
    CORS_PREFLIGHT = "cors_preflight"
    # 401
    TOKEN_MISSING = "token_missing"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_TOO_LARGE = "token_too_large"
    TOKEN_TYPE_NOT_ALLOWED = "token_type_not_allowed"
    ALGORITHM_NOT_ALLOWED = "algorithm_not_allowed"
    KEY_ID_MISSING = "key_id_missing"
    KEY_NOT_FOUND = "key_not_found"
    SIGNATURE_INVALID = "signature_invalid"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"
    ISSUER_MISMATCH = "issuer_mismatch"
    AUDIENCE_MISMATCH = "audience_mismatch"
    CLAIMS_INVALID = "claims_invalid"
    # 400
    MULTIPLE_TOKENS = "multiple_tokens"
    PATH_AMBIGUOUS = "path_ambiguous"
    HOST_NOT_ALLOWED = "host_not_allowed"
    REQUEST_MALFORMED = "request_malformed"
    # 403
    PERMISSION_DENIED = "permission_denied"
    ROLE_DENIED = "role_denied"
    PARAM_MISMATCH = "param_mismatch"
    NO_MATCHING_RULE = "no_matching_rule"
    CLAIMS_TOO_LARGE = "claims_too_large"
    # 503
    KEYS_UNAVAILABLE = "keys_unavailable"
    AUTH_API_UNAVAILABLE = "auth_api_unavailable"
    OVERLOADED = "overloaded"
    # 500
    INTERNAL_ERROR = "internal_error"


PERMITTED = frozenset({Reason.ALLOWED, Reason.PUBLIC, Reason.CORS_PREFLIGHT})
"""The reasons to let through; for any other one a request passes in shadow mode alone."""


class AuthzServiceError(Exception):
    """The root of this tree."""


class ConfigurationError(AuthzServiceError):
    """The environment or the policy file is unusable.

    :param problems: one line per mistake, each saying where it is and what would be right.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class FetchFailure(StrEnum):
    """Why no document arrived: the closed list of ``NoAnswer.cause``, and of ``KeySetRefused.cause`` of the fetcher."""

    TIMEOUT = "timeout"
    DNS = "dns"
    CONNECTION = "connection"
    TLS = "tls"
    HTTP_MALFORMED = "http_malformed"
    HTTP_STATUS = "http_status"
    REDIRECT = "redirect"
    CONTENT_ENCODING = "content_encoding"
    TOO_LARGE = "too_large"


class NoAnswer(AuthzServiceError):
    """Another server could not be asked, or what it sent is not to be read.

    :param message: for the log, in our own words.
    """

    def __init__(self, cause: FetchFailure, message: str) -> None:
        self.cause = cause
        super().__init__(message)


class KeySetRefused(AuthzServiceError):
    """A key set could not be fetched, or must not be used.

    :param cause: a short stable word, the ``cause`` label of ``jwks_refresh_failures_total``.
    :param message: for the log; free of key material.
    """

    def __init__(self, cause: str, message: str) -> None:
        self.cause = cause
        super().__init__(message)


class NoVerdictYet(AuthzServiceError):
    """Deciding takes an answer that is not in memory."""


class UnknownKeyId(NoVerdictYet):
    """The token names a key that is not in its issuer's current set.

    :param may_come: whether a refresh now could bring it; otherwise there is nothing to wait for.
    """

    def __init__(self, issuer: str, kid: str, *, may_come: bool = True) -> None:
        self.issuer = issuer
        self.kid = kid
        self.may_come = may_come
        super().__init__("the key id is not in the current key set")


class UnknownToken(NoVerdictYet):
    """Only the Auth-API can say what this token is worth; its text does not repeat it."""

    def __init__(self, token: str) -> None:
        self.token = token
        super().__init__("the Auth-API has to be asked")


class Refused(AuthzServiceError):
    """A request does not pass.

    :param reason: one of ``reasons`` of the class.
    :param message: one sentence for the client; constant text and our own numbers only.
    """

    status: ClassVar[int]
    oauth_error: ClassVar[str | None] = None
    reasons: ClassVar[frozenset[Reason]]

    def __init__(self, reason: Reason, message: str) -> None:
        if reason not in self.reasons:
            raise ValueError(f"{type(self).__name__} cannot mean {reason}")
        self.reason = reason
        self.message = message
        super().__init__(message)


class TokenRefused(Refused):
    """No acceptable access token came with the request."""

    status = 401
    oauth_error = "invalid_token"
    reasons = frozenset({
        Reason.TOKEN_MISSING, Reason.TOKEN_MALFORMED, Reason.TOKEN_TOO_LARGE, Reason.TOKEN_TYPE_NOT_ALLOWED,
        Reason.ALGORITHM_NOT_ALLOWED, Reason.KEY_ID_MISSING, Reason.KEY_NOT_FOUND, Reason.SIGNATURE_INVALID,
        Reason.TOKEN_EXPIRED, Reason.TOKEN_NOT_YET_VALID, Reason.ISSUER_MISMATCH, Reason.AUDIENCE_MISMATCH,
        Reason.CLAIMS_INVALID,
    })  # fmt: skip


class AlgorithmNotAllowed(TokenRefused):
    """The token is signed in a way that is not accepted, such as the one before a migration.

    :param named: what the token names, whatever that is; ``algorithm`` is it only if it is a known one.
    """

    def __init__(self, named: object, message: str) -> None:
        known = isinstance(named, str) and named in SIGNATURE_ALGORITHMS
        self.algorithm = str(named) if known else OTHER_ALGORITHM
        super().__init__(Reason.ALGORITHM_NOT_ALLOWED, message)


class RequestRefused(Refused):
    """The request can be read in more than one way, or not at all."""

    status = 400
    oauth_error = "invalid_request"
    reasons = frozenset({
        Reason.MULTIPLE_TOKENS, Reason.PATH_AMBIGUOUS, Reason.HOST_NOT_ALLOWED, Reason.REQUEST_MALFORMED,
    })  # fmt: skip


class AccessRefused(Refused):
    """The caller is known and may not do this.

    :param required: what the rule asks for, such as ``{"all": ["groups:read"]}``; shown in the body.
    """

    status = 403
    oauth_error = "insufficient_scope"
    reasons = frozenset({
        Reason.PERMISSION_DENIED, Reason.ROLE_DENIED, Reason.PARAM_MISMATCH, Reason.NO_MATCHING_RULE,
        Reason.CLAIMS_TOO_LARGE,
    })  # fmt: skip

    def __init__(self, reason: Reason, message: str, *, required: dict[str, list[str]] | None = None) -> None:
        self.required = required
        super().__init__(reason, message)


class Unavailable(Refused):
    """This service cannot decide now; the client may retry.

    :param retry_after: seconds, for ``Retry-After`` (RFC 9110 section 10.2.3).
    """

    status = 503
    reasons = frozenset({Reason.KEYS_UNAVAILABLE, Reason.AUTH_API_UNAVAILABLE, Reason.OVERLOADED})

    def __init__(self, reason: Reason, message: str, *, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(reason, message)


class InternalError(Refused):
    """A defect of this service; the request is denied all the same."""

    status = 500
    reasons = frozenset({Reason.INTERNAL_ERROR})
