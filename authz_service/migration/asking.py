"""The old way: each request's token is shown to the Auth-API, and the policy is held against what it answers."""

from collections.abc import Callable
from typing import Protocol

from authz_service.authorizer import Authorizer, Limits
from authz_service.caller import Encode
from authz_service.errors import NoVerdictYet, Refused, UnknownToken
from authz_service.model import Claims, Decision, HttpRequest
from authz_service.policy.loader import Policy
from authz_service.token.jws import VerificationKey
from authz_service.token.verifier import VerifiedToken


class AskedApi(Protocol):
    """See :class:`authz_service.migration.auth_api.AuthApi`."""

    async def start(self) -> None: ...  # noqa: D102
    async def stop(self) -> None: ...  # noqa: D102
    async def ask(self, token: str, /) -> VerifiedToken: ...  # noqa: D102


class AskedVerifier:
    """Knows nothing of tokens but the one answer that it holds, for the length of one decision."""

    def __init__(self) -> None:
        self._token: str | None = None
        self._answer: VerifiedToken | Refused | None = None

    def hold(self, token: str | None, answer: VerifiedToken | Refused | None) -> None:
        """This is what the token is worth; None twice: forget it."""
        self._token, self._answer = token, answer

    def verify(self, token: str, _now: float) -> VerifiedToken:
        """What was answered; :raises UnknownToken: nothing about this token. :raises Refused: if that is the answer."""
        if token != self._token or self._answer is None:
            raise UnknownToken(token)
        if isinstance(self._answer, Refused):
            raise self._answer
        return self._answer

    def vouches(self, _claims: Claims, _key: VerificationKey, _now: float) -> bool:
        """Never: each request asks."""
        return False


class AskingWay:
    """Tokens are judged by the Auth-API. Nothing is remembered from one request to the next.

    :param clock: Unix seconds.
    """

    def __init__(
        self, policy: Policy, limits: Limits, clock: Callable[[], float], encode: Encode, auth_api: AskedApi
    ) -> None:
        self._verifier = AskedVerifier()
        self.authorizer = Authorizer(policy, self._verifier, limits._replace(cache_bytes=0), clock, encode)
        self._auth_api = auth_api

    async def decide(self, request: HttpRequest, question: NoVerdictYet) -> Decision:
        """Ask about the token, then decide."""
        if not isinstance(question, UnknownToken):
            raise question
        answer: VerifiedToken | Refused
        try:
            answer = await self._auth_api.ask(question.token)
        except Refused as refused:
            answer = refused
        # From here to the end nothing waits, so no other request meets this answer.
        self._verifier.hold(question.token, answer)
        try:
            return self.authorizer.authorize(request)
        finally:
            self._verifier.hold(None, None)
