"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools

from sensors.clock import SECOND


class ManualClock:
    """Time by hand. `advance` wakes the sleepers that came due, in order, and lets the loop settle between them."""

    def __init__(self, start: int = 1_800_000_000 * SECOND) -> None:
        self._now = start
        self._origin = start
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._origin) / SECOND

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + int(seconds * SECOND), next(self._order), woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move time forward; whoever sleeps until then wakes at its own moment."""
        until = self._now + int(seconds * SECOND)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._now = until
        await settle()


async def settle(rounds: int = 25) -> None:
    """Let everything run that can run without time passing."""
    for _ in range(rounds):
        await asyncio.sleep(0)
