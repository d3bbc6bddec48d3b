"""One process: start order, readiness, reload, drain."""

import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from typing import Any, Protocol

import uvloop

from authz_service import __version__
from authz_service.authorizer import Authorizer, Limits
from authz_service.config import Address, Config
from authz_service.errors import ConfigurationError
from authz_service.issuers import trusted_issuers
from authz_service.keys.assembly import key_rings
from authz_service.keys.jwks import KeyRing
from authz_service.observability.admin import AdminServer
from authz_service.observability.logs import configure_logging
from authz_service.observability.metrics import Metrics, TimedVerifier
from authz_service.policy.loader import Policy
from authz_service.policy_file import PolicyFile, watch
from authz_service.token.verifier import TokenVerifier
from authz_service.transport.check import encode_identity
from authz_service.transport.check_service import CheckService
from authz_service.transport.overload import OverloadGuard

DRAIN_NOTICE_SECONDS = 2.5
"""Long enough for Envoy's health checks (each second) to look elsewhere before connections close."""
DRAIN_GRACE_SECONDS = 5.0
READINESS_POLL_SECONDS = 0.1

log = logging.getLogger(__name__)


def run(config: Config, policy_file: PolicyFile, policy: Policy, *, reflection: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; :raises ConfigurationError: when it cannot listen."""
    configure_logging(config.log_level, config.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Service(config, policy_file, policy).serve(reflection=reflection))


class Transport(Protocol):
    """How Envoy reaches us; :class:`.NativeServer` or :class:`.GrpcioServer`."""

    addresses: tuple[Address, ...]

    async def start(self) -> None: ...  # noqa: D102
    async def set_serving(self, *, serving: bool) -> None: ...  # noqa: D102
    async def stop(self, grace_seconds: float) -> None: ...  # noqa: D102


class Service:
    """The rooms, wired together."""

    def __init__(self, config: Config, policy_file: PolicyFile, policy: Policy) -> None:
        self._config = config
        self._policy_file = policy_file
        self._metrics = Metrics()
        self._keys = key_rings(config, [self._metrics])
        self._metrics.watch_keys(self._keys)
        self._verifier = TokenVerifier(self._keys, {}, frozenset(config.algorithms))
        timed = TimedVerifier(self._verifier, self._metrics, time.perf_counter)
        self._authorizer = Authorizer(policy, timed, _limits(config), time.time, encode_identity)
        self._use(policy)
        self._metrics.watch_cache(self._authorizer.remembered)
        self._overload = OverloadGuard(time.perf_counter)
        self._check = CheckService(
            self._authorizer, self._keys, self._metrics, time.perf_counter, self._overload.behind
        )  # fmt: skip
        self._reload = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether there are keys to verify with."""
        return self._keys.ready

    async def serve(self, *, reflection: bool) -> None:
        """Open the ports first, then fetch keys; healthy while there are keys; drain at the end."""
        server = _transport(self._config, self._check, reflection=reflection)
        admin = AdminServer(self, self._config.admin_listen)
        stop = self._on_signals()
        await server.start()
        self._overload.start()
        admin_address = await admin.start()
        log.info("listening for Envoy on %s, admin on %s", ", ".join(map(str, server.addresses)), admin_address)
        tasks = self._background(server)
        try:
            await self._drain(server, await stop)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._overload.stop()
            await self._keys.stop()
            await admin.stop()

    def status(self) -> dict[str, Any]:
        """What ``/status`` shows; free of secrets and of what clients sent."""
        return {
            "version": __version__,
            "ready": self.ready,
            "policy": {"digest": self._authorizer.policy.digest, "mode": self._authorizer.policy.default_mode},
            "keys": {
                "age_seconds": self._keys.age_seconds,
                "keys": [key for ring in self._keys for key in _key_status(ring)],
            },
            "issuers": [_issuer_status(ring) for ring in self._keys],
        }

    def metrics_page(self) -> bytes:
        """What ``/metrics`` shows."""
        return self._metrics.render()

    def _use(self, policy: Policy) -> None:
        """Issuers, their keys and the rules change together: no request is decided in between."""
        issuers = trusted_issuers(self._config, policy)
        self._keys.use(issuers)
        self._verifier.use({issuer.issuer: issuer.rules for issuer in issuers})
        self._authorizer.use_policy(policy)

    def _on_signals(self) -> asyncio.Future[signal.Signals]:
        loop = asyncio.get_running_loop()
        stop: asyncio.Future[signal.Signals] = loop.create_future()

        def end(received: signal.Signals) -> None:
            if not stop.done():
                stop.set_result(received)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_now)
        return stop

    def _reload_now(self) -> None:
        log.info("SIGHUP: refreshing keys and policy now")
        self._reload.set()
        self._keys.refresh_now()

    def _background(self, server: Transport) -> list[asyncio.Task[None]]:
        self._keys.start()
        policy_watch = watch(self._policy_file, self._use, self._metrics.policy_reloaded, self._reload)
        return [asyncio.create_task(policy_watch), asyncio.create_task(self._follow_readiness(server))]

    async def _follow_readiness(self, server: Transport) -> None:
        """Health follows the keys: SERVING the moment that there are any."""
        told = False
        while True:
            if self.ready != told:
                told = self.ready
                await server.set_serving(serving=told)
                log.info("health: %s", "SERVING" if told else "NOT_SERVING: no usable keys")
            await asyncio.sleep(READINESS_POLL_SECONDS)

    @staticmethod
    async def _drain(server: Transport, received: signal.Signals) -> None:
        if received is signal.SIGINT:  # a person at a terminal does not want to wait
            await server.stop(0)
            return
        log.info("SIGTERM: draining")
        await server.set_serving(serving=False)
        await asyncio.sleep(DRAIN_NOTICE_SECONDS)
        await server.stop(DRAIN_GRACE_SECONDS)
        log.info("drained")


def _transport(config: Config, check: CheckService, *, reflection: bool) -> Transport:
    """Only the chosen transport is imported: grpcio alone would cost a third of the memory."""
    if config.transport == "native":
        from authz_service.transport.native_server import NativeServer  # noqa: PLC0415

        if reflection:
            raise ConfigurationError(["--reflection: only with AUTHZ_TRANSPORT=grpcio"])
        return NativeServer(check, config.listen)
    from authz_service.transport.grpcio_server import GrpcioServer  # noqa: PLC0415

    return GrpcioServer(check, config.listen, reflection=reflection)


def _limits(config: Config) -> Limits:
    return Limits(
        config.max_token_bytes, config.max_injected_bytes, config.forward_authorization, config.token_cache_entries,
        config.token_cache_bytes,
    )  # fmt: skip


def _key_status(ring: KeyRing) -> Iterator[dict[str, Any]]:
    for kid in sorted(ring.kids):
        yield {"issuer": ring.issuer, "kid": kid, "last_used": ring.last_used(kid)}


def _issuer_status(ring: KeyRing) -> dict[str, Any]:
    error = ring.last_error
    return {
        "issuer": ring.issuer,
        "ready": ring.ready,
        "age_seconds": ring.age_seconds,
        "next_refresh_in_seconds": ring.next_refresh_in,
        "last_error": {"cause": error.cause, "message": str(error)} if error else None,
    }
