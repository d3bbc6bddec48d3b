"""A real Prometheus scrapes the demo: each query has an answer there, and a broken key set makes an alert fire."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession

from demo.auth_api import Issuer, SigningKey
from demo.ports import LOOPBACK, Ports
from demo.stage import Stage, stage
from tests.integration.test_workers import CHECK, ask, endpoint
from tests.support.check_requests import check_request
from tests.support.monitoring import ABSENT, PROMETHEUS, asked, queries
from tests.support.prometheus import RunningPrometheus, run_prometheus
from tests.support.service import Service, service
from tests.support.tokens import b64, compact, compact_json

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason=ABSENT)

PAUSE_SECONDS = 0.05
STRANGER = SigningKey("stranger")


def grafanas(expr: str) -> str:
    """A query of the dashboard, with all that can be chosen chosen."""
    return expr.replace('job=~"$job"', 'job=~".+"').replace('"$instance"', '".+"').replace("$__rate_interval", "1m")


QUERIES = [*(grafanas(query.expr) for query in queries()), *asked()]


def of_the_old_algorithm(issuer: Issuer) -> str:
    """Signed with a shared secret, as before the migration."""
    return compact(compact_json({"alg": "HS256", "typ": "JWT"}), compact_json(issuer.claims("full")), b"x" * 32)


def forged(issuer: Issuer) -> str:
    """Signed by somebody else in the name of the right key."""
    signature = STRANGER.sign(issuer.claims("full")).rpartition(".")[2]
    return f"{issuer.mint('full').rpartition('.')[0]}.{signature}"


def of_an_unknown_key(issuer: Issuer, number: int) -> str:
    """A kid that nobody has asked for yet, so that the key set is fetched."""
    header = {"alg": "RS256", "typ": "at+jwt", "kid": f"unknown-{number}"}
    return f"{b64(compact_json(header))}.{STRANGER.sign(issuer.claims('full')).partition('.')[2]}"


async def traffic(demo: Stage, beside: Service) -> None:
    """Requests of all kinds, until cancelled."""
    issuer = demo.issuer
    compared = check_request(path="/api/chat/groups", headers=[("authorization", f"Bearer {issuer.mint('full')}")])
    known = [issuer.mint("full"), issuer.mint("limited"), issuer.mint("expired"), forged(issuer),
             of_the_old_algorithm(issuer)]  # fmt: skip
    async with ClientSession() as session:
        for number in count():
            for token in (*known, of_an_unknown_key(issuer, number)):
                headers = {"Authorization": f"Bearer {token}", "X-Auth-Roles": "admin"}
                async with session.get(f"{demo.url}/api/chat/groups", headers=headers):
                    pass
            await ask(endpoint(beside, 0), CHECK, compared)
            await asyncio.sleep(PAUSE_SECONDS)


async def until_it_passes(demo: Stage, prometheus: RunningPrometheus) -> None:
    headers = {"Authorization": f"Bearer {demo.issuer.mint('full')}"}
    async with ClientSession() as session:

        async def passes() -> bool:
            async with session.get(f"{demo.url}/api/chat/groups", headers=headers) as response:
                return response.status == 200

        await prometheus.until(passes, "request that passes")


async def break_the_key_set(demo: Stage) -> None:
    """As the docs do it."""
    async with ClientSession() as session, session.post(f"{demo.issuer.url}/demo/break") as response:
        assert await response.json() == {"key_set": "broken"}


@asynccontextmanager
async def watched_demo(directory: Path) -> AsyncIterator[tuple[Stage, RunningPrometheus]]:
    """The demo with traffic, and beside it a service that does what the demo's does not: workers, comparison, a log."""
    async with stage(Ports.any(), verbose=False) as demo:
        settings = {
            "AUTH_API_ISSUER": demo.issuer.url, "AUTHZ_COMPARE_SAMPLE": "1",
            "AUTHZ_DECISION_LOG": str(directory / "log"),
        }  # fmt: skip
        async with (
            service(settings, arguments=["--workers", "2"]) as beside,
            run_prometheus([admin_port(demo), urlsplit(beside.admin_url).netloc]) as prometheus,
        ):
            await until_it_passes(demo, prometheus)
            asking = asyncio.create_task(traffic(demo, beside))
            try:
                yield demo, prometheus
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)


def admin_port(demo: Stage) -> str:
    return f"{LOOPBACK}:{demo.ports.authz_admin}"


async def test_every_query_of_the_dashboard_and_of_the_docs_has_an_answer(tmp_path: Path) -> None:
    async with watched_demo(tmp_path) as (demo, prometheus):
        await break_the_key_set(demo)
        for expr in QUERIES:

            async def answered(expr: str = expr) -> bool:
                return any(math.isfinite(value) for value in await prometheus.values(expr))

            await prometheus.until(answered, f"answer to {expr}")


async def test_a_broken_key_set_makes_its_alert_fire_while_requests_pass(tmp_path: Path) -> None:
    async with watched_demo(tmp_path) as (demo, prometheus):
        await break_the_key_set(demo)

        async def fires() -> dict[str, str]:
            return (await prometheus.firing()).get("AuthzJwksRefreshFailing", {})

        annotations = await prometheus.until(fires, "alert")
        assert annotations["summary"] == f"authz-service at {admin_port(demo)} cannot fetch keys"
        assert "failures in 10 minutes" in annotations["description"]
        await until_it_passes(demo, prometheus)
