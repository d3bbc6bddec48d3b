"""An Auth-API as it is before a migration, and while it goes on: a key set, and a word on each token that it is shown.

It knows tokens by a table, so that what it says of one and what the token says of itself can differ.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tests.support.tokens import SigningKey, jwks, signing_key

KEYS_PATH = "/.well-known/jwks.json"
PERMISSIONS_PATH = "/api/auth/permissions"


class PermissionsApi:
    """The application around it is :meth:`app`.

    :param known: claims by token; all others get 401.
    :param keys: whom it publishes; ``signing_key()`` if nobody is named.
    """

    def __init__(self, known: Mapping[str, Mapping[str, Any]], *keys: SigningKey) -> None:
        self.known = dict(known)
        self.requests: Counter[str] = Counter()
        """By path."""
        self.status = 0
        """Answered to each question about a token, if it is set."""
        self._document = jwks(*(keys or (signing_key(),)))

    def app(self) -> web.Application:
        """A fresh application around this object."""
        app = web.Application()
        app.add_routes([web.get(KEYS_PATH, self._keys), web.get(PERMISSIONS_PATH, self._permissions)])
        return app

    async def _keys(self, _request: web.Request) -> web.Response:
        self.requests[KEYS_PATH] += 1
        return web.Response(body=self._document, content_type="application/json")

    async def _permissions(self, request: web.Request) -> web.Response:
        self.requests[PERMISSIONS_PATH] += 1
        if self.status:
            return web.Response(status=self.status)
        known = self.known.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        return web.Response(status=401) if known is None else web.json_response(known)
