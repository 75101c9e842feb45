"""Pressure: when more runs wait than the service is meant to hold, sensors that read stop reading until fewer do.

In flow how many runs wait, asked of the store at an interval; out flows one sentence, or none. What is not read stays
where it is, in the log, the queue or the listing; requests that are pushed are accepted all the same, since their
senders may not come again.
"""

import logging

from sensors.clock import Clock
from sensors.ports import Unavailable
from tidegate.store.tx import Store

EVERY = 2.0  # seconds
_ENOUGH = 0.9  # of the bound: below it reading goes on
_log = logging.getLogger("tidegate.pressure")


class Pressure:
    """Implements `sensors.runner.Pressure`. `most` is how many runs may wait."""

    def __init__(self, store: Store, clock: Clock, most: int) -> None:
        self._store = store
        self._clock = clock
        self._most = most
        self._reason = ""

    def reason(self) -> str:
        """Say why nothing more is to be read now; empty when it may be."""
        return self._reason

    async def watch(self) -> None:
        """Look again and again; for ever, until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable:  # then nothing can be stored either, and every sensor waits by itself
                _log.debug("the store cannot be asked how many runs wait")
            await self._clock.sleep(EVERY)

    async def look(self) -> None:
        """Ask how many runs wait, and judge."""
        load = await self._store.read(lambda reader: reader.queue())
        waiting = sum(states.get("queued", 0) for states in load.values())
        if waiting >= self._most:
            if not self._reason:
                _log.warning(
                    "%d runs wait: sensors stop reading until fewer do", waiting, extra={"action": "pressure_high"}
                )
            self._reason = f"waits: {waiting:,} runs are queued, and `limits.waiting_runs` is {self._most:,}"
        elif self._reason and waiting < self._most * _ENOUGH:
            self._reason = ""
            _log.info("%d runs wait: sensors read again", waiting, extra={"action": "pressure_low"})
