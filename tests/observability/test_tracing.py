"""Which Checks become spans, what a span says, and what a collector that is not there costs."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from authz_service.errors import ConfigurationError, InternalError, Reason, TokenRefused
from authz_service.model import Allow, Decision, Mode
from authz_service.observability.tracing import NAME, Spans, sampled_parent
from authz_service.response.challenge import deny
from tests.support.collector import PATIENCE_SECONDS, Collector, collector
from tests.support.ports import free_port
from tests.support.tokens import claims_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()
ALLOWED = Allow(Reason.ALLOWED, "list-groups", Mode.ENFORCE, claims=claims_of("somebody"), kid="key-of-somebody")
DENIED = deny(TokenRefused(Reason.TOKEN_EXPIRED, "The access token expired."), rule="list-groups", mode=Mode.ENFORCE)
DEFECT = deny(InternalError(Reason.INTERNAL_ERROR, "Internal error."))


class TestSampledParent:
    @pytest.mark.parametrize("flags", ["01", "03", "ff"])
    def test_a_sampled_one_is_followed(self, flags: str) -> None:
        parent = sampled_parent(f"00-{TRACE}-{PARENT}-{flags}".encode())
        assert parent is not None
        assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (TRACE, PARENT)

    def test_a_later_version_may_say_more(self) -> None:
        assert sampled_parent(f"01-{TRACE}-{PARENT}-01-more-of-it".encode())

    @pytest.mark.parametrize("traceparent", [
        "", f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-02", f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01", f"0x-{TRACE}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01", f"00-{TRACE}0-{PARENT}-01", f"00-{TRACE}-{PARENT}", f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-+1", f"00-{TRACE}-{PARENT}- 1", f"00-{TRACE[:-2]}_1-{PARENT}-01",
        f" 00-{TRACE}-{PARENT}-01", f"{SAMPLED.decode()},{SAMPLED.decode()}", "-" * 60, "\xb2" * 55, "0" * 10_000,
    ])  # fmt: skip
    def test_others_are_not(self, traceparent: str) -> None:
        assert sampled_parent(traceparent.encode("latin-1")) is None

    @given(st.one_of(
        st.binary(max_size=80),
        st.text("0123456789abcdefABCDEFg-", min_size=50, max_size=60).map(str.encode),
        st.from_regex(rb"\A[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]*)?\Z"),
    ))  # fmt: skip
    @example(SAMPLED)
    def test_the_library_reads_no_other_parent(self, traceparent: bytes) -> None:
        """It is the more lenient one: it strips blanks. Nothing is followed that it would not follow, or elsewhere."""
        ours = sampled_parent(traceparent)
        context = TraceContextTextMapPropagator().extract({"traceparent": traceparent.decode("latin-1")})
        theirs = trace.get_current_span(context).get_span_context()
        if ours is not None:
            assert (ours.trace_id, ours.span_id) == (theirs.trace_id, theirs.span_id)
            assert theirs.trace_flags.sampled


@pytest.fixture(autouse=True)
def _nothing_goes_on_behind_other_tests() -> Iterator[None]:
    """The library's thread throws dice for its pauses, and a property test next door takes offence at that."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE_SECONDS)


@pytest.fixture
async def sent() -> AsyncIterator[Collector]:
    async with collector() as running:
        yield running


@pytest.fixture
def spans(sent: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    opened = opened_with(sent.environ, monkeypatch)
    yield opened
    opened.close()


@pytest.mark.parametrize(("decision", "says"), [
    pytest.param(ALLOWED, ("allow", "allowed", "list-groups", "enforce", False), id="allow"),
    pytest.param(DENIED, ("deny", "token_expired", "list-groups", "enforce", False), id="deny"),
    pytest.param(DEFECT, ("deny", "internal_error", "", "enforce", True), id="defect"),
])  # fmt: skip
async def test_a_span_says_the_verdict_and_nothing_about_the_caller(
    spans: Spans, sent: Collector, decision: Decision, says: tuple[object, ...]
) -> None:
    spans.checked(SAMPLED, decision, 0.25)
    (span,) = await sent.of("authz-service")
    assert "somebody" not in str(span)
    names = ("authz.decision", "authz.reason", "authz.rule", "authz.mode")
    assert span.attributes == dict(zip(names, says[:-1], strict=True))
    assert span.error == says[-1]


async def test_a_span_has_its_place_in_the_trace_and_in_time(spans: Spans, sent: Collector) -> None:
    before = time.time_ns()
    spans.checked(SAMPLED, ALLOWED, 0.25)
    after = time.time_ns()
    (span,) = await sent.of("authz-service")
    assert (span.name, span.trace_id, span.parent_id) == (NAME, TRACE, PARENT)
    assert span.kind == 2  # SPAN_KIND_SERVER of OTLP
    start, end = span.nanoseconds
    assert before <= end <= after
    assert end - start == 250_000_000


async def test_what_is_not_sampled_is_not_sent(spans: Spans, sent: Collector) -> None:
    spans.checked(SAMPLED[:-1] + b"0", ALLOWED, 0.1)
    spans.checked(b"nonsense", ALLOWED, 0.1)
    spans.checked(SAMPLED, DENIED, 0.1)
    (span,) = await sent.of("authz-service")
    assert span.attributes["authz.reason"] == "token_expired"


async def test_a_team_may_name_its_service(sent: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = opened_with(sent.environ | {"OTEL_SERVICE_NAME": "gateway-authz"}, monkeypatch)
    opened.checked(SAMPLED, ALLOWED, 0.1)
    assert await sent.of("gateway-authz")
    opened.close()


def opened_with(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Spans:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return Spans(environ)


async def told(text: str, caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.to_thread(until, lambda: text in caplog.text)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class TestTheEnd:
    async def test_what_waits_is_sent_first(self, sent: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = opened_with(sent.environ | {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}, monkeypatch)
        opened.checked(SAMPLED, ALLOWED, 0.1)
        await asyncio.to_thread(opened.close)
        assert len(sent.spans) == 1

    def test_a_collector_that_hangs_does_not_hold_it_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            opened = opened_with({
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
            }, monkeypatch)  # fmt: skip
            opened.checked(SAMPLED, ALLOWED, 0.1)
            opened.close()
            assert "spans" in {thread.name for thread in threading.enumerate()}  # it still tries


class TestWithoutACollector:
    @pytest.fixture
    def alone(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
        opened = opened_with({
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:secret@127.0.0.1:{free_port()}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "0.1", "OTEL_BSP_SCHEDULE_DELAY": "10", "OTEL_BSP_MAX_QUEUE_SIZE": "64",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
        }, monkeypatch)  # fmt: skip
        yield opened
        opened.close()

    def test_what_waits_is_bounded(self, alone: Spans) -> None:
        for _ in range(1000):
            alone.checked(SAMPLED, ALLOWED, 0.1)
        (processor,) = alone._provider._active_span_processor._span_processors
        assert len(processor._batch_processor._queue) <= 64  # type: ignore[attr-defined]

    def test_it_is_told_once_and_says_what_to_do(self, alone: Spans, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(100):
            alone.checked(SAMPLED, ALLOWED, 0.1)
        until(lambda: "Spans are lost" in caplog.text)
        alone.close()
        (line,) = caplog.records
        assert "Check that it is up" in line.getMessage()
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line.getMessage()
        assert "secret" not in caplog.text


async def test_the_end_of_the_trouble_is_told(spans: Spans, sent: Collector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sent.refuse = True
    spans.checked(SAMPLED, ALLOWED, 0.1)
    await told("Spans are lost", caplog)
    sent.refuse = False
    spans.checked(SAMPLED, ALLOWED, 0.1)
    await told("Spans arrive again", caplog)


@pytest.mark.parametrize(("name", "value"), [
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
])  # fmt: skip
def test_a_variable_that_does_not_do_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="OTEL_"):
        opened_with({name: value}, monkeypatch)
