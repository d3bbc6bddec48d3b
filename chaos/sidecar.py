"""``authz-service serve`` under hardship: with limits, a moved clock, a log that nobody reads."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from chaos.grpc_client import ask_once
from chaos.tokens import check_message
from demo.ports import free_port
from tests.support.service import PATIENCE_SECONDS, Service

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

Output = int | IO[bytes]


class Sidecar(Service):
    """A process whose log may go anywhere.

    :param wrapper: the words before the command, such as a shell that sets a limit.
    :param output: where its log goes; a file that :meth:`log` reads, if nothing is said.
    """

    def __init__(
        self, directory: Path, environ: Mapping[str, str], *, wrapper: Sequence[str] = (), output: Output | None = None
    ) -> None:
        self._admin = f"127.0.0.1:{free_port()}"
        chosen = {"AUTHZ_TRANSPORT": os.environ["AUTHZ_TRANSPORT"]} if "AUTHZ_TRANSPORT" in os.environ else {}
        super().__init__(directory, {"AUTHZ_ADMIN_LISTEN": self._admin, **chosen, **environ})
        self._wrapper = tuple(wrapper)
        self._output = output

    async def start(self) -> None:
        """Start, and wait until it answers."""
        if not self._wrapper and self._output is None:
            await super().start()
            return
        with self._log_path.open("ab") as log:
            output = log if self._output is None else self._output
            self._process = await asyncio.create_subprocess_exec(
                *self._wrapper, sys.executable, "-m", "authz_service", "serve", env=self._environ, stderr=output,
                stdout=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        await self.until_answering()

    async def until_answering(self) -> None:
        """Wait until it answers Check calls, whatever the verdict, and on the admin port."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    await ask_once(self.address, check_message(None, "/healthz"))
                    _, writer = await asyncio.open_connection("127.0.0.1", self.admin_port)
                    writer.close()
                except OSError:
                    assert self.running, f"it ended:\n{self.raw_log()}"
                    await asyncio.sleep(0.02)
                else:
                    return

    @property
    def admin_url(self) -> str:
        """Where the admin port answers."""
        return f"http://{self._admin}"

    @property
    def admin_port(self) -> int:
        """The same, the port alone."""
        return int(self._admin.rpartition(":")[2])

    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES

    def cpu_seconds(self) -> float:
        """Processor time so far, user and system (proc(5), fields 14 and 15 of stat)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def descriptors(self) -> int:
        """How many file descriptors are open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - names only


def limited(*limits: str) -> tuple[str, ...]:
    """A wrapper that sets limits as a shell does, for example ``-n 64``."""
    return ("/bin/sh", "-c", "".join(f"ulimit {limit}; " for limit in limits) + 'exec "$@"', "sh")


def in_namespace(*commands: str) -> tuple[str, ...]:
    """A wrapper that runs these commands in a mount namespace of the process's own, as root of nothing else."""
    return (
        "unshare", "--map-root-user", "--mount", "/bin/sh", "-ec", "".join(f"{each}; " for each in commands)
        + 'exec "$@"', "sh",
    )  # fmt: skip
