"""A worker's or a supervisor's end of the link between them, and what was said there."""

from typing import Any

from authz_service.workers.link import Link, Message


class RecordingLink(Link):
    """Sends to nobody, and keeps it."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, what: str, **content: Any) -> None:
        """Keep it."""
        self.sent.append({"what": what, **content})
