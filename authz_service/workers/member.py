"""One place among the workers: an address, and the process that answers there, again and again."""

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from authz_service.address import Address
from authz_service.observability.denials import latest
from authz_service.workers.link import Link, Message

WORKER = "authz_service.workers.worker"
TELL_SECONDS = 1.0
"""How long a scrape waits for a worker; after that the figures are the last that it told."""
MAX_SILENCES = 6
"""Questions in a row that a worker may leave unanswered before it is taken for dead."""
MAX_SILENCES_AT_START = 24
"""Libraries take long to load where the processor is rationed."""
SETTLED_SECONDS = 10.0
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0

log = logging.getLogger(__name__)


class Host(Protocol):
    """What a member needs of its supervisor."""

    def greet(self, link: Link, address: Address, /) -> None:
        """Tell a new worker all that it has to know."""

    def told(self, what: str, message: Message, link: Link, /) -> None:
        """A worker said something that is not about itself."""

    def ended(self, page: str, /) -> None:
        """A worker is gone; ``page`` is the metrics page that it told last."""


def respawn_delay(quick_ends: int) -> float:
    """Seconds until a worker is started again: at once, unless it ends soon after its start time and again."""
    if quick_ends <= 1:
        return 0.0
    return min(FIRST_DELAY_SECONDS * 2.0 ** min(quick_ends - 2, 16), LONGEST_DELAY_SECONDS)


class Member:
    """Keeps one worker running.

    :param changed: set whenever it comes up or ends.
    :param monotonic: seconds.
    """

    def __init__(
        self, address: Address, host: Host, changed: asyncio.Event, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.address = address
        self.restarts = 0
        self.up = False
        self.problems: tuple[str, ...] = ()
        """Why it cannot listen, by its own word."""
        self.page = ""
        """The metrics page of the running worker, as of when it was last asked."""
        self.last_denials: list[dict[str, Any]] = []
        """Likewise, and those of the workers before it, as far as there is room."""
        self._inherited: list[dict[str, Any]] = []
        self._host = host
        self._changed = changed
        self._monotonic = monotonic
        self._process: Process | None = None
        self._link: Link | None = None
        self._was_up = False
        self._figures = asyncio.Event()
        self._heard = False
        self._silences = 0
        self._end_by: signal.Signals | None = None
        self._ending = asyncio.Event()

    async def live(self) -> None:
        """Start it, and start it again whenever it ends, until :meth:`end`; but not if it could never listen."""
        quick_ends = 0
        while True:
            started = self._monotonic()
            why = await self._run_safely()
            if self._ending.is_set() or (self.problems and not self._was_up):
                return
            quick_ends = quick_ends + 1 if self._monotonic() - started < SETTLED_SECONDS else 1
            await self._pause("; ".join(self.problems) or why, respawn_delay(quick_ends))
            if self._ending.is_set():
                return
            self.restarts += 1

    async def _pause(self, why: str, seconds: float) -> None:
        log.error(
            "the worker at %s ended (%s); it is started again in %.1f s. See the lines before this one; without any, "
            "check the memory limit.", self.address, why, seconds,
        )  # fmt: skip
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    def end(self, number: signal.Signals) -> None:
        """Have it end by this signal, for good; at once, if it does not answer anybody yet."""
        self._end_by = number if self.up else signal.SIGKILL
        self._ending.set()
        self._signal(self._end_by)

    def send(self, what: str, **content: Any) -> None:
        """Tell it something, if it is there."""
        if self._link is not None:
            self._link.send(what, **content)

    async def update(self) -> None:
        """Ask for its figures, and wait for them."""
        if not self.up:
            return
        self._figures.clear()
        self.send("tell")
        with suppress(TimeoutError):
            async with asyncio.timeout(TELL_SECONDS):
                await self._figures.wait()

    def check(self) -> None:
        """Kill a worker that hangs: that has said nothing for many checks, each of them after :meth:`update`."""
        self._silences = 0 if self._heard or self._process is None else self._silences + 1
        self._heard = False
        if self._silences >= (MAX_SILENCES if self.up else MAX_SILENCES_AT_START):
            self._silences = 0
            log.error(
                "the worker at %s does not answer its supervisor and is killed. Check that it gets enough of the "
                "processor.", self.address,
            )  # fmt: skip
            self._signal(signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        """For ``/status``."""
        pid = self._process.pid if self._process is not None else None
        return {"address": str(self.address), "pid": pid, "up": self.up, "restarts": self.restarts}

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _run_safely(self) -> str:
        try:
            return await self._run()
        except Exception:
            log.exception("Running the worker at %s broke. This is a defect: please report this line.", self.address)
            return "a defect"

    async def _run(self) -> str:
        """One process, from its start to its end; :returns: why it ended."""
        self.problems = ()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await _spawn(theirs)
        except OSError as error:
            ours.close()
            return error.strerror or type(error).__name__
        try:
            return await self._accompany(self._process, await Link.over(ours))
        except BaseException:
            self._signal(signal.SIGKILL)
            raise
        finally:
            self._process = None

    async def _accompany(self, process: Process, link: Link) -> str:
        self._link = link
        try:
            self._host.greet(link, self.address)
            if self._end_by is not None:  # while it was started
                self._signal(self._end_by)
            await self._listen_to(link)
        except Exception:
            log.exception("The worker at %s was not understood. This is a defect: please report it.", self.address)
            self._signal(signal.SIGKILL)
        finally:
            self._link = None
            self.up = False
            await link.close()
            self._host.ended(self.page)
            self.page = ""
            self._inherited = self.last_denials
            self._changed.set()
        return _why(await process.wait())

    async def _listen_to(self, link: Link) -> None:
        """Until it ends: its end of the link closes with it, after all that it said."""
        while (message := await link.receive()) is not None:
            what = message.pop("what")
            self._heard = True
            if what == "up":
                self.up = self._was_up = True
                self._changed.set()
            elif what == "refused":
                self.problems = tuple(message["problems"])
            else:
                if what == "figures":
                    self.page = message["page"]
                    self.last_denials = latest((message["last_denials"], self._inherited))
                    self._figures.set()
                self._host.told(what, message, link)


async def _spawn(sock: socket.socket) -> Process:
    # The same modules as here, in the same order, and nothing of the directory that we happen to be in. A session of
    # its own: what a terminal sends to all its processes is for the supervisor to pass on.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", WORKER, str(sock.fileno()), pass_fds=[sock.fileno()], env=environ, stdin=DEVNULL,
        start_new_session=True,
    )  # fmt: skip


def _why(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
