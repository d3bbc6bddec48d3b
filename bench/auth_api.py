"""A remote Auth-API in its cheapest form: ready-made answers, at once or after the time that a real one takes.

It stands for another machine: it runs on the generator's core and its processor time counts for nobody.
"""

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path

import uvloop

HEAD_END = b"\r\n\r\n"


class Answering(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and without pipelining: the key set, how often it was asked about a token, and whatever
    else is asked the permissions.

    :param delay: seconds, for permissions.
    """

    _transport: asyncio.Transport
    _questions = 0
    """About tokens, of all connections."""

    def __init__(self, keys: bytes, permissions: bytes, delay: float) -> None:
        self._keys = _response(keys)
        self._permissions = _response(permissions)
        self._delay = delay
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = transport  # type: ignore[assignment] # a stream's, but of uvloop's own class

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._head += data
        if not self._head.endswith(HEAD_END):
            return
        target, self._head = self._head.split(b" ", 2)[1], b""
        if target.endswith(b"jwks.json"):
            self._transport.write(self._keys)
            return
        if target.endswith(b"/questions"):
            self._transport.write(_response(b"%d" % Answering._questions))
            return
        Answering._questions += 1
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._transport.write, self._permissions)
        else:
            self._transport.write(self._permissions)


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def _serve(port: int, slow_port: int, keys: bytes, permissions: bytes, delay: float) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: Answering(keys, permissions, 0), "127.0.0.1", port)
    await loop.create_server(lambda: Answering(keys, permissions, delay), "127.0.0.1", slow_port)
    await asyncio.Event().wait()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.auth_api")
    parser.add_argument("port", type=int)
    parser.add_argument("slow_port", type=int)
    parser.add_argument("keys", type=Path, help="the key set")
    parser.add_argument("permissions", type=Path, help="what is answered about any token")
    parser.add_argument("delay", type=float, help="seconds, on the slow port")
    given = parser.parse_args()
    serving = _serve(given.port, given.slow_port, given.keys.read_bytes(), given.permissions.read_bytes(), given.delay)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _main()
