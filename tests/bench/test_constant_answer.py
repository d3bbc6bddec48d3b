"""The server that nobody can undercut: it must answer like one, or what is measured with it is worth nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from authz_service._pb.external_auth_pb2 import CheckResponse
from authz_service.transport.check_service import METHOD
from authz_service.transport.http2_frames import MAX_FRAME_BYTES
from bench.constant_answer import COMPILER, constant_answer
from bench.load import has
from bench.processes import BenchFailed

ALLOW = CheckResponse(status={"code": 0}, ok_response={"headers_to_remove": ["x-auth-sub"]})
HEALTH = "/grpc.health.v1.Health/Check"
CALLS = 200
MESSAGE = bytes(1000)
"""All together more than the window of a connection, 65,535 octets (RFC 9113 section 6.9.2)."""


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[grpc.Channel]:
    if not has(COMPILER):
        pytest.skip("cc is not installed")
    core = min(os.sched_getaffinity(0))
    with (
        constant_answer(ALLOW.SerializeToString(), tmp_path / "constant.sock", core=core) as server,
        grpc.insecure_channel(f"unix:{server.socket}") as channel,
    ):
        yield channel


def test_every_call_is_answered_with_it(channel: grpc.Channel) -> None:
    call: grpc.UnaryUnaryMultiCallable[bytes, CheckResponse] = channel.unary_unary(
        METHOD, response_deserializer=CheckResponse.FromString
    )
    waiting = [call.future(MESSAGE, timeout=20) for _ in range(CALLS)]
    for answer in (future.result() for future in waiting):
        answer.DiscardUnknownFields()  # what is for Envoy's other question
        assert answer == ALLOW


def test_it_says_that_it_is_healthy(channel: grpc.Channel) -> None:
    call: grpc.UnaryUnaryMultiCallable[HealthCheckRequest, HealthCheckResponse] = channel.unary_unary(
        HEALTH, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
    )
    assert call(HealthCheckRequest(service="authz"), timeout=20).status == HealthCheckResponse.SERVING


def test_an_answer_that_no_frame_holds_is_refused(tmp_path: Path) -> None:
    if not has(COMPILER):
        pytest.skip("cc is not installed")
    core = min(os.sched_getaffinity(0))
    with (
        pytest.raises(BenchFailed, match=f"longer than a frame of {MAX_FRAME_BYTES} octets"),
        constant_answer(bytes(MAX_FRAME_BYTES), tmp_path / "constant.sock", core=core),
    ):
        pass
