"""The hand-written messages against those that protoc makes."""

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from authz_service.transport.grpc_wire import CallRefused, Status
from authz_service.transport.health import Health


@pytest.mark.parametrize("service", ["", "envoy.service.auth.v3.Authorization"])
@pytest.mark.parametrize("serving", [True, False])
def test_known_service(service: str, *, serving: bool) -> None:
    health = Health("envoy.service.auth.v3.Authorization")
    health.serving = serving
    answer = HealthCheckResponse.FromString(health.check(HealthCheckRequest(service=service).SerializeToString()))
    assert answer.status == (HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)


def test_empty_name_may_be_spelled_out() -> None:
    assert Health().check(b"\x0a\x00")


def test_health_begins_with_not_serving() -> None:
    assert HealthCheckResponse.FromString(Health().check(b"")).status == HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("request_", [b"\x0a\x01x", b"\x0a", b"\xff" * 9, b"\x0a\x05a"])
def test_anything_else_is_not_found(request_: bytes) -> None:
    with pytest.raises(CallRefused) as refused:
        Health("a").check(request_)
    assert refused.value.refusal.status is Status.NOT_FOUND
