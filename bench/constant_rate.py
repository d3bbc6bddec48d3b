"""A load generator that does not wait: requests are due at fixed times, whatever became of those before.

A latency begins when its request was due, not when a connection was free to send it. A generator that waits for slow
answers before it asks again would leave out the very requests that suffer (coordinated omission). It spins, since no
timer of the system is finer than what is measured; its core is its own.
"""

import argparse
import gc
import json
import select
import socket
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import Self

from bench.load import START_SECONDS, Load
from bench.machine import on_core
from bench.processes import BenchFailed, module

GRACE_SECONDS = 2.0
GOOD = b"HTTP/1.1 200 "


class Generator:
    """HTTP/1.1, one request at a time on each connection; a context manager.

    :param answer_end: the last octets of each good answer.
    """

    def __init__(self, port: int, request: bytes, answer_end: bytes, connections: int) -> None:
        self._request = request
        self._answer_end = answer_end
        self._connections = [_connect(port) for _ in range(connections)]
        self._idle = deque(self._connections)
        self._busy: dict[int, tuple[socket.socket, float]] = {}
        self._epoll = select.epoll()
        for connection in self._connections:
            self._epoll.register(connection, select.EPOLLIN)
        self.latencies: list[float] = []
        self.failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._epoll.close()
        for connection in self._connections:
            connection.close()

    def run(self, rate: float, seconds: float) -> None:
        """:raises ConnectionError: the other side closed a connection."""
        started, total, sent = time.perf_counter(), int(rate * seconds), 0
        while len(self.latencies) + self.failed < total:
            now = time.perf_counter()
            while sent < total and self._idle and (due := started + sent / rate) <= now:
                self._send(due)
                sent += 1
            for number, _ in self._epoll.poll(0):
                self._receive(number)
            if now > started + seconds + GRACE_SECONDS:
                self.failed += total - len(self.latencies) - self.failed  # never answered, or never asked

    def _send(self, due: float) -> None:
        connection = self._idle.popleft()
        self._busy[connection.fileno()] = connection, due
        connection.sendall(self._request)

    def _receive(self, number: int) -> None:
        if number not in self._busy:
            raise ConnectionError("closed by the other side, or answered without being asked")
        connection, due = self._busy[number]
        answer = connection.recv(65536)
        if not answer:
            raise ConnectionError("closed by the other side instead of an answer")
        if not answer.endswith(self._answer_end):
            answer += _rest(connection, self._answer_end)
        if answer.startswith(GOOD):
            self.latencies.append(time.perf_counter() - due)
        else:
            self.failed += 1
        del self._busy[number]
        self._idle.append(connection)


def constant_rate(
    port: int, request: Path, *, rate: float, seconds: float, connections: int, core: int, answer_end: str
) -> Load:
    """Run a generator on a core of its own."""
    command = module("bench.constant_rate", port, request, rate, seconds, connections, answer_end)
    with on_core(core):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + START_SECONDS)
    if done.returncode:
        raise BenchFailed(done.stderr[-2000:])
    seen = json.loads(done.stdout)
    return Load(seen["requests"], rate, seen["p50_ms"], seen["p99_ms"], seen["failed"])


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _rest(connection: socket.socket, end: bytes) -> bytes:
    answer = b""
    while not answer.endswith(end):
        answer += connection.recv(65536)
    return answer


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.constant_rate")
    parser.add_argument("port", type=int)
    parser.add_argument("request", type=Path)
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("connections", type=int)
    parser.add_argument("answer_end")
    given = parser.parse_args()
    gc.disable()  # its pauses would be somebody else's latency
    request, answer_end = given.request.read_bytes(), given.answer_end.encode()
    with Generator(given.port, request, answer_end, given.connections) as generator:
        generator.run(given.rate, given.seconds)
    latencies = sorted(generator.latencies) or [0.0]
    print(json.dumps({
        "requests": len(generator.latencies) + generator.failed, "failed": generator.failed,
        "p50_ms": latencies[len(latencies) // 2] * 1000, "p99_ms": latencies[len(latencies) * 99 // 100] * 1000,
    }))  # fmt: skip


if __name__ == "__main__":
    _main()
