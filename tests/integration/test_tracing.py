"""Traces of the whole service: what Envoy says about a call becomes the parent of its span; off, nothing is loaded."""

import subprocess
import sys
from collections.abc import AsyncIterator

import grpc
import pytest

from authz_service.transport.check_service import METHOD
from tests.support.check_requests import Answer, check_request, read_answer
from tests.support.collector import Collector, collector
from tests.support.ports import free_port
from tests.support.service import Service, service

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
OF_THE_CLIENT = f"00-{'c' * 32}-{'d' * 16}-01"
PUBLIC = check_request(path="/healthz", headers=[("traceparent", OF_THE_CLIENT)])
DENIED = check_request(path="/api/chat/groups?access_token=secret", headers=[("authorization", "Bearer secret")])


@pytest.fixture
async def sent() -> AsyncIterator[Collector]:
    async with collector() as running:
        yield running


async def ask(running: Service, message: bytes, traceparent: str | None = SAMPLED, *, at: str = "") -> Answer:
    metadata = (("traceparent", traceparent),) if traceparent else ()
    async with grpc.aio.insecure_channel(f"unix:{at or running.address.path}") as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return read_answer(await call(message, metadata=metadata))


@pytest.mark.parametrize("transport", ["native", "grpcio"])
async def test_the_parent_is_envoys_word_and_not_the_clients(sent: Collector, transport: str) -> None:
    async with service(sent.environ | {"AUTHZ_TRANSPORT": transport}) as running:
        await ask(running, PUBLIC, None)
        await ask(running, PUBLIC)
        (span,) = await sent.of("authz-service")
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    assert span.attributes["authz.rule"] == "health"
    assert len(sent.spans) == 1


async def test_workers_send_spans(sent: Collector) -> None:
    async with service(sent.environ, arguments=["--workers", "2"]) as running:
        for worker in range(2):
            await ask(running, PUBLIC, at=running.address.path.replace("authz.sock", f"authz-{worker}.sock"))
        assert len(await sent.of("authz-service", 2)) == 2


async def test_spans_that_wait_are_sent_at_the_end(sent: Collector) -> None:
    async with service(sent.environ | {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}) as running:
        await ask(running, DENIED)
        await running.stop()
        (span,) = await sent.of("authz-service")
    assert span.attributes["authz.decision"] == "deny"


async def test_nothing_of_a_request_is_in_a_span(sent: Collector) -> None:
    async with service(sent.environ) as running:
        await ask(running, DENIED)
        (span,) = await sent.of("authz-service")
    assert "secret" not in str(span)
    assert "chat/groups" not in str(span)


async def test_without_a_collector_decisions_and_the_end_go_on() -> None:
    environ = {
        "AUTHZ_TRACING": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2",
    }  # fmt: skip
    async with service(environ) as running:
        for _ in range(50):
            assert (await ask(running, PUBLIC)).allowed
        await running.until_logged("Spans are lost")
        assert (await ask(running, PUBLIC)).allowed
        assert await running.stop() == 0


LOADED = """
import sys
from authz_service.config import load_config
from authz_service.decision_server import DecisionServer
from authz_service.keys.assembly import key_rings
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy
import asyncio
async def main():
    config = load_config({"AUTHZ_TRACING": sys.argv[1]})
    policy = parse_policy("version: 1\\nrules: [{name: a, match: {path: /a}, public: true}]")
    DecisionServer(config, policy, key_rings(config, []), Metrics())
    print(any(name.partition(".")[0] == "opentelemetry" for name in sys.modules))
asyncio.run(main())
"""


@pytest.mark.parametrize(("switch", "loaded"), [
    ("off", "False"), pytest.param("otlp", "True", id="otlp, or this test would see nothing"),
])  # fmt: skip
def test_the_library_is_loaded_only_on_demand(switch: str, loaded: str) -> None:
    run = subprocess.run([sys.executable, "-c", LOADED, switch], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == loaded


WITHOUT_THE_EXTRA = """
import sys
sys.modules["opentelemetry"] = None
from authz_service.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_without_the_extra_the_answer_says_what_to_install(command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA, command], capture_output=True, text=True, check=False,
        env={"AUTHZ_TRACING": "otlp"},
    )  # fmt: skip
    assert run.returncode == 2
    assert "AUTHZ_TRACING='otlp': needs OpenTelemetry: pip install 'authz-service[otel]'" in run.stderr
