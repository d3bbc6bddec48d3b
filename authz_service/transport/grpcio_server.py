"""The gRPC server on ``grpc.aio``: Check, ``grpc.health.v1`` and, on demand, server reflection."""

import os
from errno import EADDRINUSE

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from authz_service.address import Address
from authz_service.errors import ConfigurationError
from authz_service.transport.check_service import METHOD, CheckService
from authz_service.transport.listening import is_served

SERVICE = METHOD.strip("/").rpartition("/")[0]

OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake, not a load balancer
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_metadata_size", 64 * 1024),
)

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GrpcioServer:
    """Listens on every address; healthy only when told so.

    :param reflection: offer server reflection; for demonstrations only.
    """

    def __init__(self, check: CheckService, addresses: tuple[Address, ...], *, reflection: bool = False) -> None:
        self._server = grpc.aio.server(options=OPTIONS)
        self._health = health.aio.HealthServicer()
        self._server.add_generic_rpc_handlers((_handler(check),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflection:
            _offer_reflection(self._server)
        self.addresses = tuple(_bind(self._server, address) for address in addresses)
        """Where it listens: port 0 has become the port that the system chose."""

    async def start(self) -> None:
        """Accept connections; health says NOT_SERVING."""
        await self.set_serving(serving=False)
        await self._server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Tell Envoy and Kubernetes whether to send requests here."""
        status = SERVING if serving else NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)

    async def stop(self, grace_seconds: float) -> None:
        """Finish the calls under way, take no new ones."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)


def _handler(check: CheckService) -> grpc.GenericRpcHandler:
    async def answer(message: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        result = check.check(message, _traceparent(context) if check.traces else b"")
        return result if isinstance(result, bytes) else await result

    # Without (de)serializers the handler gets and gives the bytes of the wire.
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    return grpc.method_handlers_generic_handler(SERVICE, {METHOD.rpartition("/")[2]: method})


def _traceparent(context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    value = next((value for name, value in context.invocation_metadata() or () if name == "traceparent"), b"")
    return value.encode() if isinstance(value, str) else value


def _bind(server: grpc.aio.Server, address: Address) -> Address:
    if is_served(address):  # the library would take it over, and the other server would never know
        raise ConfigurationError([f"AUTHZ_LISTEN: cannot listen on {address}: {os.strerror(EADDRINUSE)}"])
    target = f"unix:{address.path}" if address.path else str(address)
    try:
        port = server.add_insecure_port(target)
    except RuntimeError:  # without the reason: the library writes that to standard error itself
        why = "the gRPC library says why in a line above, unless GRPC_VERBOSITY forbids it"
        problem = f"AUTHZ_LISTEN: cannot listen on {address}; {why}"
        raise ConfigurationError([problem]) from None
    return address if address.path else address._replace(port=port)


def _offer_reflection(server: grpc.aio.Server) -> None:
    from grpc_reflection.v1alpha import reflection  # noqa: PLC0415 - a development dependency, absent in production

    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
