"""The decision core, ``bytes -> bytes``: the service's rooms as it wires them, less the transport; and a timer."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from authz_service.authorizer import Authorizer
from authz_service.config import Config, load_config
from authz_service.issuers import trusted_issuers
from authz_service.keys.assembly import key_rings
from authz_service.limits import limits
from authz_service.observability.metrics import Metrics, TimedVerifier
from authz_service.policy.loader import Policy
from authz_service.token.verifier import TokenVerifier
from authz_service.transport.check import encode_identity
from authz_service.transport.check_service import CheckService
from authz_service.ways import LocalWay
from bench.auth_api import Answering
from bench.credentials import ISSUER
from bench.processes import PATIENCE_SECONDS, POLL_SECONDS

BATCH = 50
"""Calls between two looks at the clock; as many messages stay in the processor's nearer memory."""


class DecisionCore:
    """Built by :func:`with_cores`, which is where its keys come from."""

    def __init__(self, policy: Policy, config: Config) -> None:
        metrics = Metrics()
        issuers = trusted_issuers(config, policy)
        self.keys = key_rings(config, [metrics])
        self.keys.use(issuers)
        verifier = TokenVerifier(
            self.keys, {issuer.issuer: issuer.rules for issuer in issuers}, frozenset(config.algorithms)
        )
        timed = TimedVerifier(verifier, metrics, time.perf_counter)
        authorizer = Authorizer(policy, timed, limits(config), time.time, encode_identity)
        self.remembered = authorizer.remembered
        self.check = CheckService(LocalWay(authorizer, self.keys), metrics, time.perf_counter).check


def with_cores(
    policies: Sequence[Policy], key_set: bytes, measure: Callable[[Sequence[DecisionCore]], None], **environ: str
) -> None:
    """Build a core for each policy, serve the key set, fetch it as the service does, then measure."""
    asyncio.run(_with_cores(policies, key_set, measure, environ))


async def _with_cores(
    policies: Sequence[Policy], key_set: bytes, measure: Callable[[Sequence[DecisionCore]], None],
    environ: Mapping[str, str],
) -> None:  # fmt: skip
    server = await asyncio.get_running_loop().create_server(lambda: Answering(key_set, b"", 0), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
    config = load_config({"AUTH_API_ISSUER": ISSUER, "AUTH_API_JWKS_URL": url, **environ})
    cores = [DecisionCore(policy, config) for policy in policies]
    try:
        for core in cores:
            core.keys.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not all(core.keys.ready for core in cores):  # noqa: ASYNC110 - the rings tell nobody
                await asyncio.sleep(POLL_SECONDS)
        measure(cores)
    finally:
        for core in cores:
            await core.keys.stop()
        server.close()


def microseconds(call: Callable[[bytes], object], batches: Iterable[Sequence[bytes]]) -> float:
    """Processor time of one call; making the messages does not count."""
    used = calls = 0
    for batch in batches:
        started = time.thread_time_ns()
        for message in batch:
            call(message)
        used += time.thread_time_ns() - started
        calls += len(batch)
    return used / calls / 1000
