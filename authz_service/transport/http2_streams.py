"""One stream of a connection is one call (RFC 9113 section 5.1)."""

from collections.abc import Callable
from enum import Enum
from typing import Final

from authz_service.transport.grpc_wire import MAX_BODY_BYTES, TOO_LARGE, Refusal
from authz_service.transport.http2_headers import CallHead


class State(Enum):
    """RFC 9113 section 5.1, figure 2, as far as a server without push sees it. Idle streams have no object yet."""

    OPEN = "the request is arriving"
    HALF_CLOSED = "the request is whole; the answer is due, or on its way"
    CLOSED = "answered, or reset"


# By names of their own: to look one up on an Enum takes longer.
OPEN: Final = State.OPEN
HALF_CLOSED: Final = State.HALF_CLOSED
CLOSED: Final = State.CLOSED


class Arrivals:
    """How many octets are kept of messages that are not whole: on one connection, and on all of them together."""

    def __init__(self, everywhere: "Arrivals | None" = None) -> None:
        self.size = 0
        self.everywhere = everywhere

    def add(self, size: int) -> None:
        """Negative: they have become a message, or are wanted no more."""
        self.size += size
        if self.everywhere is not None:
            self.everywhere.add(size)


class Call:
    """A unary call: the request as far as it arrived, the answer as far as the peer's windows let it out.

    Most calls arrive as one message and are answered at once. What only the others need is an attribute of the class
    until then, because one of these is built for each request.
    """

    message = b""
    """Set when the state becomes HALF_CLOSED."""
    flow_bytes = 0
    """Of DATA payloads, padding included (section 6.9.1)."""
    received_bytes = 0
    unsent = b""
    """Of the answer's DATA."""
    trailers: bytes | None = None
    """The block that ends the stream after the DATA; None: the last DATA frame ends it."""
    on_reset: Callable[[], object] | None = None
    """Called if nobody waits for the answer any more."""
    _body: bytearray | None = None
    _arrivals: Arrivals | None = None

    def __init__(self, stream_id: int, head: CallHead, deadline: float, send_window: int) -> None:
        self.stream_id = stream_id
        self.head = head
        self.deadline = deadline
        """On the clock that the connection is given."""
        self.send_window = send_window
        self.state = OPEN

    @property
    def refusal(self) -> Refusal | None:
        """Why the call cannot be served, as far as is known by now."""
        return self.head.refusal or (TOO_LARGE if self.received_bytes > MAX_BODY_BYTES else None)

    def take(self, chunk: bytes, arrivals: Arrivals) -> None:
        """Keep what arrived, unless it is too much or for nothing."""
        self.received_bytes += len(chunk)
        if self.refusal is None:
            if self._body is None:
                self._body, self._arrivals = bytearray(), arrivals
            self._body += chunk
            arrivals.add(len(chunk))

    def take_body(self) -> bytes:
        """All that was kept; nothing is any more."""
        body, self._body = self._body, None
        if body is None or self._arrivals is None:
            return b""
        self._arrivals.add(-len(body))
        return bytes(body)

    def abandon(self) -> None:
        """The stream was reset; whatever was under way for it can end."""
        self.state = CLOSED
        self.unsent = b""
        self.take_body()
        if self.on_reset is not None:
            self.on_reset()
