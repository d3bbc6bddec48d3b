"""A call whose answer must be waited for. Not compiled, for the reason in :mod:`.second_look`."""

import asyncio
from collections.abc import Awaitable, Callable

from authz_service.transport.grpc_wire import DEADLINE_PASSED
from authz_service.transport.http2 import Connection
from authz_service.transport.http2_streams import Call


async def answer_once_known(
    call: Call, answer: Awaitable[bytes], connection: Connection, failed: Callable[[Call, Exception], None],
    flush: Callable[[], None],
) -> None:  # fmt: skip
    """Until the call's deadline. :param failed: gets what ``answer`` raises. :param flush: lets the output out."""
    try:
        async with asyncio.timeout_at(call.deadline):
            message = await answer
        connection.answer(call, message)
    except TimeoutError:
        connection.refuse(call, DEADLINE_PASSED)
    except Exception as error:  # noqa: BLE001 - one bad call must not end the others
        failed(call, error)
    flush()
