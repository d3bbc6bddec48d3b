"""The bytes of a ``CheckRequest``, through the whole service."""

from tests.fuzz.judge import judge

MAX_LENGTH = 8192


def fuzz(data: bytes) -> bool:
    """Accepted is what is let through."""
    return judge(data)
