"""However much is asked of the admin port, this process does little else for it."""

import asyncio

from authz_service.observability.paced import REST, SharedPage, Turnstile


class Making:
    """Makes a page; how long it takes is for the test to say."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.began: list[float] = []

    async def page(self) -> bytes:
        self.began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        return b"%d" % len(self.began)


async def test_all_who_ask_together_get_one_page() -> None:
    making = Making()
    shared = SharedPage(making.page)
    assert await asyncio.gather(*(shared.get() for _ in range(100))) == [b"1"] * 100
    assert await shared.get() == b"2", "nobody gets an old one"


async def test_who_asks_while_one_is_made_gets_the_next_one() -> None:
    making = Making(0.01)
    shared = SharedPage(making.page)
    first = asyncio.create_task(shared.get())
    while not making.began:  # noqa: ASYNC110 - as the event loop has it
        await asyncio.sleep(0)
    assert await asyncio.gather(*(shared.get() for _ in range(2))) == [b"2", b"2"]
    assert await first == b"1"


async def test_a_page_rests_longer_than_it_took() -> None:
    making = Making(0.02)
    shared = SharedPage(making.page)
    await shared.get()
    await shared.get()
    assert making.began[1] - making.began[0] >= 0.02 * (1 + REST) * 0.9


async def test_who_goes_away_does_not_take_the_page_from_the_others() -> None:
    shared = SharedPage(Making(0.01).page)
    leaving = asyncio.create_task(shared.get())
    staying = asyncio.create_task(shared.get())
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == b"1"


async def test_a_page_that_fails_is_made_anew() -> None:
    failing = iter([True, False])

    async def make() -> bytes:
        if next(failing):
            raise RuntimeError("a defect")
        return b"good"

    shared = SharedPage(make)
    results = [*await asyncio.gather(shared.get(), return_exceptions=True), await shared.get()]
    assert isinstance(results[0], RuntimeError)
    assert results[1] == b"good"


async def test_the_turnstile_lets_one_through_after_the_other() -> None:
    turnstile, passed = Turnstile(0.005), list[int]()

    async def enter(number: int) -> None:
        await turnstile.enter()
        passed.append(number)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*map(enter, range(11)))
    assert loop.time() - began >= 0.045
    assert passed == list(range(11))
