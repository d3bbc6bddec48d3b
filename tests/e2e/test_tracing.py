"""One trace from Envoy through the decision, with the tracing that ``docs/configuration.md`` recommends."""

import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
import yaml

from demo.envoy_bootstrap import Bootstrap
from tests.support.collector import Collector, SeenSpan, collector
from tests.support.gateway import Gateway, gateway

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
OF_THE_CLIENT = f"00-{'c' * 32}-{'d' * 16}-01"


class Traced(NamedTuple):
    """All parts, and where spans go."""

    gateway: Gateway
    collector: Collector


def recommended() -> dict[str, Any]:
    text = DOCUMENT.read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(tracing:.*?)^```$", text, re.DOTALL | re.MULTILINE)
    settings: dict[str, Any] = yaml.safe_load(block)
    return settings


def with_tracing(url: str, percent: float, bootstrap: Bootstrap) -> Bootstrap:
    """As recommended, but for the address and the share that is sampled."""
    settings = recommended()
    settings["tracing"]["random_sampling"]["value"] = percent
    resources = bootstrap["static_resources"]
    resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"] |= settings
    parts = urlsplit(url)
    endpoint = {"address": {"socket_address": {"address": parts.hostname, "port_value": parts.port}}}
    endpoints = [{"lb_endpoints": [{"endpoint": endpoint}]}]
    resources["clusters"].append({
        "name": "collector", "type": "STATIC",
        "load_assignment": {"cluster_name": "collector", "endpoints": endpoints},
    })  # fmt: skip
    return bootstrap


@pytest.fixture
async def traced(request: pytest.FixtureRequest, transport: str) -> AsyncIterator[Traced]:
    async with collector() as sent:
        amend = partial(with_tracing, sent.url, request.param)
        async with gateway(sent.environ | {"AUTHZ_TRANSPORT": transport}, amend=amend) as running:
            yield Traced(running, sent)


def ours(spans: list[SeenSpan], rule: str) -> SeenSpan:
    (span,) = (span for span in spans if span.attributes["authz.rule"] == rule)
    return span


@pytest.mark.on_both_transports
@pytest.mark.parametrize("traced", [100.0], indirect=True, ids=["all sampled"])
async def test_a_decision_is_a_child_of_envoys_question(traced: Traced) -> None:
    reply = await traced.gateway.get()
    assert reply.status == 401
    span = ours(await traced.collector.of("authz-service"), "list-groups")
    assert (span.attributes["authz.decision"], span.attributes["authz.reason"]) == ("deny", "token_missing")
    of_envoy = await traced.collector.of("envoy", 2)
    (question,) = (each for each in of_envoy if each.span_id == span.parent_id)
    assert question.trace_id == span.trace_id
    assert question.parent_id in {each.span_id for each in of_envoy}  # the span of the client's request


@pytest.mark.parametrize("traced", [100.0], indirect=True, ids=["all sampled"])
async def test_the_trace_of_a_client_goes_on_where_envoy_goes_on_with_it(traced: Traced) -> None:
    await traced.gateway.get("/healthz", ("traceparent", OF_THE_CLIENT))
    assert ours(await traced.collector.of("authz-service"), "health").trace_id == "c" * 32


@pytest.mark.on_both_transports
@pytest.mark.parametrize("traced", [0.0], indirect=True, ids=["none sampled"])
async def test_a_client_cannot_have_a_decision_traced(traced: Traced) -> None:
    for _ in range(5):
        assert (await traced.gateway.get("/healthz", ("traceparent", OF_THE_CLIENT))).status == 200
    await traced.gateway.authz.stop()  # sends what waits
    assert [span for span in traced.collector.spans if span.service == "authz-service"] == []
