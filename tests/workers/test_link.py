"""What supervisor and worker tell each other arrives whole, and the end of one is seen by the other."""

import asyncio
import socket

import pytest

from authz_service.errors import KeySetRefused
from authz_service.keys.served import KeyState
from authz_service.workers.link import Link, key_message, key_state


async def linked() -> tuple[Link, Link]:
    one, other = socket.socketpair()
    return await Link.over(one), await Link.over(other)


async def test_messages_arrive_in_order_however_large() -> None:
    one, other = await linked()
    sent = [{"what": "policy", "text": "\n\u2028\x00ü" * size} for size in (1, 100_000, 2)]
    for message in sent:
        one.send(**message)
    assert [await other.receive() for _ in sent] == sent
    await asyncio.gather(one.close(), other.close())


async def test_the_end_of_one_side_is_told_to_the_other_and_sending_there_is_harmless() -> None:
    one, other = await linked()
    await one.close()
    one.send("tell")
    assert await other.receive() is None
    other.send("tell")
    await other.close()


async def test_a_message_that_is_cut_off_is_none() -> None:
    raw, sock = socket.socketpair()
    link = await Link.over(sock)
    raw.sendall(b'{"what": "sto')
    raw.close()
    assert await link.receive() is None
    await link.close()


@pytest.mark.parametrize("state", [
    KeyState("https://issuer.test", b'{"keys": []}', 12.5, 99.0, None),
    KeyState("https://issuer.test", None, None, float("-inf"), None, 7.5, frozenset({"a", "b"})),
    KeyState("https://issuer.test", b"\xff\n\xc3\xa9\x00", 0.1 + 0.2, 99.0, None),
])  # fmt: skip
async def test_the_state_of_keys_arrives_to_the_byte(state: KeyState) -> None:
    one, other = await linked()
    one.send("keys", **key_message(state))
    message = await other.receive()
    assert message is not None
    assert key_state(message) == state
    await asyncio.gather(one.close(), other.close())


def test_why_keys_could_not_be_fetched_arrives_as_well() -> None:
    state = KeyState("https://issuer.test", None, None, 0.0, KeySetRefused("timeout", "no answer"))
    error = key_state(key_message(state)).error
    assert error is not None
    assert (error.cause, str(error)) == ("timeout", "no answer")
