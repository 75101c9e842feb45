"""What operators paused, the same in every replica: said to one, kept in the store, followed by the others.

In flow what an operator says here (written first, then in force here), and what the store says that was said elsewhere,
read every few seconds. Out flow calls that put it in force. The store is the truth; a change made here while the store
was being read is not undone by what was read.
"""

import logging
from collections.abc import Callable, Mapping

from sensors.clock import Clock
from sensors.ports import Unavailable
from tidegate.settings import PutSettings
from tidegate.store.tx import Store

PREFIX = "paused/"
EVERY = 5.0  # seconds until another replica follows
_log = logging.getLogger("tidegate.pauses")


class Pauses:
    """The pauses of one process. `apply` is called with a setting's name and how it is paused (None: not any more)."""

    def __init__(
        self, store: Store, clock: Clock, said: Mapping[str, str], apply: Callable[[str, str | None], None]
    ) -> None:
        """`said` is what is in force already."""
        self._store = store
        self._clock = clock
        self._said = dict(said)
        self._apply = apply
        self._write = PutSettings()
        self._changes = 0

    async def say(self, name: str, how: str | None) -> None:
        """Keep what an operator said, then put it in force here. Raises Unavailable, and nothing changes then."""
        self._changes += 1
        await self._store.submit(self._write, (name, how))
        self._changes += 1
        self._take(name, how)

    async def follow(self) -> None:
        """Put in force what was said elsewhere; for ever, until cancelled."""
        while True:
            await self._clock.sleep(EVERY)
            changes = self._changes
            try:
                said = await self._store.read(lambda reader: reader.settings(PREFIX))
            except Unavailable:
                continue
            if changes != self._changes:
                continue
            for name in {*said, *self._said}:
                if said.get(name) != self._said.get(name):
                    _log.info("%s was changed by an operator elsewhere", name, extra={"action": "pause_followed"})
                    self._take(name, said.get(name))

    def _take(self, name: str, how: str | None) -> None:
        if how is None:
            self._said.pop(name, None)
        else:
            self._said[name] = how
        try:
            self._apply(name, how)
        except KeyError:  # of a sensor or trigger that this replica's configuration does not have (yet)
            _log.debug("%s is not in force here", name)
