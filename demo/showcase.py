"""What the demo shows: requests that can be pasted, and exactly what each one gives."""

import json
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from aiohttp import ClientSession

from demo.auth_api import Claims, Issuer

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

PUBLIC_IDENTITY = {"x-auth-contract": "1"}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Exhibit(NamedTuple):
    """One request and what it gives."""

    title: str
    gives: str
    """For the reader; ``status``, ``body`` and ``challenge`` say the same for the machine."""
    url: str
    status: int
    body: Mapping[str, Any]
    """Members that the JSON body has; there may be more."""
    headers: Mapping[str, str] = NO_HEADERS
    method: str = "GET"
    challenge: str | None = None
    """What ``WWW-Authenticate`` contains."""

    def curl(self) -> str:
        """A command for any shell: a token has nothing in it that double quotes would not keep."""
        method = "" if self.method == "GET" else f"-X {self.method} "
        headers = "".join(f'-H "{name}: {value}" ' for name, value in self.headers.items())
        return f"curl -i {method}{headers}{self.url}"

    async def ask(self, session: ClientSession) -> Answer:
        """Do what the command does."""
        async with session.request(self.method, self.url, headers=self.headers) as response:
            return Answer(response.status, response.headers, _json(await response.text()))

    def differences(self, answer: Answer) -> Iterator[str]:
        """What is not as promised."""
        if answer.status != self.status:
            yield f"status {answer.status}, not {self.status}"
        for member, value in self.body.items():
            actual = answer.body.get(member) if isinstance(answer.body, dict) else answer.body
            if actual != value:
                yield f"{member} {actual!r}, not {value!r}"
        challenge = answer.headers.get("WWW-Authenticate")
        if (self.challenge is None) != (challenge is None) or (self.challenge or "") not in (challenge or ""):
            yield f"WWW-Authenticate {challenge!r}, not {self.challenge!r}"


def exhibits(url: str, issuer: Issuer) -> tuple[Exhibit, ...]:
    """All of it, with fresh tokens, in the order in which it makes sense.

    :param url: where Envoy answers.
    """
    claims = issuer.claims("full")
    full = _bearer(issuer.key.sign(claims))
    limited, expired = _bearer(issuer.mint("limited")), _bearer(issuer.mint("expired"))
    rotated = _bearer(issuer.next_key.sign(claims))
    groups = f"{url}/api/chat/groups"
    identity = identity_headers(claims)
    return (
        Exhibit(
            "a valid token",
            "200, and chat-api reads x-auth-sub user-1, x-auth-roles member, x-auth-permissions groups:read,...",
            groups, 200, {"identity": identity}, headers=full,
        ),
        Exhibit(
            "an expired token", '401 with error "token_expired", and WWW-Authenticate says invalid_token',
            groups, 401, {"error": "token_expired"}, headers=expired, challenge='error="invalid_token"',
        ),
        Exhibit(
            "no token", '401 with error "token_missing", and WWW-Authenticate asks for one',
            groups, 401, {"error": "token_missing"}, challenge='Bearer realm="chat-api"',
        ),
        Exhibit(
            "a token without the permission", '403 with error "permission_denied" that names groups:read',
            groups, 403, {"error": "permission_denied", "required": {"all": ["groups:read"]}}, headers=limited,
            challenge='scope="groups:read"',
        ),
        Exhibit(
            "a client that calls itself admin", "200, and chat-api still reads x-auth-roles member",
            groups, 200, {"identity": identity}, headers={**full, "X-Auth-Roles": "admin"},
        ),
        Exhibit(
            "the same on a public route", "200, and chat-api reads no identity at all, only x-auth-contract 1",
            f"{url}/healthz", 200, {"identity": PUBLIC_IDENTITY}, headers={"X-Auth-Roles": "admin"},
        ),
        Exhibit(
            "a path that no rule names", '403 with error "no_matching_rule"',
            f"{url}/api/chat/secrets", 403, {"error": "no_matching_rule"}, headers=full,
            challenge='error="insufficient_scope"',
        ),
        Exhibit(
            "the Auth-API rotates its key", f'200: from now on "{issuer.next_key.kid}" signs',
            f"{issuer.url}/demo/rotate", 200, {"signs_now": issuer.next_key.kid}, method="POST",
        ),
        Exhibit(
            "a token signed by the new key (after the line above)",
            "200: authz-service met an unknown key id and fetched the key set",
            groups, 200, {"identity": identity}, headers=rotated,
        ),
    )  # fmt: skip


def identity_headers(claims: Claims) -> dict[str, str]:
    """The identity that chat-api reads for these claims, said here once more, independent of authz-service."""
    return {
        "x-auth-contract": "1",
        "x-auth-email": claims["email"],
        "x-auth-exp": str(claims["exp"]),
        "x-auth-org-id": claims["org_id"],
        "x-auth-permissions": ",".join(claims["permissions"]),
        "x-auth-roles": ",".join(claims["roles"]),
        "x-auth-sub": claims["sub"],
        "x-auth-username": claims["username"],
    }


def printed(shown: Iterable[Exhibit]) -> str:
    """All commands with their titles, for a terminal."""
    blocks = [
        f"{number}. {exhibit.title}\n   gives {exhibit.gives}\n\n{exhibit.curl()}\n"
        for number, exhibit in enumerate(shown, start=1)
    ]
    return "\n".join(blocks)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
