"""A span for each Check of a sampled trace, sent over OTLP. The only importer of OpenTelemetry; not imported when off.

Spans wait in a bounded queue for the exporter's thread. What does not fit is dropped; no decision waits for a span.
"""

import logging
from collections.abc import Mapping, Sequence
from threading import Thread
from time import time_ns
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from authz_service import __version__
from authz_service.errors import ConfigurationError
from authz_service.model import Allow, Decision

NAME = "envoy.service.auth.v3.Authorization/Check"
"""OpenTelemetry's semantic conventions for RPC: service and method."""
PROTOCOL = "http/protobuf"
FLUSH_SECONDS = 1.0
"""How long the end of the process waits for a collector that does not answer."""

HEX_DIGITS: Final = b"0123456789abcdef"
SAMPLED = 0x01
FIELD_LENGTHS = [2, 32, 16, 2]
"""W3C Trace Context section 3.2.2: version, trace-id, parent-id, trace-flags."""

log = logging.getLogger(__name__)


class Spans:
    """Makes spans and sends them.

    :param environ: read by OpenTelemetry itself, too: ``OTEL_EXPORTER_OTLP_*``, ``OTEL_BSP_*`` and so on.
    :raises ConfigurationError: one of these variables does not do.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        _check_protocol(environ)
        # The library's own lines come for each failure and repeat URLs and headers; ours come when something changes.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        try:
            self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(_Watched(OTLPSpanExporter())))
        except ValueError as error:
            raise ConfigurationError([f"AUTHZ_TRACING=otlp: an OTEL_* variable does not do: {error}"]) from None
        self._tracer = self._provider.get_tracer("authz_service", __version__)

    def checked(self, traceparent: bytes, decision: Decision, seconds: float) -> None:
        """One Check was answered just now, and took so long."""
        parent = sampled_parent(traceparent)
        if parent is None:
            return
        end = time_ns()
        span = self._tracer.start_span(
            NAME, set_span_in_context(NonRecordingSpan(parent)), SpanKind.SERVER, _attributes(decision),
            start_time=end - int(seconds * 1e9),
        )  # fmt: skip
        if not isinstance(decision, Allow) and decision.status >= 500:  # noqa: PLR2004 - not the client's fault
            span.set_status(Status(StatusCode.ERROR, decision.reason))
        span.end(end)

    def close(self) -> None:
        """Send what waits, as far as that goes quickly."""
        # The library waits half a minute; a thread of its own does not hold up the end of the process.
        closing = Thread(target=self._provider.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(FLUSH_SECONDS)


def sampled_parent(traceparent: bytes) -> SpanContext | None:
    """The span that a Check belongs to; None where it is not sampled, or malformed (W3C Trace Context section 3.2)."""
    fields = traceparent.split(b"-")
    known, more = fields[:4], fields[4:]
    if [len(field) for field in known] != FIELD_LENGTHS or b"".join(known).translate(None, HEX_DIGITS):
        return None
    version, trace_id, span_id, flags = known
    if version == b"ff" or (version == b"00" and more) or not int(flags, 16) & SAMPLED:
        return None
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(SAMPLED))
    return parent if parent.is_valid else None


def _attributes(decision: Decision) -> dict[str, str]:
    """Words of closed lists and the policy's own names: nothing that a client sent."""
    return {
        "authz.decision": "allow" if isinstance(decision, Allow) else "deny",
        "authz.reason": decision.reason.value,
        "authz.rule": decision.rule,
        "authz.mode": decision.mode.value,
    }


def _resource() -> Resource:
    """Who we are, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise."""
    ours = Resource({"service.name": "authz-service", "service.version": __version__})
    return ours.merge(OTELResourceDetector().detect())


def _check_protocol(environ: Mapping[str, str]) -> None:
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if environ.get(name, PROTOCOL) != PROTOCOL:
            raise ConfigurationError([
                f"{name}={environ[name]!r}: only {PROTOCOL} is spoken here; collectors take it at port 4318, as a rule"
            ])  # fmt: skip


class _Watched(SpanExporter):
    """Tells the log when spans begin to be lost, and when that is over."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._good = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See :class:`SpanExporter`."""
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - whatever it is, the thread goes on
            result = SpanExportResult.FAILURE
        self._tell(good=result is SpanExportResult.SUCCESS)
        return result

    def _tell(self, *, good: bool) -> None:
        if self._good and not good:
            log.warning(
                "Spans are lost: the collector does not take them. Decisions go on. Check that it is up and speaks "
                "OTLP over HTTP, and check OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_HEADERS."
            )
        elif good and not self._good:
            log.info("Spans arrive again.")
        self._good = good

    def shutdown(self) -> None:
        """See :class:`SpanExporter`."""
        self._exporter.shutdown()
