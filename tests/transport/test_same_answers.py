"""Both transports around one service, over real sockets: the same bytes, the same status, whatever was asked."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import pytest_asyncio

from authz_service.address import Address
from authz_service.errors import Reason, Unavailable
from authz_service.token.jws import VerificationKey
from authz_service.transport.check_service import METHOD, CheckService
from authz_service.transport.grpcio_server import SERVICE, GrpcioServer
from authz_service.transport.native_server import NativeServer
from tests.fuzz import judge
from tests.fuzz.targets.request import check_request as as_envoy_would
from tests.support.check_level import Checks, FixedKeys
from tests.support.check_requests import check_request, read_answer
from tests.support.tokens import ABSENT, NOW, b64, claims, compact, signing_key, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEEDS = Path(__file__).parents[1] / "fuzz" / "corpus"
HEALTH = "/grpc.health.v1.Health/Check"
MEBIBYTE = 1024 * 1024
LOOPBACK = (Address("127.0.0.1", 0),)

NO_KEYS, DEFECT = signing_key("no-keys"), signing_key("defect")


class FailingKeys(FixedKeys):
    """Two key ids bring out what no request does by itself."""

    def key(self, issuer: str, kid: str) -> VerificationKey:
        if kid == NO_KEYS.kid:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "No keys.")
        if kid == DEFECT.kid:
            raise RuntimeError("a defect")
        return super().key(issuer, kid)


def service() -> CheckService:
    """Equal requests are answered alike: the clock stands, the keys are fixed."""
    return Checks(judge.POLICY, FailingKeys(signing_key())).service


class Outcome(NamedTuple):
    """What a caller sees."""

    status: grpc.StatusCode
    answer: bytes


class Both(NamedTuple):
    """A channel to each server, and the servers."""

    native: grpc.aio.Channel
    grpcio: grpc.aio.Channel
    servers: tuple[NativeServer, GrpcioServer]

    async def outcome(self, message: bytes, method: str = METHOD) -> Outcome:
        """The one that both agree on."""
        native, grpcio = [await outcome(channel, method, message) for channel in (self.native, self.grpcio)]
        assert native == grpcio
        return native


async def outcome(channel: grpc.aio.Channel, method: str, message: bytes) -> Outcome:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    try:
        return Outcome(grpc.StatusCode.OK, await call(message, wait_for_ready=True))
    except grpc.aio.AioRpcError as error:
        return Outcome(error.code(), b"")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> AsyncIterator[Both]:
    servers = NativeServer(service(), LOOPBACK), GrpcioServer(service(), LOOPBACK)
    for server in servers:
        await server.start()
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    native, grpcio = (str(server.addresses[0]) for server in servers)
    async with (
        grpc.aio.insecure_channel(native, options) as to_native,
        grpc.aio.insecure_channel(grpcio, options) as to_grpcio,
    ):
        yield Both(to_native, to_grpcio, servers)
    for server in servers:
        await server.stop(0)


def seeds() -> Iterator[tuple[str, bytes]]:
    for path in sorted(SEEDS.glob("check/*")):
        yield f"check/{path.name}", path.read_bytes()
    for path in sorted(SEEDS.glob("request/*")):
        yield f"request/{path.name}", as_envoy_would(path.read_bytes())


def bearer(credentials: str, path: str = "/groups", *, method: str = "GET") -> tuple[str, str, list[tuple[str, str]]]:
    return method, path, [("authorization", f"Bearer {credentials}")]


GOOD = token()
PREFLIGHT = [("origin", "https://app.example.com"), ("access-control-request-method", "GET")]
OF_EACH_REASON: Mapping[Reason, tuple[str, str, list[tuple[str, str]]]] = {
    Reason.ALLOWED: bearer(GOOD),
    Reason.PUBLIC: ("GET", "/healthz", [("x-auth-sub", "root")]),
    Reason.CORS_PREFLIGHT: ("OPTIONS", "/groups", PREFLIGHT),
    Reason.TOKEN_MISSING: ("GET", "/groups", []),
    Reason.TOKEN_MALFORMED: bearer("a.b"),
    Reason.TOKEN_TOO_LARGE: bearer("a" * 20_000),
    Reason.TOKEN_TYPE_NOT_ALLOWED: bearer(signing_key().sign(claims(), typ="id+jwt")),
    Reason.ALGORITHM_NOT_ALLOWED: bearer(compact(b'{"alg":"none","kid":"key-1"}', b"{}", b"")),
    Reason.KEY_ID_MISSING: bearer(signing_key().sign(claims(), kid=ABSENT)),
    Reason.KEY_NOT_FOUND: bearer(signing_key("stranger").sign(claims())),
    Reason.SIGNATURE_INVALID: bearer(GOOD.rpartition(".")[0] + "." + b64(bytes(256))),
    Reason.TOKEN_EXPIRED: bearer(token(exp=NOW - 100)),
    Reason.TOKEN_NOT_YET_VALID: bearer(token(nbf=NOW + 100)),
    Reason.ISSUER_MISMATCH: bearer(token(iss="http://elsewhere")),
    Reason.AUDIENCE_MISMATCH: bearer(token(aud="elsewhere")),
    Reason.CLAIMS_INVALID: bearer(token(sub="a\nb")),
    Reason.MULTIPLE_TOKENS: bearer(f"{GOOD}, Bearer {GOOD}"),
    Reason.PATH_AMBIGUOUS: bearer(GOOD, "/groups/../healthz"),
    Reason.PERMISSION_DENIED: bearer(GOOD, "/groups/7", method="DELETE"),
    Reason.ROLE_DENIED: bearer(token(roles=["guest"]), "/orgs/org-1/x"),
    Reason.PARAM_MISMATCH: bearer(GOOD, "/orgs/org-2/x"),
    Reason.NO_MATCHING_RULE: bearer(GOOD, "/nowhere"),
    Reason.CLAIMS_TOO_LARGE: bearer(token(username="%" * 4_000)),
    Reason.KEYS_UNAVAILABLE: bearer(NO_KEYS.sign(claims())),
    Reason.INTERNAL_ERROR: bearer(DEFECT.sign(claims())),
}
ELSEWHERE = {
    Reason.HOST_NOT_ALLOWED: check_request(path="/groups", host="elsewhere.example"),
    Reason.REQUEST_MALFORMED: b"\xff",
}
UNREACHED = {
    Reason.AUTH_API_UNAVAILABLE,  # of the old way
    Reason.OVERLOADED,  # by a clock that moves
}


def messages(reason: Reason) -> list[bytes]:
    """Spelled in both of Envoy's ways."""
    if reason in ELSEWHERE:
        return [ELSEWHERE[reason]]
    method, path, headers = OF_EACH_REASON[reason]
    return [check_request(method, path, headers=headers, raw=raw, request_id="r-1") for raw in (False, True)]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in UNREACHED])
async def test_each_reason(both: Both, reason: Reason) -> None:
    for message in messages(reason):
        status, answer = await both.outcome(message)
        assert status is grpc.StatusCode.OK
        assert read_answer(answer).metadata["reason"] == reason


@pytest.mark.parametrize("message", [pytest.param(message, id=name) for name, message in seeds()])
async def test_each_seed_of_the_fuzzer(both: Both, message: bytes) -> None:
    assert (await both.outcome(message)).status is grpc.StatusCode.OK


@pytest.mark.parametrize("size", [0, 1, 16_378, 16_379, 16_380, 65_530, 65_531, MEBIBYTE, 4 * MEBIBYTE])
async def test_messages_of_any_size(both: Both, size: int) -> None:
    """16,379 octets and their prefix fill a frame, 65,530 the first window; the content is no CheckRequest."""
    assert (await both.outcome(b"\xff" * size)).status is grpc.StatusCode.OK


async def test_large_requests_that_are_allowed(both: Both) -> None:
    cookies = [(f"cookie-{number}", "x" * 5_000) for number in range(100)]
    for raw in (False, True):
        _, answer = await both.outcome(check_request(path="/healthz", headers=cookies, raw=raw))
        assert read_answer(answer).allowed


async def test_large_answers(both: Both) -> None:
    """More names to be removed than fit in a frame, nor in the first window."""
    lies = [(f"x-auth-{number:05}-{'a' * 100}", "root") for number in range(700)]
    _, answer = await both.outcome(check_request(path="/healthz", headers=lies))
    assert len(answer) > 65_535
    assert len(read_answer(answer).removed) > 700


async def test_message_above_the_limit(both: Both) -> None:
    assert (await both.outcome(bytes(4 * MEBIBYTE + 1))).status is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("method", [f"/{SERVICE}/Guess", "/envoy.service.auth.v2.Authorization/Check", "/", "/x/y/z"])
async def test_unknown_methods(both: Both, method: str) -> None:
    assert (await both.outcome(b"", method)).status is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", ["", SERVICE, "elsewhere"])
async def test_health(both: Both, name: str) -> None:
    question = b"\x0a" + bytes([len(name)]) + name.encode() if name else b""
    answers = []
    for serving in (False, True):
        for server in both.servers:
            await server.set_serving(serving=serving)
        answers.append(await both.outcome(question, HEALTH))
    if name == "elsewhere":
        assert {status for status, _ in answers} == {grpc.StatusCode.NOT_FOUND}
    else:
        assert answers == [Outcome(grpc.StatusCode.OK, b"\x08\x02"), Outcome(grpc.StatusCode.OK, b"\x08\x01")]
