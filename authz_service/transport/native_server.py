"""The gRPC server on our own HTTP/2: Check and ``grpc.health.v1``, over TCP or a Unix socket, with or without TLS."""

import asyncio
import logging
import ssl

from authz_service.address import Address
from authz_service.transport.backlog import Lateness
from authz_service.transport.check_service import METHOD
from authz_service.transport.health import HEALTH_CHECK, Health
from authz_service.transport.http2_streams import Arrivals
from authz_service.transport.listening import listen, unlink
from authz_service.transport.native_calls import CHECK, Handler, Methods
from authz_service.transport.native_peer import Check, Peer

SERVICE = METHOD.strip("/").rpartition("/")[0]

MAX_CONNECTIONS = 1_000
"""Envoy opens one for each worker thread; more than this is nobody's wish."""
TICK_SECONDS = 1.0
"""How often what has no event of its own is looked at: handshakes, stuck requests, stalled readers."""
DRAIN_SECONDS = 1.0
"""For the peer to acknowledge the first GOAWAY; the second one does not wait longer."""

log = logging.getLogger(__name__)


class NativeServer:
    """Listens on every address; healthy only when told so. No exception of ``check`` ends a connection.

    :param tls: for mutual TLS between Envoy and this server; ALPN is set to ``h2`` here (RFC 9113 section 3.2).
    :param lateness: tells what comes too late.
    :raises ConfigurationError: it cannot listen.
    """

    def __init__(
        self, check: Check, addresses: tuple[Address, ...], *, tls: ssl.SSLContext | None = None,
        lateness: Lateness | None = None,
    ) -> None:  # fmt: skip
        self._health = Health(SERVICE)
        usual: dict[bytes, Handler] = {CHECK: check.check, HEALTH_CHECK: self._health.check}
        self._methods = Methods(usual, {**usual, CHECK: check.refuse_late}, check.check_together)
        self._lateness = lateness or Lateness()
        self._tls = tls
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        self._listening = listen(addresses)
        self.addresses = tuple(address for address, _ in self._listening)
        """Where it listens: port 0 has become the port that the system chose."""
        self._servers: list[asyncio.Server] = []
        self._peers: set[Peer] = set()
        self._arrivals = Arrivals()
        self._deserted = asyncio.Event()
        self._ticking: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Accept connections; health says NOT_SERVING."""
        loop = asyncio.get_running_loop()
        for address, sock in self._listening:
            create = loop.create_unix_server if address.path else loop.create_server
            self._servers.append(await create(self._new_peer, sock=sock, ssl=self._tls))
        self._tick()

    async def set_serving(self, *, serving: bool) -> None:
        """Tell Envoy and Kubernetes whether to send requests here."""
        self._health.serving = serving

    async def stop(self, grace_seconds: float) -> None:
        """Finish the calls under way, take no new ones."""
        self._health.serving = False
        for address, _ in self._listening:
            unlink(address)  # first: closed, it would look abandoned, and a successor's be removed in its place
        for server in self._servers:
            server.close()
        for _, sock in self._listening:
            sock.close()
        await self._drain(grace_seconds)
        for peer in tuple(self._peers):
            peer.abort()
        if self._ticking is not None:
            self._ticking.cancel()

    async def _drain(self, grace_seconds: float) -> None:
        """RFC 9113 section 6.8: two GOAWAYs, so that no call falls between them."""
        for peer in tuple(self._peers):
            peer.begin_drain()
        half_time = min(DRAIN_SECONDS, grace_seconds / 2)
        if not await self._wait_deserted(half_time):
            for peer in tuple(self._peers):
                peer.end_drain()
            await self._wait_deserted(grace_seconds - half_time)

    async def _wait_deserted(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                while self._peers:
                    self._deserted.clear()
                    await self._deserted.wait()
        except TimeoutError:
            return False
        return True

    def _new_peer(self) -> Peer:
        return Peer(self._methods, self._lateness, self._join, self._leave, self._arrivals)

    def _join(self, peer: Peer) -> bool:
        if len(self._peers) >= MAX_CONNECTIONS:
            log.warning(
                "more than %d connections; a new one is refused. Envoy opens one for each of its threads: see who else "
                "connects to AUTHZ_LISTEN, and admit Envoy alone.", MAX_CONNECTIONS,
            )  # fmt: skip
            return False
        self._peers.add(peer)
        return True

    def _leave(self, peer: Peer) -> None:
        self._peers.discard(peer)
        self._deserted.set()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for peer in tuple(self._peers):
            peer.tick(now)
        self._ticking = loop.call_later(TICK_SECONDS, self._tick)
