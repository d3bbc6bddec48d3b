"""Everything that is measured, running side by side.

Servers that nobody asks still look after things now and then. So each comes to the subject's core for its turn, and
waits for it on the load's.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import Request, urlopen

import grpc

from authz_service.transport.check_service import METHOD
from bench.constant_answer import COMPILER, constant_answer
from bench.credentials import HOST, ISSUER, PATH, check_request, claims, in_grpc, mint, request_headers
from bench.envoy_listeners import Envoy
from bench.load import has
from bench.machine import Cores, move
from bench.processes import PATIENCE_SECONDS, BenchFailed, Child, Listener, Sidecar, module
from demo.auth_api import SigningKey
from demo.ports import free_port

NATIVE, GRPCIO = "authz-service, native", "authz-service, grpcio"
EMPTY, EMPTY_NATIVE = "empty grpc.aio handler", "empty native handler"
OLD, OLD_SLOW = "old way, at once", "old way, 50 ms"
CONSTANT = "constant answer, in C"
AUTH_API_SECONDS = 0.05
POLICY = Path(__file__).parent.parent / "demo" / "policy.yaml"


class Stage(NamedTuple):
    """What runs, and what it is asked."""

    cores: Cores
    directory: Path
    token: str
    servers: Mapping[str, Listener]
    """ext_authz servers by subject."""
    envoy: Envoy
    auth_api: str
    """Where it tells how often it was asked about a token."""
    message: bytes
    """The ``CheckRequest`` that Envoy sent about a request with this token."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Of a client's request, but for Host."""
        return request_headers(self.token)

    def url(self, subject: str) -> str:
        """Where Envoy answers for this subject."""
        return f"http://127.0.0.1:{self.envoy.ports[subject]}{PATH}"

    @contextmanager
    def turn(self, subject: str) -> Iterator[None]:
        """Its server, if it has one, shares the subject's core with nobody but Envoy."""
        server = self.servers.get(subject)
        if server is None:
            yield
            return
        move(server.pid, self.cores.subject)
        try:
            yield
        finally:
            move(server.pid, self.cores.generator)


@contextmanager
def stage(cores: Cores) -> Iterator[Stage]:
    """Start all parts; :raises BenchFailed: one of them does not start, or does not let a good request through."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        key = SigningKey("bench-1")
        token, key_set = mint(key), json.dumps({"keys": [key.jwk()]})
        auth_api = _auth_api(stack, directory, key_set, cores)
        recorded = directory / "check-request"
        servers = {
            subject: stack.enter_context(server)
            for subject, server in _servers(directory, auth_api, recorded, cores).items()
        }
        if has(COMPILER):
            answer = ask_directly(servers[NATIVE], check_request(token))
            constant = constant_answer(answer, directory / "constant.sock", core=cores.generator)
            servers[CONSTANT] = stack.enter_context(constant)
        sockets = {subject: server.socket for subject, server in servers.items() if subject != EMPTY_NATIVE}
        envoy = stack.enter_context(Envoy(directory, key_set, sockets, core=cores.subject))
        running = Stage(cores, directory, token, servers, envoy, auth_api[0], b"")
        for subject in envoy.ports:
            _until_allowed(running, subject)
        message = recorded.read_bytes()
        (directory / "call").write_bytes(in_grpc(message))
        yield running._replace(message=message)


def ask_directly(server: Listener, message: bytes) -> bytes:
    """One Check call by grpcio's own client."""
    with grpc.insecure_channel(f"unix:{server.socket}") as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return call(message, timeout=PATIENCE_SECONDS)


def questions(running: Stage) -> int:
    """How often the Auth-API was asked about a token so far."""
    with urlopen(f"{running.auth_api}/questions", timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - our own address
        return int(response.read())


def raw_request(running: Stage) -> bytes:
    """The same request as wrk sends."""
    lines = [f"GET {PATH} HTTP/1.1", f"Host: {HOST}", *(f"{name}: {text}" for name, text in running.headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _servers(directory: Path, auth_api: tuple[str, str], recorded: Path, cores: Cores) -> dict[str, Listener]:
    at_once, slow = auth_api
    core = cores.generator
    environ = {
        "AUTH_API_ISSUER": ISSUER, "AUTH_API_JWKS_URL": f"{at_once}/jwks.json", "AUTHZ_POLICY_FILE": str(POLICY),
    }  # fmt: skip

    def sidecar(name: str, **more: str) -> Sidecar:
        return Sidecar(directory / f"{name}.sock", {**environ, **more}, core=core)

    def old_way(name: str, auth_api: str) -> Sidecar:
        return sidecar(name, USE_OAUTH2_AUTH="false", AUTH_API_PERMISSIONS_URL=f"{auth_api}/api/auth/permissions")

    def stand_in(name: str, kind: str, *options: str | Path) -> Listener:
        socket = directory / f"{name}.sock"
        return Listener(module("bench.stand_in", kind, socket, *options), socket, core=core)

    return {
        NATIVE: sidecar("native"),
        GRPCIO: sidecar("grpcio", AUTHZ_TRANSPORT="grpcio"),
        EMPTY: stand_in("empty", "grpcio", "--record", recorded),
        EMPTY_NATIVE: stand_in("empty-native", "native"),
        OLD: old_way("old", at_once),
        OLD_SLOW: old_way("old-slow", slow),
    }


def _auth_api(stack: ExitStack, directory: Path, key_set: str, cores: Cores) -> tuple[str, str]:
    keys, permissions = directory / "keys.json", directory / "permissions.json"
    keys.write_text(key_set, encoding="utf-8")
    permissions.write_text(json.dumps(claims()), encoding="utf-8")
    ports = free_port(), free_port()
    command = module("bench.auth_api", *ports, keys, permissions, AUTH_API_SECONDS)
    stack.enter_context(Child(command, core=cores.generator, log=directory / "auth-api.log"))
    return f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"


def _until_allowed(running: Stage, subject: str) -> None:
    """Envoy asks a server only once it found it healthy."""
    request = Request(running.url(subject), headers={**running.headers, "Host": HOST})  # noqa: S310 - our own address
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urlopen(request, timeout=PATIENCE_SECONDS):  # noqa: S310 - as above
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise BenchFailed(f"{subject}: a good request was refused: {error}") from None
            time.sleep(0.05)
