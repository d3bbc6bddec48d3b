"""The token, the claims and the requests that every subject is measured with, and how gRPC carries a message."""

import time
from collections.abc import Mapping
from typing import Any

from authz_service._pb.external_auth_pb2 import CheckRequest
from authz_service.transport.grpc_wire import MESSAGE_PREFIX
from demo.auth_api import AUDIENCE, SigningKey

ISSUER = "http://auth-api:8000"
PATH = "/api/chat/groups"
HOST = "chat.example.com"
LIFETIME_SECONDS = 6 * 3600
PERMISSIONS = (
    "groups:read", "groups:write", "groups:delete", "messages:read", "messages:write", "files:read", "files:write",
)  # fmt: skip
CLAIMS_TO_HEADERS = {
    "sub": "x-auth-sub", "org_id": "x-auth-org-id", "roles": "x-auth-roles", "permissions": "x-auth-permissions",
    "username": "x-auth-username", "email": "x-auth-email", "exp": "x-auth-exp",
}  # fmt: skip
"""Header contract 1."""


def claims(subject: str = "user-1", **more: object) -> dict[str, Any]:
    """A full claims set that is good for some hours."""
    now = int(time.time())
    return {
        "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now - 60, "exp": now + LIFETIME_SECONDS,
        "org_id": "org-1", "roles": ["member"], "permissions": list(PERMISSIONS), "username": "ada",
        "email": "ada@example.com", **more,
    }  # fmt: skip


def mint(key: SigningKey, subject: str = "user-1", **more: object) -> str:
    """An access token, RS256 over 2048 bits."""
    return key.sign(claims(subject, **more))


def request_headers(token: str) -> Mapping[str, str]:
    """What a client sends, beside Host; a browser would send more."""
    return {
        "Authorization": f"Bearer {token}", "Accept": "application/json", "Accept-Encoding": "gzip, br",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    }  # fmt: skip


def check_request(token: str) -> bytes:
    """The ``CheckRequest`` about it, less what no answer depends on."""
    headers = {"authorization": f"Bearer {token}"}
    http = {"method": "GET", "path": PATH, "host": HOST, "headers": headers}
    return CheckRequest(attributes={"request": {"http": http}}).SerializeToString()


def in_grpc(message: bytes) -> bytes:
    """One that is not compressed, as a body of HTTP/2."""
    return MESSAGE_PREFIX.pack(0, len(message)) + message


class Template:
    """A ``CheckRequest`` that Envoy sent, for others that differ in one thing."""

    def __init__(self, recorded: bytes) -> None:
        self._recorded = recorded

    def message(self, *, token: str | None = None, path: str = PATH) -> bytes:
        """With this token (the empty one is none at all) and this path."""
        request = CheckRequest.FromString(self._recorded)  # anew: a message keeps all that it ever held
        http = request.attributes.request.http
        http.path = path
        if token:
            http.headers["authorization"] = f"Bearer {token}"
        elif token is not None:
            http.headers.pop("authorization", None)
        return request.SerializeToString()
