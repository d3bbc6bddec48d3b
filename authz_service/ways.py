"""How tokens are judged: here, by their signatures, or by the Auth-API. A way decides at once, or after one wait."""

import asyncio
from collections import deque
from typing import Protocol

from authz_service.authorizer import Authorizer
from authz_service.errors import NoVerdictYet, UnknownKeyId
from authz_service.model import Decision, HttpRequest

AT_ONCE = 8
"""Of those who waited for the same thing, before others have their turn."""


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


class Turns:
    """Lets go a few in each turn of the event loop: a hundred who waited for one thing would keep all others waiting.

    In the order in which they asked.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def next(self) -> None:
        """Wait for one's turn."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._let_go, loop)
        await turn

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(min(AT_ONCE, len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():  # nobody waits any more where the call was reset
                turn.set_result(None)
        if self._waiting:
            loop.call_soon(self._let_go, loop)


class LocalWay:
    """Tokens are verified here."""

    def __init__(self, authorizer: Authorizer, refresher: KeyRefresher) -> None:
        self.authorizer = authorizer
        self._refresher = refresher
        self._turns = Turns()

    async def decide(self, request: HttpRequest, question: NoVerdictYet) -> Decision:
        """Wait for a key that is not there yet."""
        if isinstance(question, UnknownKeyId):
            await self._refresher.refresh_for_unknown_kid(question.issuer, question.kid)
            await self._turns.next()
        return self.authorizer.authorize(request, after_refresh=True)
