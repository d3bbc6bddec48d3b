"""The bearer token of a request, RFC 6750 section 2.1: from the ``Authorization`` header and nowhere else.

.. code-block:: text

    credentials = "Bearer" 1*SP b64token                                     ; the scheme in any case, RFC 9110 11.1
    b64token    = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="

Tokens in a form body (section 2.2), a query (section 2.3) or a cookie are not looked for: they leak into logs and
histories. What a token means is not known here, an opaque one is as good as a JWS.
"""

from collections.abc import Sequence
from typing import Final

from authz_service.alphabet import Alphabet
from authz_service.errors import Reason, RequestRefused, TokenRefused
from authz_service.model import Headers

_B64TOKEN: Final = Alphabet(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=")
_SCHEME: Final = "bearer"
_USUALLY: Final = "Bearer "


def bearer_token(headers: Headers, max_bytes: int) -> str:
    """The token, well-formed as a b64token.

    :param headers: as they arrived; Envoy joins a repeated header by a comma.
    :param max_bytes: of the token alone, judged before any other look at it.
    :raises TokenRefused: there is none, or it is too large or no b64token.
    :raises RequestRefused: there is more than one ``Authorization``, or more than one credential in it.
    """
    return single_token(authorization(headers), max_bytes)


def single_token(values: Sequence[str], max_bytes: int) -> str:
    """As :func:`bearer_token`, of what :func:`authorization` found."""
    if len(values) > 1:
        raise _multiple_tokens()
    credentials = values[0] if values else ""
    usual = usual_spelling(credentials)
    if not usual.startswith(_USUALLY):
        raise _no_bearer_token(credentials)
    token = usual[len(_USUALLY) :]
    if len(token) > max_bytes:
        raise TokenRefused(Reason.TOKEN_TOO_LARGE, f"The access token is larger than {max_bytes} bytes.")
    if not token:
        raise _token_missing()
    if "," in token:
        raise _multiple_tokens()
    if not _B64TOKEN.spells(token):
        raise TokenRefused(Reason.TOKEN_MALFORMED, "The access token contains characters that no token has.")
    return token


def usual_spelling(credentials: str) -> str:
    """The same bearer token as nearly all clients send it; other credentials as they are."""
    if credentials[:7] == _USUALLY and credentials[7:8] != " ":
        return credentials
    scheme, _, rest = credentials.partition(" ")
    return _USUALLY + rest.lstrip(" ") if scheme.lower() == _SCHEME else credentials


def authorization(headers: Headers) -> list[str]:
    """The values of the ``Authorization`` headers, as they arrived."""
    values = []
    for name, value in headers:  # a comprehension would be one more call, for each request
        if len(name) == 13 and name.lower() == "authorization":  # noqa: PLR2004
            values.append(value)
    return values


def _no_bearer_token(credentials: str) -> TokenRefused | RequestRefused:
    """Another scheme is as good as none, unless a bearer token hides behind it."""
    for hidden in credentials.split(",")[1:]:
        if hidden.lstrip(" \t").partition(" ")[0].lower() == _SCHEME:
            return _multiple_tokens()
    return _token_missing()


def _token_missing() -> TokenRefused:
    return TokenRefused(Reason.TOKEN_MISSING, "An access token is required.")


def _multiple_tokens() -> RequestRefused:
    return RequestRefused(Reason.MULTIPLE_TOKENS, "The request carries more than one credential.")
