"""An Auth-API that answers from a table, in the place of one on the network."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from authz_service.errors import Reason, Refused, TokenRefused
from authz_service.token.claims import vouched_claims
from authz_service.token.jws import NO_KEY
from authz_service.token.verifier import VerifiedToken
from tests.support.tokens import ISSUER

NOBODY: Mapping[str, Any] = MappingProxyType({})


class AnsweringApi:
    """See :class:`authz_service.migration.asking.AskedApi`.

    :param known: claims by token; the others are refused.
    """

    def __init__(self, known: Mapping[str, Mapping[str, Any]] = NOBODY) -> None:
        self.known = dict(known)
        self.asked: list[str] = []
        self.failure: Exception | None = None
        """Raised in place of an answer."""
        self.gate: asyncio.Event | None = None
        """Awaited before each answer."""

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    async def ask(self, token: str) -> VerifiedToken:
        """What the table says; :raises Refused: if it says nothing."""
        self.asked.append(token)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if token not in self.known:
            raise refused()
        return VerifiedToken(vouched_claims(dict(self.known[token]), ISSUER), NO_KEY)


def refused() -> Refused:
    """What :class:`.AuthApi` makes of a 401."""
    return TokenRefused(Reason.SIGNATURE_INVALID, "The Auth-API does not accept the access token.")
