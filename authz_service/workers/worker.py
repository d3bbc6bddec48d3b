"""One worker: decides at one address by the keys and the policy that its supervisor tells it.

Private: ``python -m authz_service.workers.worker DESCRIPTOR``, with the environment of the supervisor.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from typing import Any

import uvloop

from authz_service.address import Address
from authz_service.config import Config, load_config
from authz_service.decision_server import DecisionServer, do_not_interrupt, drain, on_signals
from authz_service.errors import ConfigurationError
from authz_service.observability.logs import configure_logging
from authz_service.observability.metrics import Metrics
from authz_service.policy.loader import parse_policy
from authz_service.workers.feed import Feed
from authz_service.workers.link import Link, Message, key_state

EXIT_REFUSED = 2

log = logging.getLogger("authz_service.workers.worker")  # where __name__ is __main__, and would tell nothing


def main(arguments: list[str]) -> int:
    """Serve until the supervisor says so or is gone; :returns: the exit code."""
    config = load_config(os.environ)
    configure_logging(config.log_level, config.log_format)
    do_not_interrupt()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(config, socket.socket(fileno=int(arguments[0]))))


async def _work(config: Config, sock: socket.socket) -> int:
    stop = on_signals(lambda: None)  # the supervisor reloads, for all
    link = await Link.over(sock)
    worker = Worker(config, link)
    try:
        await worker.serve(stop)
    except ConfigurationError as error:
        link.send("refused", problems=error.problems)
        return EXIT_REFUSED
    finally:
        await link.close()
    return 0


class Worker:
    """Hears what to do, then does it."""

    def __init__(self, config: Config, link: Link) -> None:
        self._config = config
        self._link = link
        self._feed = Feed(config, link)
        self._metrics = Metrics()
        self._policy_text = ""
        self._decisions: DecisionServer | None = None

    async def serve(self, stop: asyncio.Future[signal.Signals]) -> None:
        """Until a signal, or the end of the supervisor: without it keys would grow old and a withdrawn one live on.

        :raises ConfigurationError: it cannot listen.
        """
        order = await self._begin()
        if order is None or stop.done():
            return
        address = Address.parse(order["listen"])
        decisions = self._open(address, reflection=order["reflection"])
        following = asyncio.create_task(self._follow(stop))
        try:
            async with decisions.listening() as server:
                log.info("worker %d answers at %s", os.getpid(), address)
                self._link.send("up")
                await drain(server, await stop)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        self._tell()

    def _open(self, address: Address, **options: bool) -> DecisionServer:
        config = self._config.model_copy(update={"listen": (address,)})
        keys, policy = self._feed.key_rings(), parse_policy(self._policy_text)
        self._decisions = DecisionServer(config, policy, keys, self._metrics, **options)
        return self._decisions

    async def _begin(self) -> Message | None:
        """Hear all that there is to know; :returns: the order to serve, or None: the supervisor has gone."""
        while (message := await self._link.receive()) is not None:
            if message["what"] == "serve":
                return message
            self._hear(message)
        return None

    async def _follow(self, stop: asyncio.Future[signal.Signals]) -> None:
        """Whatever ends this ends the worker: it must not decide by what it does not hear about any more."""
        try:
            while (message := await self._link.receive()) is not None:
                self._hear(message)
            log.error("the supervisor has gone; worker %d ends. See its last lines, or the memory limit.", os.getpid())
        except Exception:
            log.exception("A worker did not understand its supervisor. This is a defect: please report this line.")
        if not stop.done():
            stop.set_result(signal.SIGINT)

    def _hear(self, message: Message) -> None:
        what = message["what"]
        if what == "keys":
            self._feed.hear(key_state(message))
        elif what == "gone":
            self._feed.forget(message["issuer"])
        elif what == "sought":
            self._feed.answered(message["issuer"])
        elif what == "policy":
            self._use_policy(message["text"])
        elif what == "reopen" and self._decisions is not None:
            self._decisions.reopen_log()
        elif what == "tell":
            self._tell()

    def _use_policy(self, text: str) -> None:
        self._policy_text = text
        if self._decisions is None:
            return
        try:
            self._decisions.use(parse_policy(text))
        except Exception:  # as with one process, see policy_file.watch
            log.exception("policy not reloaded, the old one serves on; this is a defect: please report this line")

    def _tell(self) -> None:
        figures: dict[str, Any] = {"page": self._metrics.render().decode(), "last_used": self._feed.last_used()}
        denials = self._decisions.last_denials.told() if self._decisions is not None else []
        self._link.send("figures", **figures, last_denials=denials)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
