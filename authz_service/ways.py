"""How tokens are judged: here, by their signatures, or by the Auth-API. A way decides at once, or after one wait."""

from typing import Protocol

from authz_service.authorizer import Authorizer
from authz_service.errors import NoVerdictYet, UnknownKeyId
from authz_service.model import Decision, HttpRequest


class Way(Protocol):
    """One of the ways; :class:`LocalWay` or :class:`authz_service.migration.asking.AskingWay`."""

    @property
    def authorizer(self) -> Authorizer:
        """Decides what it can at once, and raises NoVerdictYet for the rest."""
        ...

    async def decide(self, request: HttpRequest, question: NoVerdictYet, /) -> Decision:
        """Wait, for a bounded time, for what the authorizer asked for, and have it decide."""
        ...


class KeyRefresher(Protocol):
    """Who can bring a key that a token names and the current set lacks."""

    async def refresh_for_unknown_kid(self, issuer: str, kid: str) -> None:
        """Wait, for a bounded time, for one shared refresh; returning says nothing about its success."""
        ...


class LocalWay:
    """Tokens are verified here."""

    def __init__(self, authorizer: Authorizer, refresher: KeyRefresher) -> None:
        self.authorizer = authorizer
        self._refresher = refresher

    async def decide(self, request: HttpRequest, question: NoVerdictYet) -> Decision:
        """Wait for a key that is not there yet."""
        if isinstance(question, UnknownKeyId):
            await self._refresher.refresh_for_unknown_kid(question.issuer, question.kid)
        return self.authorizer.authorize(request, after_refresh=True)
