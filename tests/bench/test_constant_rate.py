"""The generator that does not wait."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.constant_rate import Generator

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nreached"
REQUEST = b"GET / HTTP/1.1\r\n\r\n"


@contextmanager
def server(answers: list[bytes], hold_first: threading.Event | None = None) -> Iterator[int]:
    """One connection; each request gets the next answer, the first one not before it may."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                for number, answer in enumerate(answers):
                    if not connection.recv(65536):
                        return
                    if number == 0 and hold_first is not None:
                        hold_first.wait()
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join()


def test_latency_begins_when_a_request_is_due() -> None:
    """While the one connection is held up for 0.2 s, requests come due that are sent later: they waited as well."""
    release = threading.Event()
    threading.Timer(0.2, release.set).start()
    with server([ANSWER] * 20, release) as port, Generator(port, REQUEST, b"reached", connections=1) as generator:
        generator.run(rate=100, seconds=0.2)
    assert len(generator.latencies) == 20
    # Due each 10 ms, so those of the first half waited for 0.1 s at least; a closed loop would have seen one of 0.2 s.
    assert sum(latency > 0.09 for latency in generator.latencies) >= 10


def test_another_status_is_a_failure() -> None:
    refused = ANSWER.replace(b"200 OK", b"503 No")
    answers = [ANSWER, refused, ANSWER]
    with server(answers) as port, Generator(port, REQUEST, b"reached", connections=1) as generator:
        generator.run(rate=300, seconds=0.01)
    assert (len(generator.latencies), generator.failed) == (2, 1)


def test_a_connection_that_is_closed_ends_the_run() -> None:
    with (
        server([ANSWER]) as port, Generator(port, REQUEST, b"reached", connections=1) as generator,
        pytest.raises(ConnectionError),
    ):  # fmt: skip
        generator.run(rate=200, seconds=0.01)
