"""``grpc.health.v1``, as far as Envoy and Kubernetes ask: Check. Its two messages are small enough to write by hand."""

from authz_service.transport.grpc_wire import CallRefused, Refusal, Status

HEALTH_CHECK = b"/grpc.health.v1.Health/Check"

UNKNOWN_SERVICE = Refusal(Status.NOT_FOUND, "unknown service")

_SERVING = b"\x08\x01"
"""``HealthCheckResponse {status: SERVING}``."""
_NOT_SERVING = b"\x08\x02"


class Health:
    """Says whether requests should come here; the server as a whole (``""``) and each service say the same.

    :param services: full names, shorter than 128 bytes.
    """

    def __init__(self, *services: str) -> None:
        self.serving = False
        self._known = frozenset({b"", b"\x0a\x00", *map(_request, services)})

    def check(self, request: bytes, _traceparent: bytes = b"") -> bytes:
        """Answer ``Check``. :raises CallRefused: NOT_FOUND, as the protocol has it for services that are not here."""
        if request not in self._known:
            raise CallRefused(UNKNOWN_SERVICE)
        return _SERVING if self.serving else _NOT_SERVING


def _request(service: str) -> bytes:
    """``HealthCheckRequest {service: ...}``; protobuf has one usual encoding, and it is what clients send."""
    name = service.encode()
    return b"\x0a" + bytes([len(name)]) + name
