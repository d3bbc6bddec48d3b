"""``python -m demo``: start everything, print what to try, run until Ctrl-C; or ``--check``: try it all and leave."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout

from demo.children import DemoFailed, until_one_dies
from demo.ports import LOOPBACK, Ports
from demo.showcase import Exhibit, exhibits, printed
from demo.stage import Stage, stage

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_PORT_TAKEN = 2
EXIT_INTERRUPTED = 130

READY_SECONDS = 30.0
POLL_SECONDS = 0.05
REQUEST_SECONDS = 5.0

OTHER_PORTS = """\
Choose another port, or let the demo choose all of them:
  make run ARGS="--envoy-port 11000"    or    .venv/bin/python -m demo --envoy-port 11000
  make run ARGS=--any-ports             or    .venv/bin/python -m demo --any-ports"""

READY = "ready: paste any of these into another terminal; Ctrl-C here ends all of it"

PARTS = """\
  chat-api through Envoy  {envoy}
  authz-service           {authz_admin}  its page; /status /metrics /readyz; gRPC, with reflection, on port {authz_port}
  Auth-API stand-in       {auth_api}  /.well-known/jwks.json /demo/token?user=full|limited|expired
  Envoy's admin page      {envoy_admin}  /stats /clusters
  logs                    {logs}"""

T = TypeVar("T")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; :returns: the exit code: 0 good, 1 failed, 2 a port is taken."""
    arguments = _parser().parse_args(argv)
    ports = _ports(arguments)
    if problems := ports.problems():
        lines = (f"  - {problem}" for problem in problems)
        print("The demo was not started:", *lines, OTHER_PORTS, sep="\n", file=sys.stderr)
        return EXIT_PORT_TAKEN
    try:
        return asyncio.run(_until_signalled(_demo(ports, check=arguments.check, verbose=arguments.verbose)))
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED if arguments.check else EXIT_OK
    except DemoFailed as failure:
        print(f"The demo failed: {failure}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Auth-API and chat-api as stand-ins, authz-service, and a real Envoy in front, all on loopback.",
    )
    parser.add_argument("--check", action="store_true", help="make all requests that are shown, compare, exit 0 or 1")
    parser.add_argument("--verbose", action="store_true", help="logs of authz-service and Envoy to standard error")
    parser.add_argument("--any-ports", action="store_true", help="use whatever ports are free")
    for field, default in Ports()._asdict().items():
        name = field.replace("_", "-")
        parser.add_argument(f"--{name}-port", type=_port, metavar="N", help=f"port of {name} (default {default})")
    return parser


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= port <= 65535:  # noqa: PLR2004 - TCP
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535")
    return port


def _ports(arguments: argparse.Namespace) -> Ports:
    base = Ports.any() if arguments.any_ports else Ports()
    chosen = {field: getattr(arguments, f"{field}_port") for field in Ports._fields}
    return base._replace(**{field: port for field, port in chosen.items() if port is not None})


async def _until_signalled(work: Coroutine[None, None, T]) -> T:
    """Cancel the work at the first signal; later ones change nothing, since its clean-up is bounded anyway."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)

    def end(number: signal.Signals) -> None:
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(other, lambda: None)
        task.cancel(number.name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, number)
    return await task


async def _demo(ports: Ports, *, check: bool, verbose: bool) -> int:
    async with stage(ports, verbose=verbose) as running:
        show = _check if check else _present
        shown = asyncio.create_task(show(running))
        death = asyncio.create_task(until_one_dies(running.children))
        try:
            done, _ = await asyncio.wait([shown, death], return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            shown.cancel()
            death.cancel()
            await asyncio.gather(shown, death, return_exceptions=True)


async def _present(running: Stage) -> int:
    """Print what to try, then stay."""
    async with _client() as session:
        await _ready(running, session)
    print(_parts(running), READY, printed(exhibits(running.url, running.issuer)), sep="\n\n", flush=True)
    await asyncio.Event().wait()
    return EXIT_OK


async def _check(running: Stage) -> int:
    """Make each request that would be printed."""
    shown = exhibits(running.url, running.issuer)
    async with _client() as session:
        await _ready(running, session)
        differences = [await _differences(exhibit, session) for exhibit in shown]
    for exhibit, found in zip(shown, differences, strict=True):
        print(f"{'FAILED' if found else 'ok':6}  {exhibit.method:4}  {exhibit.status}  {exhibit.title}")
        for difference in found:
            print(f"        {difference}")
    return EXIT_FAILED if any(differences) else EXIT_OK


async def _ready(running: Stage, session: ClientSession) -> None:
    """Wait until a request with a valid token passes through all of it."""
    first, *_ = exhibits(running.url, running.issuer)
    found: list[str] = []
    try:
        async with asyncio.timeout(READY_SECONDS):
            while found := await _differences(first, session):  # noqa: ASYNC110 - Envoy tells nobody
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise DemoFailed(f"no good answer within {READY_SECONDS:.0f} s: {'; '.join(found)}") from None


async def _differences(exhibit: Exhibit, session: ClientSession) -> list[str]:
    try:
        return list(exhibit.differences(await exhibit.ask(session)))
    except (ClientError, TimeoutError) as error:
        return [f"no answer: {error or type(error).__name__}"]


def _parts(running: Stage) -> str:
    ports = running.ports
    urls = {field: f"http://{LOOPBACK}:{port}" for field, port in ports._asdict().items()}
    logs = running.logs or "standard error"
    return PARTS.format(**urls, authz_port=ports.authz, logs=logs)


def _client() -> ClientSession:
    return ClientSession(timeout=ClientTimeout(REQUEST_SECONDS), trust_env=False)


if __name__ == "__main__":
    sys.exit(main())
