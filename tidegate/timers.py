"""Durable alarms: a timer that is due is taken and handled in one transaction, by one replica, at least as late as it says.

In flow timers that writes have set; out flow calls of the handler of their kind, inside the transaction that deletes them: if
it fails, they stay. Order: by due time. The loop sleeps between looks; `wake` looks now.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from sensors.clock import Clock
from sensors.ports import Unavailable
from tidegate.store.tx import Store, Timer, Tx

Handler = Callable[[Tx, Timer], None]
_BATCH = 200
_log = logging.getLogger("tidegate.timers")


class FireTimers:
    """The write that takes what is due and handles it. Unknown kinds stay for a version that knows them."""

    name = "timers"

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[int]:
        """Handle what is due; answer how many were."""
        due = tx.due_timers(_BATCH)
        unknown = [timer for timer in due if timer.kind not in self._handlers]
        for timer in due:
            handler = self._handlers.get(timer.kind)
            if handler is not None:
                handler(tx, timer)
        if unknown:
            now = tx.now()
            tx.set_timers([Timer(now + 60_000_000, timer.kind, timer.key, timer.payload) for timer in unknown])
        return [len(due) - len(unknown)] * len(items)


class Timers:
    """The loop that looks for due timers every `every` seconds."""

    def __init__(self, store: Store, handlers: Mapping[str, Handler], clock: Clock, every: float = 1.0) -> None:
        self._store = store
        self._fire = FireTimers(handlers)
        self._clock = clock
        self._every = every
        self._wake = asyncio.Event()
        self._stop = False

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def stop(self) -> None:
        """End the loop after the look in hand."""
        self._stop = True
        self._wake.set()

    async def run(self) -> None:
        """Look until stopped; a store that cannot answer is asked again at the next look."""
        while not self._stop:
            try:
                handled = await self._store.submit(self._fire, None)
            except Unavailable as error:
                _log.debug("timers wait for the store: %s", error)
                handled = 0
            if handled >= _BATCH:
                continue
            await self._pause()

    async def _pause(self) -> None:
        """Wait for the next look, a wake or the stop."""
        sleep = asyncio.ensure_future(self._clock.sleep(self._every))
        wake = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((sleep, wake), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            wake.cancel()
        self._wake.clear()
