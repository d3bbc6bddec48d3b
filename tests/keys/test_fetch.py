"""One fetch: a good answer is a document; all else is a refusal with its cause, in time, and nothing stays open."""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from multidict import CIMultiDict

from authz_service.errors import FetchFailure, KeySetRefused
from authz_service.keys.fetch import MAX_ETAG_LENGTH, Fetcher, etag_of, max_age_seconds
from authz_service.keys.jwk import MAX_DOCUMENT_BYTES
from authz_service.keys.source import Fetched
from tests.support.certificates import Authority
from tests.support.issuer import (
    HTML,
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
    Issuer,
    Padded,
    Reset,
    Serve,
    SlowHead,
    Status,
    half,
    head,
    issuer,
    redirect,
)

DOCUMENT = b'{"keys": []}'
AMPLE_SECONDS = 30.0
"""Never reached: whatever is refused with it was refused for another reason."""
SHORT_SECONDS = 0.2


async def refusal(fetcher: Fetcher, etag: str | None = None) -> KeySetRefused:
    with pytest.raises(KeySetRefused) as refused:
        await fetcher.fetch(etag)
    return refused.value


class Case(NamedTuple):
    behaviour: Behaviour
    cause: FetchFailure
    timeout: float = AMPLE_SECONDS


REALISTIC = {
    "server error": Case(Status(500), FetchFailure.HTTP_STATUS),
    "unavailable": Case(Status(503, HTML), FetchFailure.HTTP_STATUS),
    "not found": Case(Status(404, DOCUMENT), FetchFailure.HTTP_STATUS),
    "sign in first": Case(redirect("/login"), FetchFailure.REDIRECT),
    "moved": Case(redirect("/.well-known/jwks.json", 301), FetchFailure.REDIRECT),
    "moved, keep the method": Case(redirect("/.well-known/jwks.json", 308), FetchFailure.REDIRECT),
    "slow head": Case(SlowHead(AMPLE_SECONDS), FetchFailure.TIMEOUT, SHORT_SECONDS),
    "no answer": Case(Hang(), FetchFailure.TIMEOUT, SHORT_SECONDS),
    "reset": Case(Reset(), FetchFailure.CONNECTION),
    "reset in the body": Case(Reset(mid_body=True), FetchFailure.CONNECTION),
    "closed at once": Case(Garbage(b""), FetchFailure.CONNECTION),
    "closed in the body": Case(CloseMidBody(), FetchFailure.CONNECTION),
    "unasked compression": Case(Compressed("gzip"), FetchFailure.CONTENT_ENCODING),
}
SYNTHETIC = {
    "empty success": Case(Status(204), FetchFailure.HTTP_STATUS),
    "partial content": Case(Status(206, DOCUMENT), FetchFailure.HTTP_STATUS),
    "304 that nobody asked for": Case(Status(304), FetchFailure.HTTP_STATUS),
    "redirect without a location": Case(Status(302), FetchFailure.REDIRECT),
    "one byte too large": Case(Padded(MAX_DOCUMENT_BYTES + 1), FetchFailure.TOO_LARGE),
    "one byte too large, in chunks": Case(Padded(MAX_DOCUMENT_BYTES + 1, declared=False), FetchFailure.TOO_LARGE),
    "deflate": Case(Compressed("deflate"), FetchFailure.CONTENT_ENCODING),
    "gzip that is none": Case(CodingLie("gzip"), FetchFailure.CONTENT_ENCODING),
    "an unknown coding": Case(CodingLie("rot13"), FetchFailure.CONTENT_ENCODING),
    "identity and another coding": Case(CodingLie("identity, br"), FetchFailure.CONTENT_ENCODING),
}
PATHOLOGICAL = {
    "dripping body": Case(Drip(0.05), FetchFailure.TIMEOUT, SHORT_SECONDS),
    "dripping head": Case(DripHead(), FetchFailure.TIMEOUT, SHORT_SECONDS),
    "endless head": Case(EndlessHead(), FetchFailure.HTTP_MALFORMED),
    "endless body": Case(EndlessBody(), FetchFailure.TOO_LARGE),
    "endless chunks": Case(EndlessBody(chunked=True), FetchFailure.TOO_LARGE),
    "tiny chunks without end": Case(EndlessBody(chunked=True, octets=b" "), FetchFailure.TOO_LARGE),
    "announced too large, never sent": Case(Announce(MAX_DOCUMENT_BYTES + 1), FetchFailure.TOO_LARGE),
    "announced far too large": Case(Announce(10**15), FetchFailure.TOO_LARGE),
    "gzip bomb": Case(Compressed("gzip", 10_000_000), FetchFailure.CONTENT_ENCODING),
    "deflate bomb": Case(Compressed("deflate", 10_000_000), FetchFailure.CONTENT_ENCODING),
    "not HTTP": Case(Garbage(), FetchFailure.HTTP_MALFORMED),
    "a status that is no number": Case(Garbage(b"HTTP/1.1 OK 200\r\n\r\n"), FetchFailure.HTTP_MALFORMED),
    "two lengths": Case(
        Garbage(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"), FetchFailure.HTTP_MALFORMED
    ),
    "a negative length": Case(
        Garbage(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"), FetchFailure.HTTP_MALFORMED
    ),
    "an overlong header": Case(
        Garbage(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"), FetchFailure.HTTP_MALFORMED
    ),
}  # fmt: skip
REFUSED = REALISTIC | SYNTHETIC | PATHOLOGICAL


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_document_is_refused_with_its_cause(
    name: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    case = REFUSED[name]

    async def cause() -> str:
        async with issuer(DOCUMENT) as auth_api:
            auth_api.behave(case.behaviour)
            refused = await refusal(Fetcher(auth_api.url, case.timeout))
            await auth_api.until_idle()
            return refused.cause

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(cause()) == case.cause


@pytest.mark.parametrize("behaviour", [
    Serve(), Padded(MAX_DOCUMENT_BYTES), Padded(MAX_DOCUMENT_BYTES, declared=False), SlowHead(0.01), Drip(0),
    CodingLie("identity"), CodingLie("Identity"), CodingLie(""),
    Status(200, DOCUMENT, (("Content-Type", "text/plain"),)), Garbage(b"HTTP/1.0 200 OK\r\n\r\n" + DOCUMENT),
], ids=repr)  # fmt: skip
async def test_a_good_answer_is_the_document(behaviour: Behaviour) -> None:
    async with issuer(DOCUMENT) as auth_api:
        auth_api.behave(behaviour)
        fetched = await Fetcher(auth_api.url, AMPLE_SECONDS).fetch()
        assert fetched.document is not None
        assert fetched.document.rstrip() == DOCUMENT


async def test_html_with_200_is_handed_on_as_it_is_for_the_parser_to_refuse() -> None:
    async with issuer(DOCUMENT) as auth_api:
        auth_api.behave(Status(200, HTML, (("Content-Type", "text/html"),)))
        assert await Fetcher(auth_api.url, AMPLE_SECONDS).fetch() == Fetched(HTML, None, None)


async def test_a_redirect_is_not_followed_by_a_second_request() -> None:
    async with issuer(DOCUMENT) as elsewhere, issuer(DOCUMENT) as auth_api:
        auth_api.behave(redirect(elsewhere.url))
        await refusal(Fetcher(auth_api.url, AMPLE_SECONDS))
        assert (len(auth_api.requests), elsewhere.requests) == (1, [])


async def test_a_refusal_repeats_nothing_that_the_issuer_sent() -> None:
    async with issuer(DOCUMENT) as auth_api:
        auth_api.behave_next(
            Garbage(b"HTTP/9 canary\r\ncanary\r\n\r\n"), Status(500, b"canary", (("X-Canary", "canary"),)),
            redirect("http://canary/"), CodingLie("canary"),
        )  # fmt: skip
        messages = [str(await refusal(Fetcher(auth_api.url, AMPLE_SECONDS))) for _ in range(4)]
        assert "canary" not in " ".join(messages)


class TestManners:
    async def test_nothing_compressed_is_asked_for(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            await Fetcher(auth_api.url, AMPLE_SECONDS).fetch()
            assert auth_api.requests[0].headers["accept-encoding"] == "identity"

    async def test_it_says_who_asks_and_for_what(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            await Fetcher(auth_api.url, AMPLE_SECONDS).fetch()
            method, target, headers = auth_api.requests[0]
            assert (method, target) == ("GET", "/.well-known/jwks.json")
            assert headers["user-agent"].startswith("authz-service/")
            assert headers["accept"] == "application/jwk-set+json, application/json"

    async def test_it_announces_that_no_second_request_will_follow(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            await Fetcher(auth_api.url, AMPLE_SECONDS).fetch()
            assert auth_api.requests[0].headers["connection"] == "close"

    async def test_the_first_fetch_is_unconditional(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            await Fetcher(auth_api.url, AMPLE_SECONDS).fetch()
            assert "if-none-match" not in auth_api.requests[0].headers

    async def test_an_etag_is_learned_and_then_confirmed_by_304(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            auth_api.behave(Serve(etag='W/"one"', cache_control="max-age=60"))
            fetcher = Fetcher(auth_api.url, AMPLE_SECONDS)
            assert await fetcher.fetch() == Fetched(DOCUMENT, 'W/"one"', 60)
            assert await fetcher.fetch('W/"one"') == Fetched(None, 'W/"one"', 60)

    async def test_a_304_without_an_etag_leaves_the_one_that_it_confirms(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            auth_api.behave(Status(304))
            assert await Fetcher(auth_api.url, AMPLE_SECONDS).fetch('"one"') == Fetched(None, '"one"', None)

    async def test_no_proxy_of_the_environment_gets_to_see_the_fetch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with issuer(DOCUMENT) as proxy, issuer(DOCUMENT) as auth_api:
            monkeypatch.setenv("http_proxy", proxy.origin)
            monkeypatch.delenv("no_proxy", raising=False)
            await Fetcher(auth_api.url, AMPLE_SECONDS).fetch()
            assert (len(auth_api.requests), proxy.requests) == (1, [])

    async def test_cookies_are_not_kept(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            auth_api.behave(Serve(headers=(("Set-Cookie", "track=1; Path=/"),)))
            fetcher = Fetcher(auth_api.url.replace("127.0.0.1", "localhost"), AMPLE_SECONDS)
            await fetcher.fetch()
            await fetcher.fetch()
            assert "cookie" not in auth_api.requests[1].headers

    async def test_the_host_name_is_resolved_anew_at_each_fetch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with issuer(DOCUMENT) as before, issuer(DOCUMENT) as after:
            where = iter([before, after])
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", partial(_resolve, where.__next__))
            fetcher = Fetcher("http://auth-api.test:80/", AMPLE_SECONDS)
            await fetcher.fetch()
            await fetcher.fetch()
            assert (len(before.requests), len(after.requests)) == (1, 1)


async def _resolve(
    next_issuer: Callable[[], Issuer], host: str, port: int | str, **_: object
) -> list[tuple[object, ...]]:
    """An address stands for itself: to connect there, the event loop asks again."""
    if host == "auth-api.test":
        host, port = next_issuer().origin.removeprefix("http://").split(":")
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, int(port)))]


class TestConnection:
    async def test_nobody_listens(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            await auth_api.stop()
            assert (await refusal(Fetcher(auth_api.url, AMPLE_SECONDS))).cause == FetchFailure.CONNECTION

    async def test_an_issuer_that_is_back_is_found(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            await auth_api.stop()
            await auth_api.start()
            assert (await Fetcher(auth_api.url, AMPLE_SECONDS).fetch()).document == DOCUMENT

    async def test_a_name_that_does_not_resolve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def nowhere(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
        assert (await refusal(Fetcher("http://auth-api.test/", AMPLE_SECONDS))).cause == FetchFailure.DNS

    async def test_resolving_counts_against_the_time_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def hang(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
        assert (await refusal(Fetcher("http://auth-api.test/", 0.05))).cause == FetchFailure.TIMEOUT

    @pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..test"])
    async def test_a_name_that_cannot_be_one(self, host: str) -> None:
        refused = await refusal(Fetcher(f"http://{host}/", AMPLE_SECONDS))
        assert refused.cause in {FetchFailure.DNS, FetchFailure.HTTP_MALFORMED}

    async def test_a_fetch_that_is_cancelled_leaves_no_connection(self) -> None:
        async with issuer(DOCUMENT) as auth_api:
            auth_api.behave(Hang())
            fetch = asyncio.create_task(Fetcher(auth_api.url, AMPLE_SECONDS).fetch())
            await auth_api.until_requests(1)
            fetch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetch
            await auth_api.until_idle()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """One that the environment trusts."""
    trusted = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.ca_file))
    return trusted


class TestTls:
    async def test_the_authority_of_the_environment_vouches(self, authority: Authority) -> None:
        async with issuer(DOCUMENT, authority.server()) as auth_api:
            assert (await Fetcher(auth_api.url, AMPLE_SECONDS).fetch()).document == DOCUMENT

    async def test_an_unknown_authority_does_not(self, tmp_path: Path) -> None:
        async with issuer(DOCUMENT, Authority(tmp_path).server()) as auth_api:
            refused = await refusal(Fetcher(auth_api.url, AMPLE_SECONDS))
            assert (refused.cause, auth_api.requests) == (FetchFailure.TLS, [])

    @pytest.mark.parametrize(("host", "expired"), [("127.0.0.1", True), ("127.0.0.2", False), ("other.test", False)])
    async def test_an_expired_or_foreign_certificate_is_refused_before_anything_is_asked(
        self, authority: Authority, host: str, *, expired: bool
    ) -> None:
        async with issuer(DOCUMENT, authority.server(host, expired=expired)) as auth_api:
            refused = await refusal(Fetcher(auth_api.url, AMPLE_SECONDS))
            assert (refused.cause, auth_api.requests) == (FetchFailure.TLS, [])

    async def test_the_log_can_tell_an_expired_certificate_from_a_foreign_one(self, authority: Authority) -> None:
        async with issuer(DOCUMENT, authority.server(expired=True)) as auth_api:
            refused = await refusal(Fetcher(auth_api.url, AMPLE_SECONDS))
            assert "certificate has expired" in str(refused)

    async def test_plain_http_where_tls_was_asked_for(self) -> None:
        def bad_request(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(bad_request, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            assert (await refusal(Fetcher(f"https://127.0.0.1:{port}/", AMPLE_SECONDS))).cause == FetchFailure.TLS

    async def test_a_handshake_that_never_ends(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as nobody_accepts:
            port = nobody_accepts.getsockname()[1]
            refused = await refusal(Fetcher(f"https://127.0.0.1:{port}/", SHORT_SECONDS))
            assert refused.cause == FetchFailure.TIMEOUT

    async def test_faults_leave_no_connection(self, authority: Authority) -> None:
        async with issuer(DOCUMENT, authority.server()) as auth_api:
            auth_api.behave_next(Hang(), EndlessBody(), Reset(mid_body=True))
            for _ in range(3):
                await refusal(Fetcher(auth_api.url, SHORT_SECONDS))
            await auth_api.until_idle()


class TestMaxAge:
    @pytest.mark.parametrize(("lines", "seconds"), [
        (["max-age=600"], 600),
        (["public, max-age=600, must-revalidate"], 600),
        (["public", "max-age=600"], 600),
        (["Max-Age = 600"], 600),
        (['max-age="600"'], 600),
        (["max-age=600, max-age=60"], 600),
        (["max-age=0"], 0),
        (["max-age=" + "9" * 5000], float("inf")),
        ([], None),
        (["no-cache, no-store, max-age=0, must-revalidate"], None),
        (["no-store"], None),
        (["max-age"], None),
        (["max-age="], None),
        (["max-age=-1"], None),
        (["max-age=1.5"], None),
        (["max-age=1e9"], None),
        (["max-age=nan"], None),
        (["max-age=\u0661"], None),
        (["s-maxage=60"], None),
        ([",,;=,"], None),
    ])  # fmt: skip
    def test_it_is_read_or_as_if_absent(self, lines: list[str], seconds: float | None) -> None:
        assert max_age_seconds(CIMultiDict(("Cache-Control", line) for line in lines)) == seconds


class TestEtag:
    @pytest.mark.parametrize("etag", ['"1"', 'W/"1"', "unquoted", '"' + "x" * (MAX_ETAG_LENGTH - 2) + '"'])
    def test_what_can_be_sent_back_is_kept(self, etag: str) -> None:
        assert etag_of(CIMultiDict({"ETag": etag})) == etag

    @pytest.mark.parametrize("etag", ["", '"' + "x" * MAX_ETAG_LENGTH, '"\u00e9"', '"\x01"', '"a\r\nX: 1"'])
    def test_what_could_not_is_none(self, etag: str) -> None:
        assert etag_of(CIMultiDict({"ETag": etag})) is None


@pytest.mark.parametrize(("url", "warned"), [("http://10.0.0.1/", True), ("http://auth-api:8000/", False)])
def test_keys_that_travel_in_the_open_are_warned_of(
    url: str, caplog: pytest.LogCaptureFixture, *, warned: bool
) -> None:
    Fetcher(url, AMPLE_SECONDS)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warned


def test_the_scripted_issuer_writes_what_it_says() -> None:
    """The tool itself: a head that ends, and half of a document under the length of the whole."""
    assert head(200, ("A", "b")) == b"HTTP/1.1 200 Whatever\r\nA: b\r\nConnection: close\r\n\r\n"
    assert half(b"1234")[1] == b"12"
    assert b"Content-Length: 4\r\n" in half(b"1234")[0]


def test_a_key_in_the_query_of_a_plain_url_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    Fetcher("http://keys.example.com/jwks?key=s3cr3t", 1.0)
    assert "http://keys.example.com/jwks is plain http" in caplog.text
    assert "s3cr3t" not in caplog.text
