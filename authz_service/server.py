"""One process: start order, readiness, reload, drain."""

import asyncio
import logging
from typing import Any

import uvloop

from authz_service.config import Config
from authz_service.decision_server import DecisionServer, do_not_interrupt, drain, on_signals
from authz_service.keys.assembly import key_rings
from authz_service.migration.figures import way_families
from authz_service.migration.readiness import migration_status
from authz_service.observability.admin import AdminServer
from authz_service.observability.logs import configure_logging
from authz_service.observability.metrics import Metrics
from authz_service.observability.status import Status
from authz_service.policy.loader import Policy
from authz_service.policy_file import PolicyFile, watch

log = logging.getLogger(__name__)


def run(config: Config, policy_file: PolicyFile, policy: Policy, *, reflection: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; :raises ConfigurationError: when it cannot listen."""
    configure_logging(config.log_level, config.log_format)
    do_not_interrupt()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Service(config, policy_file, policy, reflection=reflection).serve())


class Service:
    """Decides, fetches keys, watches the policy file and tells about itself."""

    def __init__(
        self, config: Config, policy_file: PolicyFile, policy: Policy, *, reflection: bool = False
    ) -> None:
        self._config = config
        self._policy_file = policy_file
        self._metrics = Metrics()
        self._metrics.watch(lambda: way_families(config.way))
        self._keys = key_rings(config, [self._metrics])
        self._decisions = DecisionServer(config, policy, self._keys, self._metrics, reflection=reflection)
        self._status = Status(config, self._keys)
        self._reload = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether there are keys to verify with, if they are needed."""
        return self._decisions.ready

    async def serve(self) -> None:
        """Begin to fetch keys, open the ports; healthy while there are keys; drain at the end."""
        if self._config.needs_keys:
            self._keys.start()
        try:
            await self._serve()
        finally:
            await self._keys.stop()

    async def _serve(self) -> None:
        stop = on_signals(self._reload_now)
        admin = AdminServer(self, self._config.admin_listen)
        async with self._decisions.listening() as server:
            admin_address = await admin.start()
            log.info("listening for Envoy on %s, admin on %s", ", ".join(map(str, server.addresses)), admin_address)
            watching = asyncio.create_task(
                watch(self._policy_file, self._decisions.use, self._metrics.policy_reloaded, self._reload)
            )
            try:
                await drain(server, await stop)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                await admin.stop()

    def status(self) -> dict[str, Any]:
        """What ``/status`` shows."""
        policy, families = self._decisions.policy, tuple(self._metrics.registry.collect())
        denials = self._decisions.last_denials.told()
        return {
            **self._status.tell(ready=self.ready, policy=policy, families=families, denials=denials),
            **migration_status(self._config, policy, families),
        }

    def metrics_page(self) -> bytes:
        """What ``/metrics`` shows."""
        return self._metrics.render()

    def _reload_now(self) -> None:
        log.info("SIGHUP: refreshing keys and policy now")
        self._decisions.reopen_log()
        self._reload.set()
        self._keys.refresh_now()
