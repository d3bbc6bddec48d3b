"""The Auth-API, asked about one token: ``GET AUTH_API_PERMISSIONS_URL`` as its bearer. What it answers is not trusted
with more than the claims of that token; what it was asked is neither logged nor remembered.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from authz_service.errors import NoAnswer, Reason, TokenRefused, Unavailable
from authz_service.http_get import FAILURES, check_head, in_our_words, new_session, read_body, tls_for
from authz_service.http_library import aiohttp
from authz_service.http_url import is_exposed, shown
from authz_service.model import Claims
from authz_service.token.claims import vouched_claims
from authz_service.token.jws import NO_KEY
from authz_service.token.strict_json import NotStrictJson, parse_object
from authz_service.token.verifier import VerifiedToken

MAX_ANSWER_BYTES = 64 * 1024
"""A token's claims fit into a header; the same as JSON, with some air."""
MAX_CONNECTIONS = 256
"""To an Auth-API that takes 200 ms, enough for more than a thousand questions a second."""
KEEP_ALIVE_SECONDS = 15.0
QUIET_SECONDS = 10.0
"""Between two lines about an outage, or its change."""
REFUSALS = frozenset({401, 403})

ACCEPTED, REFUSED, MALFORMED, ABANDONED = "accepted", "refused", "malformed", "abandoned"
"""How a question ends, beside the causes of :class:`.FetchFailure`."""

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Who is told of each question."""

    def asked(self, result: str, seconds: float, /) -> None:
        """It ended so, after so long."""


class AuthApi:
    """Asks, over connections that are kept; opened by ``async with``.

    :param issuer: whose the tokens are, where an answer does not say.
    :param timeout_seconds: for all of a question, the wait for a free connection included.
    :param timer: monotonic seconds.
    """

    def __init__(
        self, url: str, issuer: str, timeout_seconds: float, observer: Observer,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._url = url
        self._issuer = issuer
        self._timeout_seconds = timeout_seconds
        self._observer = observer
        self._timer = timer
        self._session: aiohttp.ClientSession | None = None
        self._told = ""
        """The cause of the outage that people were told of and that has not ended."""
        self._quiet_until = float("-inf")
        if is_exposed(url):
            log.warning(
                "%s is plain http outside this cluster: whoever is on the way can read the tokens. "
                "Give an https:// URL: AUTH_API_PERMISSIONS_URL.", shown(url),
            )  # fmt: skip

    async def start(self) -> None:
        """Be ready to ask; connects when it is needed."""
        connector = aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=tls_for(self._url)
        )
        self._session = new_session(connector, "application/json")

    async def stop(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, token: str) -> VerifiedToken:
        """What a token is worth.

        :param token: a b64token (RFC 6750 section 2.1), so nothing in it can end a header.
        :raises TokenRefused: the Auth-API does not accept it.
        :raises Unavailable: no answer came, or none that can be used.
        """
        started = self._timer()
        result = ABANDONED  # who asked for the decision has gone
        try:
            claims = await self._ask(token)
            result = REFUSED if claims is None else ACCEPTED
        except NoAnswer as failure:
            result = failure.cause
            raise self._unavailable(result, str(failure)) from None
        except (NotStrictJson, TokenRefused) as malformed:
            result = MALFORMED
            raise self._unavailable(result, f"200 without the claims of a token: {malformed}") from None
        finally:
            self._observer.asked(result, self._timer() - started)
        self._answers_again()
        if claims is None:
            raise TokenRefused(Reason.SIGNATURE_INVALID, "The Auth-API does not accept the access token.")
        return VerifiedToken(claims, NO_KEY)

    async def _ask(self, token: str) -> Claims | None:
        """The claims; None for a token that is refused."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                body = await self._get(token)
        except FAILURES as error:
            raise in_our_words(error) from None
        return None if body is None else vouched_claims(parse_object(body), self._issuer)

    async def _get(self, token: str) -> bytes | None:
        if self._session is None:
            raise RuntimeError("it was not started")
        bearer = {"Authorization": f"Bearer {token}"}
        async with self._session.get(self._url, headers=bearer, allow_redirects=False) as response:
            if response.status in REFUSALS:
                return None
            check_head(response)
            return await read_body(response, MAX_ANSWER_BYTES)

    def _unavailable(self, cause: str, message: str) -> Unavailable:
        """Logged when it begins and when it changes: one line for an outage, not one for each request.

        Nor one for each of a client's bad tokens, where the Auth-API has no answer to these and good ones come between.
        """
        if cause != self._told and self._timer() >= self._quiet_until:
            log.error(
                "The Auth-API cannot be asked at %s: %s (%s). With USE_OAUTH2_AUTH=false requests with a token get 503 "
                "until it answers; otherwise only comparisons suffer. Check it, and AUTH_API_PERMISSIONS_URL.",
                shown(self._url), message, cause,
            )  # fmt: skip
            self._told = cause
            self._quiet_until = self._timer() + QUIET_SECONDS
        return Unavailable(Reason.AUTH_API_UNAVAILABLE, "The Auth-API cannot be asked at the moment.")

    def _answers_again(self) -> None:
        if self._told:
            log.info("The Auth-API answers again.")
        self._told = ""
