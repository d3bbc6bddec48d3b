"""The native server against h2spec, the public conformance test of HTTP/2: in the clear and over TLS.

``go install github.com/summerwind/h2spec/cmd/h2spec@latest`` brings the tool; without it, nothing is held against
anything, and this says so.
"""

import asyncio
import logging
import re
import shutil
import ssl
import sys
import tempfile
from asyncio import subprocess
from collections.abc import Sequence
from pathlib import Path

import uvloop

from authz_service.address import Address
from authz_service.transport.check_service import METHOD
from authz_service.transport.native_server import NativeServer
from tests.support.certificates import Authority

TOOL = "h2spec"
ABSENT = f"{TOOL} is not on PATH: skipped (go install github.com/summerwind/h2spec/cmd/h2spec@latest)"
SUMMARY = re.compile(r"^(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed$", re.MULTILINE)
ANSWER_SECONDS = "10"
"""For one answer. The tool's own 2 s would fail by the speed of a busy machine."""


class Echo:
    """Stands in for the service: what is tested lies before it."""

    @staticmethod
    def check(message: bytes, _traceparent: bytes) -> bytes:
        """See :class:`authz_service.transport.native_peer.Check`."""
        return message

    @staticmethod
    def check_together(calls: Sequence[tuple[bytes, bytes]], _seconds: float) -> list[bytes]:
        """As above."""
        return [message for message, _ in calls]

    refuse_late = check


def judged(code: int, report: str) -> str:
    """What came of one run, in one line; it begins with ``passed`` only if cases passed and none failed.

    The tool itself skips the cases that want a response body where there is none.
    """
    found = SUMMARY.findall(report)
    if not found:
        return f"failed: {TOOL} ended with {code} and no summary"
    tests, passed, skipped, failed = map(int, found[-1])
    well = code == 0 and failed == 0 and passed > 0
    return f"{'passed' if well else 'failed'}: {tests} cases, {passed} passed, {skipped} skipped, {failed} failed"


async def conform(tool: str, *, tls: ssl.SSLContext | None) -> tuple[str, str]:
    """All cases, the strict ones too, against a server of its own; :returns: the verdict and the whole report."""
    server = NativeServer(Echo(), (Address("127.0.0.1", 0),), tls=tls)
    await server.start()
    try:
        command = [tool, "-S", "-P", METHOD, "-p", str(server.addresses[0].port), "-o", ANSWER_SECONDS]
        process = await asyncio.create_subprocess_exec(
            *command, *(["-t", "-k"] if tls else []), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await process.communicate()
    finally:
        await server.stop(0)
    report = output.decode(errors="replace")
    return judged(process.returncode or 0, report), report


async def conform_both(tool: str) -> bool:
    """In the clear and over TLS; prints a line each, and the report of what failed."""
    well = True
    with tempfile.TemporaryDirectory() as directory:
        for name, tls in (("in the clear", None), ("over TLS", Authority(Path(directory)).server())):
            verdict, report = await conform(tool, tls=tls)
            print(f"h2spec {name}: {verdict}", flush=True)
            if not verdict.startswith("passed"):
                print(report)
                well = False
    return well


def main() -> int:
    """0 when nothing failed, or when there is no tool."""
    tool = shutil.which(TOOL)
    if tool is None:
        print(ABSENT)
        return 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return 0 if runner.run(conform_both(tool)) else 1


if __name__ == "__main__":
    logging.getLogger("authz_service").setLevel(logging.ERROR)  # each case ends its connection by a fault of its own
    sys.exit(main())
