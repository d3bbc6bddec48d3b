"""Several workers as one service: one admin port, one fetcher of keys, one reader of the policy file.

Whatever all workers must agree on is decided here and told to them: the policy, as its text, and each issuer's keys.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

import uvloop

from authz_service.address import Address
from authz_service.config import Config
from authz_service.decision_server import DRAIN_GRACE_SECONDS, DRAIN_NOTICE_SECONDS, on_signals
from authz_service.errors import ConfigurationError
from authz_service.issuers import trusted_issuers
from authz_service.keys.assembly import key_rings
from authz_service.keys.jwk import KeySet
from authz_service.keys.served import KeyState
from authz_service.migration.figures import way_families
from authz_service.migration.readiness import migration_status
from authz_service.observability.admin import AdminServer
from authz_service.observability.denials import latest
from authz_service.observability.logs import configure_logging
from authz_service.observability.merged import MergedPages
from authz_service.observability.metrics import Metrics
from authz_service.observability.status import Status
from authz_service.policy.loader import Policy
from authz_service.policy_file import PolicyFile, watch
from authz_service.workers.link import Link, Message, key_message
from authz_service.workers.member import Member

UPDATE_SECONDS = 5.0
"""How much of a worker's counting its sudden end can lose, when nobody scrapes."""
PUBLISH_SECONDS = 0.1
"""How late workers learn what no refresh tells of: keys that were restored from a snapshot."""
LONGEST_DRAIN_SECONDS = DRAIN_NOTICE_SECONDS + DRAIN_GRACE_SECONDS + 5.0

log = logging.getLogger(__name__)


def supervise(
    config: Config, policy_file: PolicyFile, policy: Policy, endpoints: tuple[Address, ...], *, reflection: bool = False
) -> None:
    """Serve with a worker for each endpoint until SIGTERM or SIGINT.

    :raises ConfigurationError: when the admin port or, at the start, one of the workers cannot listen.
    """
    configure_logging(config.log_level, config.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Supervisor(config, policy_file, policy, endpoints, reflection=reflection).serve())


class Supervisor:
    """Runs the workers and what there is only one of."""

    def __init__(
        self, config: Config, policy_file: PolicyFile, policy: Policy, endpoints: tuple[Address, ...],
        *, reflection: bool = False,
    ) -> None:  # fmt: skip
        self._config = config
        self._policy_file = policy_file
        self._reflection = reflection
        self._metrics = Metrics()
        self._metrics.watch(lambda: way_families(config.way))
        self._merged = MergedPages()
        self._keys = key_rings(config, [self._metrics, self])
        self._published: dict[str, KeyState] = {}
        self._changed = asyncio.Event()
        self._members = tuple(Member(address, self, self._changed) for address in endpoints)
        self._policy = policy
        self._policy_text = policy_file.text
        self._keys.use(trusted_issuers(config, policy))
        if config.needs_keys:
            self._metrics.watch_keys(self._keys)
        self._metrics.watch_workers(self)
        self._status = Status(config, self._keys)
        self._reload = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def up(self) -> int:
        """How many workers answer."""
        return sum(member.up for member in self._members)

    @property
    def restarts(self) -> int:
        """How often one was started again."""
        return sum(member.restarts for member in self._members)

    @property
    def ready(self) -> bool:
        """Whether there are keys, if they are needed, and a worker: the others are Envoy's to leave out."""
        return (self._keys.ready or not self._config.use_oauth2_auth) and self.up > 0

    def status(self) -> dict[str, Any]:
        """What ``/status`` shows."""
        pages = [member.page for member in self._members]
        families = tuple(self._merged.families(self._metrics.render().decode(), pages))
        denials = latest(member.last_denials for member in self._members)
        return {
            **self._status.tell(ready=self.ready, policy=self._policy, families=families, denials=denials),
            **migration_status(self._config, self._policy, families),
            "workers": [member.status() for member in self._members],
        }

    def metrics_page(self) -> bytes:
        """What ``/metrics`` shows, for all workers together."""
        return self._merged.page(self._metrics.render().decode(), [member.page for member in self._members])

    async def update(self) -> None:
        """Ask all workers for their figures."""
        await asyncio.gather(*(member.update() for member in self._members))

    async def serve(self) -> None:
        """Open the admin port, then start the workers, then fetch keys; drain at the end."""
        stop = on_signals(self._reload_now)
        admin = AdminServer(self, self._config.admin_listen, self.update)
        admin_address = await admin.start()
        lives = [asyncio.create_task(member.live()) for member in self._members]
        if self._config.needs_keys:
            self._keys.start()
        tasks = (self._watch(), _every(PUBLISH_SECONDS, self._publish), self._look_after())
        background = [asyncio.create_task(task) for task in tasks]
        try:
            await self._come_up(stop)
            # The line that says that all is open, as with one process.
            addresses = ", ".join(str(member.address) for member in self._members)
            log.info("listening for Envoy on %s, admin on %s", addresses, admin_address)
            received = await stop
            await self._drain(lives, received, received.name)
        except ConfigurationError:
            await self._drain(lives, signal.SIGINT, "a worker cannot start")
            raise
        finally:
            for task in (*background, *self._tasks, *lives):
                task.cancel()
            await asyncio.gather(*background, *self._tasks, *lives, return_exceptions=True)
            await self._keys.stop()
            await admin.stop()

    async def _come_up(self, stop: asyncio.Future[signal.Signals]) -> None:
        """Wait until each worker answers; :raises ConfigurationError: one of them cannot listen."""
        stop.add_done_callback(lambda _: self._changed.set())
        while self.up < len(self._members) and not stop.done():
            await self._changed.wait()
            self._changed.clear()
            for member in self._members:
                if member.problems:
                    raise ConfigurationError(member.problems)

    async def _drain(self, lives: list[asyncio.Task[None]], number: signal.Signals, why: str) -> None:
        """End all workers by this signal; ``why`` is for the log: the signal may be nobody's but ours."""
        log.info("%s: ending %d workers", why, len(self._members))
        for member in self._members:
            member.end(number)
        _, late = await asyncio.wait(lives, timeout=LONGEST_DRAIN_SECONDS)
        if late:
            log.error("%d workers did not end in time and are killed. See their last lines for why.", len(late))

    # What workers need to know.

    def greet(self, link: Link, address: Address) -> None:
        """Tell a new worker all that it has to know."""
        for state in self._published.values():
            link.send("keys", **key_message(state))
        link.send("policy", text=self._policy_text)
        link.send("serve", listen=str(address), reflection=self._reflection)

    def told(self, what: str, message: Message, link: Link) -> None:
        """A worker told its figures, or met key ids that are not known."""
        if what == "seek":
            task = asyncio.create_task(self._look_for(message["issuer"], message["kids"], link))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif what == "figures":
            rings = {ring.issuer: ring for ring in self._keys}
            for issuer, kid, at in message["last_used"]:
                if issuer in rings:
                    rings[issuer].used_elsewhere(kid, at)

    def ended(self, page: str) -> None:
        """A worker is gone: what it counted stays."""
        self._merged.keep(page)

    async def _look_for(self, issuer: str, kids: list[str], link: Link) -> None:
        """One shared refresh at most, as in one process: the budget is the ring's."""
        await asyncio.gather(*(self._keys.refresh_for_unknown_kid(issuer, kid) for kid in kids))
        self._publish()  # first the keys, then the answer
        link.send("sought", issuer=issuer)

    def refreshed(self, _issuer: str, _key_set: KeySet, _withdrawn: frozenset[str]) -> None:
        """Keys that were withdrawn end everywhere at this very refresh."""
        self._publish()

    def refresh_failed(self, _issuer: str, _cause: str) -> None:
        """The keys are what they were, but when they are fetched again has changed."""
        self._publish()

    def _publish(self) -> None:
        """Tell all workers what has changed about any issuer's keys."""
        states = {ring.issuer: ring.state() for ring in self._keys}
        for state in states.values():
            if state != self._published.get(state.issuer):
                self._tell_all("keys", **key_message(state))
        for issuer in self._published.keys() - states:
            self._tell_all("gone", issuer=issuer)
        self._published = states

    def _tell_all(self, what: str, **content: Any) -> None:
        for member in self._members:
            member.send(what, **content)

    def _use(self, policy: Policy) -> None:
        """Take a changed policy into use, everywhere."""
        self._policy, self._policy_text = policy, self._policy_file.text
        self._keys.use(trusted_issuers(self._config, policy))
        self._publish()
        self._tell_all("policy", text=self._policy_text)

    # What goes on all the time.

    async def _watch(self) -> None:
        await watch(self._policy_file, self._use, self._metrics.policy_reloaded, self._reload)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(UPDATE_SECONDS)
            await self.update()
            for member in self._members:
                member.check()

    def _reload_now(self) -> None:
        log.info("SIGHUP: refreshing keys and policy now")
        self._tell_all("reopen")
        self._reload.set()
        self._keys.refresh_now()


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        try:
            do()
        except Exception:
            log.exception("The supervisor broke, and goes on. This is a defect: please report this line.")
        await asyncio.sleep(seconds)
