"""A queue of notifications in memory, which delivers what a test sends, as often as a test says."""

import asyncio
from collections.abc import Sequence
from typing import Any

from sensors.adapters.objects import Hint, Notice
from sensors.batch import DeadLetter


class MemoryNotices:
    """A `NoticeQueue` in memory. `failures` are raised by the next receives; `deleted` and `kept` are receipts."""

    keep_every = 10.0

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.deleted: list[Any] = []
        self.kept: list[Any] = []
        self.returned: list[Any] = []
        self.there: list[Notice] = []
        self.opened = 0
        self.closed = 0
        self._news = asyncio.Event()

    def send(self, *hints: Hint, receipt: Any = None, dead: DeadLetter | None = None) -> None:
        """Put a message in."""
        self.there.append(Notice(hints, receipt if receipt is not None else object(), dead))
        self._news.set()

    async def open(self) -> None:
        """Connect."""
        self.opened += 1

    async def receive(self) -> Sequence[Notice]:
        """Wait for messages."""
        if self.failures:
            raise self.failures.pop(0)
        while not self.there:
            self._news.clear()
            await self._news.wait()
        came, self.there = self.there, []
        return came

    async def keep(self, receipts: Sequence[Any]) -> None:
        """Note it."""
        self.kept += receipts

    async def give_back(self, receipts: Sequence[Any]) -> None:
        """Note it."""
        self.returned += receipts

    async def done(self, receipts: Sequence[Any]) -> None:
        """Note it."""
        self.deleted += receipts

    def waiting(self) -> float | None:
        """Return how many wait."""
        return float(len(self.there))

    async def close(self) -> None:
        """Count it."""
        self.closed += 1
