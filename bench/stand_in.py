"""Servers that a sidecar is held against: nothing in them but the transport."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from authz_service._pb.external_auth_pb2 import CheckResponse
from authz_service.address import Address
from authz_service.transport.check_service import METHOD
from authz_service.transport.native_server import NativeServer

SERVICE = METHOD.strip("/").rpartition("/")[0]
ALLOW = CheckResponse(status={"code": 0}, ok_response={}).SerializeToString()

Answer = Callable[[bytes], Awaitable[bytes]]


async def empty(_message: bytes) -> bytes:
    """What the cheapest of all handlers does."""
    return ALLOW


class Recorder:
    """As :func:`empty`, and keeps the first message for others to use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._recorded = False

    async def __call__(self, message: bytes) -> bytes:
        """Once the file is there, it is whole."""
        if not self._recorded:  # a look at the file would cost the peer that is measured a system call each time
            self._recorded = True
            part = self._path.with_suffix(".part")
            part.write_bytes(message)
            part.rename(self._path)
        return ALLOW


async def serve_grpcio(answer: Answer, socket: Path) -> None:
    """``grpc.aio``, as its documentation has it; until it is ended."""
    async def check(message: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return await answer(message)

    server = grpc.aio.server()
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check)
    handler = grpc.method_handlers_generic_handler(SERVICE, {METHOD.rpartition("/")[2]: method})
    server.add_generic_rpc_handlers((handler,))
    healthy = health.aio.HealthServicer()
    await healthy.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await asyncio.Event().wait()


class _Allowing:
    def check(self, _message: bytes, _traceparent: bytes) -> bytes:
        return ALLOW

    def check_together(self, calls: Sequence[tuple[bytes, bytes]], _seconds: float) -> list[bytes]:
        return [ALLOW] * len(calls)

    refuse_late = check


async def serve_native(socket: Path) -> None:
    """Our transport with nothing behind it; until it is ended."""
    server = NativeServer(_Allowing(), (Address(path=str(socket)),))
    await server.start()
    await server.set_serving(serving=True)
    await asyncio.Event().wait()


async def _serve(given: argparse.Namespace) -> None:
    if given.kind == "native":
        await serve_native(given.socket)
    else:
        await serve_grpcio(Recorder(given.record) if given.record else empty, given.socket)


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stand_in")
    parser.add_argument("kind", choices=["grpcio", "native"])
    parser.add_argument("socket", type=Path)
    parser.add_argument("--record", type=Path)
    given = parser.parse_args()
    # As our own transports have it, and faster than asyncio's own loop: the peer is taken at its best.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(given))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _main()
