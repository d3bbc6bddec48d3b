"""Those who waited for one thing go on a few at a time, in their order."""

import asyncio

from authz_service.ways import AT_ONCE, Turns


async def test_a_crowd_goes_on_a_few_at_a_time_and_others_have_their_turn_in_between() -> None:
    turns, story = Turns(), []

    async def one_of_the_crowd(number: int) -> None:
        await turns.next()
        story.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(3 * AT_ONCE):
            group.create_task(one_of_the_crowd(number))
        while len(story) < 3 * AT_ONCE:
            before = len(story)
            await asyncio.sleep(0)
            assert len(story) - before <= AT_ONCE
    assert story == sorted(story)


async def test_who_is_gone_keeps_nobody_waiting() -> None:
    turns = Turns()
    waiting = [asyncio.create_task(turns.next()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*waiting[1:]) == [None, None]
