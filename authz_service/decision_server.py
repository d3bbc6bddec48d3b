"""The rooms that decide, wired together, behind the transport that Envoy reaches them by."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from authz_service.address import Address
from authz_service.caller import Caller
from authz_service.config import Config
from authz_service.errors import ConfigurationError
from authz_service.issuers import trusted_issuers
from authz_service.keys.rings import KeyRings
from authz_service.migration.both_ways import BothWays
from authz_service.observability.decision_log import open_decision_log
from authz_service.observability.denials import LastDenials
from authz_service.observability.metrics import Metrics
from authz_service.observability.refusal_log import RefusalLog
from authz_service.policy.loader import Policy
from authz_service.transport.check import encode_identity
from authz_service.transport.check_service import CheckService, Witness
from authz_service.transport.overload import OverloadGuard

if TYPE_CHECKING:
    from authz_service.observability.tracing import Spans

DRAIN_NOTICE_SECONDS = 2.5
"""Long enough for Envoy's health checks (each second) to look elsewhere before connections close."""
DRAIN_GRACE_SECONDS = 5.0
# Each look wakes an idle process, and where Envoy shares its processor, cools the caches: often only where it matters.
UNREADY_LOOK_SECONDS = 0.1
"""Between looks whether it is ready now."""
READY_LOOK_SECONDS = 1.0
"""And whether it is no more; until then each decision says so itself."""
TIDY_SECONDS = 0.1
"""Between looks at some of the remembered tokens."""
TIDY_REST_SECONDS = 1.0
"""Once all were looked at."""
FIRST_KEYS_SECONDS = 0.3
FULL_COLLECTION_AFTER = 1_000
"""Collections of what is younger. A full one, with 50,000 tokens, keeps all waiting for up to a tenth of a second."""

log = logging.getLogger(__name__)


class Transport(Protocol):
    """How Envoy reaches us; :class:`.NativeServer` or :class:`.GrpcioServer`."""

    addresses: tuple[Address, ...]

    async def start(self) -> None: ...  # noqa: D102
    async def set_serving(self, *, serving: bool) -> None: ...  # noqa: D102
    async def stop(self, grace_seconds: float) -> None: ...  # noqa: D102


class DecisionServer:
    """Answers Check on every address of the configuration.

    :param keys: where keys come from; whoever made them starts and stops them.
    :raises ConfigurationError: the decision log cannot be written.
    """

    def __init__(
        self, config: Config, policy: Policy, keys: KeyRings, metrics: Metrics, *, reflection: bool = False
    ) -> None:
        self._config = config
        self._keys = keys
        self._reflection = reflection
        if config.needs_keys:
            metrics.watch_keys(keys)
        self._log = open_decision_log(config.decision_log, config.decision_log_sample, config.decision_log_subject)
        if self._log is not None:
            metrics.watch(self._log.families)
        self._ways = BothWays(
            config, policy, keys, metrics, encode_identity, disagreed=self._log.disagreed if self._log else None
        )
        self.last_denials = LastDenials(time.time)
        self._refusal_log = RefusalLog(metrics.refused_tokens, time.monotonic)
        self.use(policy)
        if config.use_oauth2_auth:
            metrics.watch_cache(self._ways.deciding.authorizer.remembered)
        self._overload = OverloadGuard(time.perf_counter, time.thread_time) if config.transport == "grpcio" else None
        self._spans = _spans(config)
        self._check = CheckService(
            self._ways.deciding, metrics, time.perf_counter, self._overload.behind if self._overload else None,
            witnesses=self._witnesses(), denial_witnesses=[self.last_denials],
            trace=self._spans.checked if self._spans else None,
        )  # fmt: skip

    @property
    def policy(self) -> Policy:
        """The rules in use."""
        return self._ways.deciding.authorizer.policy

    @property
    def ready(self) -> bool:
        """Whether requests are welcome here; without the Auth-API, too: it may be back for the next one."""
        return self._keys.ready or not self._config.use_oauth2_auth

    def use(self, policy: Policy) -> None:
        """Issuers, their keys and the rules change together: no request is decided in between."""
        issuers = trusted_issuers(self._config, policy)
        self._keys.use(issuers)
        self._ways.use(policy, issuers)
        self.last_denials.use(policy)

    def reopen_log(self) -> None:
        """The decision log was renamed: go on in a new file."""
        if self._log is not None:
            self._log.reopen()

    def _witnesses(self) -> tuple[Witness, ...]:
        return self._ways.witnesses if self._log is None else (*self._ways.witnesses, self._log)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Transport]:
        """Answer calls; healthy while requests are welcome. :raises ConfigurationError: it cannot listen."""
        server = _transport(self._config, self._check, reflection=self._reflection)
        await self._first_keys()
        async with self._ways.open():
            _settle()
            await server.start()
            if self._overload:
                self._overload.start()
            background = (self._follow_readiness(server), self._tidy_tokens(), self._refusal_log.watch())
            tasks = [asyncio.create_task(each) for each in background]
            try:
                yield server
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if self._overload:
                    self._overload.stop()
                if self._spans:
                    self._spans.close()
                if self._log is not None:
                    self._log.close()

    async def _first_keys(self) -> None:
        """Wait a moment for them. A process that replaces another gets requests at once, and would refuse the first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_KEYS_SECONDS):
                while not self.ready:  # noqa: ASYNC110 - readiness is a matter of time as well
                    await asyncio.sleep(FIRST_KEYS_SECONDS / 100)

    async def _follow_readiness(self, server: Transport) -> None:
        """Health follows readiness: SERVING the moment that there are keys, or at once where none are needed."""
        told = False
        while True:
            if self.ready != told:
                told = self.ready
                await server.set_serving(serving=told)
                log.info("health: %s", "SERVING" if told else "NOT_SERVING: no usable keys")
            await asyncio.sleep(READY_LOOK_SECONDS if told else UNREADY_LOOK_SECONDS)

    async def _tidy_tokens(self) -> None:
        """Forget tokens whose key is gone and those that have expired: they would be refused, and take memory."""
        while True:
            more = self._ways.deciding.authorizer.remembered.tidy(self._stale)
            await asyncio.sleep(TIDY_SECONDS if more else TIDY_REST_SECONDS)

    def _stale(self, caller: Caller) -> bool:
        expired = time.time() >= caller.expires_at + self._config.leeway_seconds
        return expired or not self._keys.holds(caller.issuer, caller.key)


def _settle() -> None:
    """What was loaded stays: the garbage collector need not look at it again, which takes some twenty milliseconds.

    Tokens stay as well, by the ten thousand, and leave no garbage behind: it looks at all of them but rarely.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTION_AFTER)


def do_not_interrupt() -> None:
    """Let Envoy go on while it has more to ask (sched(7), SCHED_BATCH): what wakes this process up interrupts nobody.

    Where both share a processor, the Checks of all requests that Envoy has at hand then come together and are decided
    together. The processor is shared out as before, and an idle one is given at once. What somebody else chose for this
    process stands.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):  # a sandbox may not let it; then it costs more
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def on_signals(reload: Callable[[], None]) -> asyncio.Future[signal.Signals]:
    """SIGHUP reloads; the result is the signal that is to end this process."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[signal.Signals] = loop.create_future()

    def end(received: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(received)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stop


async def drain(server: Transport, received: signal.Signals) -> None:
    """End as the signal wants it."""
    if received is signal.SIGINT:  # a person at a terminal does not want to wait
        await server.stop(0)
        return
    log.info("SIGTERM: draining")
    await server.set_serving(serving=False)
    await asyncio.sleep(DRAIN_NOTICE_SECONDS)
    await server.stop(DRAIN_GRACE_SECONDS)
    log.info("drained")


def _spans(config: Config) -> "Spans | None":
    if config.tracing == "off":
        return None
    from authz_service.observability.tracing import Spans  # noqa: PLC0415 - an extra, and slow to load

    return Spans(os.environ)


def _transport(config: Config, check: CheckService, *, reflection: bool) -> Transport:
    """Only the chosen transport is imported: grpcio alone would cost a third of the memory."""
    if config.transport == "native":
        from authz_service.transport.native_server import NativeServer  # noqa: PLC0415

        if reflection:
            raise ConfigurationError(["--reflection: only with AUTHZ_TRANSPORT=grpcio"])
        return NativeServer(check, config.listen)
    from authz_service.transport.grpcio_server import GrpcioServer  # noqa: PLC0415

    return GrpcioServer(check, config.listen, reflection=reflection)
