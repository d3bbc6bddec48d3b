"""What the supervisor and a worker tell each other: JSON objects, one a line, over a private pair of sockets.

.. code-block:: text

    supervisor -> worker                         worker -> supervisor
      keys    issuer, document, good_at, ...       up
      gone    issuer                               refused   problems
      policy  text                                 seek      issuer, kids
      serve   listen, reflection (the last of      figures   page, last_used, last_denials
              what a worker begins with)
      sought  issuer
      reopen
      tell
"""

import asyncio
import json
import socket
from typing import Any, Self

from authz_service.errors import KeySetRefused
from authz_service.keys.served import KeyState

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Far above a metrics page for ten thousand rules; what is longer is a defect."""

Message = dict[str, Any]


class Link:
    """One end. It closes when the other process ends, however that happens."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Self:
        """Take over a connected socket."""
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=MAX_LINE_BYTES))

    def send(self, what: str, **content: Any) -> None:
        """Send without waiting; to nobody, if nobody is there any more."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"what": what, **content}).encode() + b"\n")

    async def receive(self) -> Message | None:
        """The next message; None when the other side has gone."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return json.loads(line) if line.endswith(b"\n") else None

    async def close(self) -> None:
        """Close this end, when all that was sent is on its way."""
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)


def key_message(state: KeyState) -> Message:
    """The content of ``keys``."""
    error = state.error
    # surrogateescape, here and below: the very bytes that were read, whatever they are.
    document = None if state.document is None else state.document.decode("utf-8", "surrogateescape")
    return {
        "issuer": state.issuer, "document": document, "good_at": state.good_at, "due": state.due,
        "seek_from": state.seek_from, "leaked": sorted(state.leaked),
        "error": [error.cause, str(error)] if error else None,
    }  # fmt: skip


def key_state(message: Message) -> KeyState:
    """The other way."""
    document, error = message["document"], message["error"]
    return KeyState(
        message["issuer"], None if document is None else document.encode("utf-8", "surrogateescape"),
        message["good_at"], message["due"], KeySetRefused(*error) if error else None,
        message["seek_from"], frozenset(message["leaked"]),
    )  # fmt: skip
