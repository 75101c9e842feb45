"""Where back-tests of a running service are made: a few at once, each in a process of its own.

In flow questions, out flow reports. A store in memory belongs to this process: what it holds is gone over on a reader's
thread, and the loop goes on meanwhile.
"""

import asyncio
from typing import Final

from sensors.clock import Clock, SystemClock
from tidegate.backtest.apart import run_apart
from tidegate.backtest.drive import Cancelled, backtest
from tidegate.backtest.history import GivenHistory, StoreHistory
from tidegate.backtest.values import Ask, Report
from tidegate.store.reader import Reader
from tidegate.store.tx import Store

AT_ONCE: Final = 2


class Busy(Exception):
    """As many back-tests as may run at once are under way; ask again when one has ended."""


class Backtests:
    """Makes back-tests. All calls belong to one loop."""

    def __init__(self, clock: Clock | None = None, at_once: int = AT_ONCE) -> None:
        self.clock = clock or SystemClock()
        self._at_once = at_once
        self._under_way = 0

    async def run(self, ask: Ask, store: Store, url: str) -> Report:
        """Answer a question. Cancelled, it stops the work. Raises Busy, StoreError and BacktestFailed."""
        if self._under_way >= self._at_once:
            raise Busy(f"{self._under_way} back-tests are under way, as many as there may be; ask again later")
        self._under_way += 1
        try:
            if store.name == "memory":
                return await _on_a_thread(ask, store)
            return await run_apart(ask, url)
        finally:
            self._under_way -= 1


async def _on_a_thread(ask: Ask, store: Store) -> Report:
    gone = False

    def still_wanted(_: int) -> None:
        if gone:
            raise Cancelled

    def work(reader: Reader) -> Report:
        history = StoreHistory(lambda fn: fn(reader)) if ask.events is None else GivenHistory(ask.events)
        return backtest(ask, history, progress=still_wanted)

    try:
        return await store.read(work)
    except asyncio.CancelledError:
        gone = True
        raise
