"""Time that passes when a test says so."""

import asyncio


class Clock:
    """A clock to hand in: ``clock.now += 60`` and a minute has passed."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class VirtualTime(Clock):
    """A clock and the waiting that goes with it (:class:`authz_service.keys.jwks.Wait`)."""

    def __init__(self, now: float = 1000.0) -> None:
        super().__init__(now)
        self._alarms: list[tuple[float, asyncio.Event]] = []

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Until the event, or until :meth:`advance` has gone so far."""
        alarm = (self.now + seconds, asyncio.Event())
        self._alarms.append(alarm)
        waits = [asyncio.create_task(event.wait()), asyncio.create_task(alarm[1].wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            self._alarms.remove(alarm)
        return event.is_set()

    async def advance(self, seconds: float) -> None:
        """Let time pass, with all that happens in it, in its order."""
        end = self.now + seconds
        await settle()
        while due := [alarm for alarm in self._alarms if alarm[0] <= end and not alarm[1].is_set()]:
            at, alarm = min(due, key=lambda one: one[0])
            self.now = max(self.now, at)
            alarm.set()
            await settle()
        self.now = end
        await settle()


async def settle() -> None:
    """Let every task run as far as it gets without time passing."""
    for _ in range(20):
        await asyncio.sleep(0)
