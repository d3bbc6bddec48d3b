"""A collector of spans: OTLP over HTTP, as OpenTelemetry's own messages have it."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.support.web import serve_app

PATIENCE_SECONDS = 20.0


class SeenSpan(NamedTuple):
    """One span, as text and numbers."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str]
    error: bool
    nanoseconds: tuple[int, int]
    """Start and end, Unix time."""


class Collector:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[SeenSpan] = []
        self.refuse = False
        self._came = asyncio.Condition()

    def app(self) -> web.Application:
        """To be served."""
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        return app

    @property
    def environ(self) -> dict[str, str]:
        """For a service that is to send here, and soon."""
        return {
            "AUTHZ_TRACING": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "20",
        }  # fmt: skip

    async def of(self, service: str, count: int = 1) -> list[SeenSpan]:
        """The spans of one service, when there are so many."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._came:
            await self._came.wait_for(lambda: len(self._of(service)) >= count)
        return self._of(service)

    def _of(self, service: str) -> list[SeenSpan]:
        return [span for span in self.spans if span.service == service]

    async def _take(self, request: web.Request) -> web.Response:
        if self.refuse:
            return web.Response(status=400)
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        async with self._came:
            self.spans += _spans(ExportTraceServiceRequest.FromString(body))
            self._came.notify_all()
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """It listens, on loopback."""
    running = Collector()
    async with serve_app(running.app()) as running.url:
        yield running


def _spans(message: ExportTraceServiceRequest) -> Iterator[SeenSpan]:
    for resource_spans in message.resource_spans:
        service = _texts(resource_spans.resource.attributes).get("service.name", "")
        for span in (span for scope in resource_spans.scope_spans for span in scope.spans):
            yield SeenSpan(
                service, span.name, span.kind, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
                _texts(span.attributes), span.status.code == span.status.STATUS_CODE_ERROR,
                (span.start_time_unix_nano, span.end_time_unix_nano),
            )  # fmt: skip


def _texts(attributes: Any) -> dict[str, str]:
    return {attribute.key: attribute.value.string_value for attribute in attributes}
