"""One question to the Auth-API: a token's claims, its refusal, or the word that nobody could say; in time."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from authz_service.errors import Reason, TokenRefused, Unavailable
from authz_service.migration.auth_api import (
    ABANDONED,
    ACCEPTED,
    MALFORMED,
    MAX_ANSWER_BYTES,
    QUIET_SECONDS,
    REFUSED,
    AuthApi,
)
from tests.support.clock import Clock
from tests.support.issuer import (
    HTML,
    PATH,
    Announce,
    Behaviour,
    CloseMidBody,
    CodingLie,
    Compressed,
    Drip,
    DripHead,
    EndlessBody,
    EndlessHead,
    Garbage,
    Hang,
    Padded,
    Reset,
    SlowHead,
    Status,
    issuer,
    redirect,
)
from tests.support.tokens import ABSENT, ISSUER, claims, compact_json, token
from tests.support.web import serve_app

ANSWER = compact_json(claims())
AMPLE_SECONDS = 30.0
"""Never reached: whatever is refused with it was refused for another reason."""
SHORT_SECONDS = 0.2
# {"alg":"HS256","typ":"JWT"} and no key id: what is issued before the migration.
HS256_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1c2VyLTEifQ.c2lnbmF0dXJl"


class Outcomes:
    """How the questions ended."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def asked(self, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.results.append(result)


@asynccontextmanager
async def client(url: str, seconds: float = AMPLE_SECONDS) -> AsyncIterator[tuple[AuthApi, list[str]]]:
    outcomes = Outcomes()
    auth_api = AuthApi(url, ISSUER, seconds, outcomes)
    await auth_api.start()
    try:
        yield auth_api, outcomes.results
    finally:
        await auth_api.stop()


class Case(NamedTuple):
    behaviour: Behaviour
    result: str
    timeout: float = AMPLE_SECONDS


REALISTIC = {
    "server error": Case(Status(500), "http_status"),
    "unavailable": Case(Status(503, HTML), "http_status"),
    "too many requests": Case(Status(429), "http_status"),
    "not found": Case(Status(404, ANSWER), "http_status"),
    "sign in first": Case(redirect("/login"), "redirect"),
    "moved": Case(redirect("/elsewhere", 308), "redirect"),
    "captive portal": Case(Status(200, HTML), MALFORMED),
    "slow": Case(SlowHead(AMPLE_SECONDS), "timeout", SHORT_SECONDS),
    "no answer": Case(Hang(), "timeout", SHORT_SECONDS),
    "reset": Case(Reset(), "connection"),
    "reset in the body": Case(Reset(mid_body=True), "connection"),
    "closed in the body": Case(CloseMidBody(), "connection"),
    "unasked compression": Case(Compressed("gzip"), "content_encoding"),
    "nobody": Case(Status(200, compact_json(claims(sub=ABSENT))), MALFORMED),
    "empty success": Case(Status(204), "http_status"),
}
SYNTHETIC = {
    "no object": Case(Status(200, b"[]"), MALFORMED),
    "nothing": Case(Status(200), MALFORMED),
    "not UTF-8": Case(Status(200, b'{"sub": "\xff"}'), MALFORMED),
    "two subjects": Case(Status(200, b'{"sub": "user-1", "sub": "user-2"}'), MALFORMED),
    "NaN": Case(Status(200, b'{"sub": "user-1", "exp": NaN}'), MALFORMED),
    "an empty subject": Case(Status(200, b'{"sub": ""}'), MALFORMED),
    "a subject that is a number": Case(Status(200, b'{"sub": 1}'), MALFORMED),
    "permissions as one text": Case(Status(200, b'{"sub": "user-1", "permissions": "groups:read"}'), MALFORMED),
    "permissions that are none": Case(Status(200, b'{"sub": "user-1", "permissions": [1]}'), MALFORMED),
    "roles as an object": Case(Status(200, b'{"sub": "user-1", "roles": {}}'), MALFORMED),
    "an expiry as text": Case(Status(200, b'{"sub": "user-1", "exp": "soon"}'), MALFORMED),
    "an issuer that is empty": Case(Status(200, b'{"sub": "user-1", "iss": ""}'), MALFORMED),
    "one byte too large": Case(Padded(MAX_ANSWER_BYTES + 1), "too_large"),
    "one byte too large, in chunks": Case(Padded(MAX_ANSWER_BYTES + 1, declared=False), "too_large"),
    "gzip that is none": Case(CodingLie("gzip"), "content_encoding"),
}
PATHOLOGICAL = {
    "dripping body": Case(Drip(0.05), "timeout", SHORT_SECONDS),
    "dripping head": Case(DripHead(), "timeout", SHORT_SECONDS),
    "endless head": Case(EndlessHead(), "http_malformed"),
    "endless body": Case(EndlessBody(), "too_large"),
    "endless chunks": Case(EndlessBody(chunked=True), "too_large"),
    "announced far too large": Case(Announce(10**15), "too_large"),
    "gzip bomb": Case(Compressed("gzip", 10_000_000), "content_encoding"),
    "nested without end": Case(Status(200, b'{"sub":' + b"[" * 30_000), MALFORMED),
    "not HTTP": Case(Garbage(), "http_malformed"),
}
UNAVAILABLE = REALISTIC | SYNTHETIC | PATHOLOGICAL


@pytest.mark.parametrize("name", UNAVAILABLE)
async def test_what_is_no_answer_is_nobodys_verdict_on_the_token(name: str, caplog: pytest.LogCaptureFixture) -> None:
    case = UNAVAILABLE[name]
    async with issuer(ANSWER) as server, client(server.url, case.timeout) as (auth_api, results):
        server.behave(case.behaviour)
        with pytest.raises(Unavailable) as refused:
            await auth_api.ask(HS256_TOKEN)
        assert (refused.value.reason, refused.value.retry_after) == (Reason.AUTH_API_UNAVAILABLE, 1)
        assert results == [case.result]
        # Twice only where a kept connection might have been closed meanwhile: a GET may be sent again.
        assert [request.target for request in server.requests] in ([PATH], [PATH, PATH])
    assert f"({case.result})" in caplog.text
    assert HS256_TOKEN not in caplog.text


async def test_nobody_listening_is_no_verdict_either() -> None:
    async with issuer(ANSWER) as server, client(server.url) as (auth_api, results):
        await server.stop()
        with pytest.raises(Unavailable):
            await auth_api.ask(HS256_TOKEN)
    assert results == ["connection"]


async def test_a_host_without_address_is_no_verdict_either() -> None:
    async with client("http://auth-api.invalid/permissions") as (auth_api, results):
        with pytest.raises(Unavailable):
            await auth_api.ask(HS256_TOKEN)
    assert results == ["dns"]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_that_is_not_accepted_is_refused_as_one_without_a_good_signature(status: int) -> None:
    async with issuer(ANSWER) as server, client(server.url) as (auth_api, results):
        server.behave(Status(status, ANSWER))
        with pytest.raises(TokenRefused) as refused:
            await auth_api.ask(HS256_TOKEN)
    assert refused.value.reason is Reason.SIGNATURE_INVALID
    assert refused.value.message == "The Auth-API does not accept the access token."
    assert results == [REFUSED]


async def test_the_answer_is_what_the_token_claims() -> None:
    async with issuer(ANSWER) as server, client(server.url) as (auth_api, results):
        verified = await auth_api.ask(token())
    assert dict(verified.claims.payload) == claims()
    assert verified.claims.permissions == {"groups:read", "messages:read"}
    assert (verified.claims.issuer, verified.claims.expires_at) == (ISSUER, claims()["exp"])
    assert verified.kid == ""
    assert results == [ACCEPTED]


async def test_an_answer_may_leave_out_all_but_the_subject() -> None:
    async with issuer(b'{"sub": "user-1"}') as server, client(server.url) as (auth_api, _):
        verified = await auth_api.ask(HS256_TOKEN)
    assert (verified.claims.subject, verified.claims.issuer, verified.claims.expires_at) == ("user-1", ISSUER, 0)
    assert (verified.claims.permissions, verified.claims.roles) == (frozenset(), frozenset())


@pytest.mark.parametrize("credentials", [HS256_TOKEN, "opaque~+/-._token=="])
async def test_the_token_is_shown_as_it_came_whatever_it_is(credentials: str) -> None:
    async with issuer(ANSWER) as server, client(server.url) as (auth_api, _):
        await auth_api.ask(credentials)
        (request,) = server.requests
    assert request.method == "GET"
    assert request.headers["authorization"] == f"Bearer {credentials}"
    assert request.headers["accept-encoding"] == "identity"


async def test_each_token_is_asked_about_each_time() -> None:
    async with issuer(ANSWER) as server, client(server.url) as (auth_api, _):
        for _ in range(3):
            await auth_api.ask(HS256_TOKEN)
        assert len(server.requests) == 3


async def test_no_proxy_of_the_environment_sees_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with issuer(ANSWER) as server, client(server.url) as (auth_api, results):
        await auth_api.ask(HS256_TOKEN)
    assert results == [ACCEPTED]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """An Auth-API that answers so; :returns: its URL, by a name: of an address aiohttp's own jar keeps no cookie."""
    app = web.Application()
    app.router.add_get(PATH, handler)
    async with serve_app(app) as url:
        yield url.replace("127.0.0.1", "localhost") + PATH


async def test_connections_are_kept() -> None:
    peers: set[object] = set()

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=ANSWER)

    async with serving(answer) as url, client(url) as (auth_api, _):
        for _ in range(3):
            await auth_api.ask(HS256_TOKEN)
    assert len(peers) == 1


async def test_no_cookie_of_one_answer_goes_with_the_next_question() -> None:
    cookies: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        return web.Response(body=ANSWER, headers={"Set-Cookie": "session=of-another-caller; Path=/"})

    async with serving(answer) as url, client(url) as (auth_api, _):
        for _ in range(2):
            await auth_api.ask(HS256_TOKEN)
    assert cookies == [None, None]


async def test_an_outage_is_told_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with issuer(ANSWER) as server, client(server.url) as (auth_api, _):
        server.behave(Status(500))
        for _ in range(3):
            with pytest.raises(Unavailable):
                await auth_api.ask(HS256_TOKEN)
        server.behave()
        await auth_api.ask(HS256_TOKEN)
    begin, end = (record for record in caplog.records if record.name.endswith("auth_api"))
    assert "cannot be asked" in begin.message
    assert "answers again" in end.message


async def test_answers_of_both_kinds_in_turn_are_no_line_each(caplog: pytest.LogCaptureFixture) -> None:
    """As where the Auth-API has no proper answer to a bad token, and a client sends such ones beside the good."""
    caplog.set_level(logging.INFO)
    clock = Clock()
    async with issuer(ANSWER) as server:
        auth_api = AuthApi(f"{server.url}?key=s3cr3t", ISSUER, AMPLE_SECONDS, Outcomes(), clock)
        await auth_api.start()
        for _ in range(3):
            server.behave(Status(422))
            with pytest.raises(Unavailable):
                await auth_api.ask(HS256_TOKEN)
            server.behave()
            await auth_api.ask(HS256_TOKEN)
        lines = [record.message for record in caplog.records if record.name.endswith("auth_api")]
        assert ["again" in line for line in lines] == [False, True]
        clock.now += QUIET_SECONDS
        server.behave(Status(422))
        with pytest.raises(Unavailable):
            await auth_api.ask(HS256_TOKEN)
        await auth_api.stop()
    assert "cannot be asked" in caplog.records[-1].message
    assert "s3cr3t" not in caplog.text


async def test_who_does_not_wait_for_the_answer_is_counted_apart() -> None:
    async with issuer(ANSWER) as server, client(server.url) as (auth_api, results):
        server.behave(Hang())
        asking = asyncio.create_task(auth_api.ask(HS256_TOKEN))
        await server.until_requests(1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert results == [ABANDONED]


def test_tokens_that_travel_in_the_open_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    AuthApi("http://auth.example.com/permissions?key=s3cr3t", ISSUER, 1.0, Outcomes())
    assert "AUTH_API_PERMISSIONS_URL" in caplog.text
    assert "s3cr3t" not in caplog.text
