"""Waiting, for what asks at an interval: an alarm that can be rung early, and an interval with jitter.

Both stand on the injected clock, so that tests own the time. `Alarm` belongs to one waiting task; anybody on the same
loop may ring it.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from sensors.audit import AuditReport
from sensors.batch import Batch, Cursor
from sensors.clock import Clock
from sensors.health import ShardLag
from sensors.ports import Lookup


@runtime_checkable
class Pollable(Protocol):
    """What a sensor may offer besides its contract: being asked to look at its source now."""

    def poll(self) -> None:
        """Make the read that waits, or the next one, look at the source at once. Never blocks, never raises."""
        ...


@runtime_checkable
class Auditable(Protocol):
    """What a sensor may offer besides its contract: comparing what its source holds with what it remembers."""

    async def audit(self, heal: bool) -> AuditReport:
        """List everything once more, beside the reads that go on, and report what differs; write nothing.

        With `heal`, what differs is looked at by one of the next reads, as if the source had just told of it. Raises
        NotConnected or BackOff when the source cannot be asked now.
        """
        ...


@runtime_checkable
class Peekable(Protocol):
    """What a sensor may offer besides its contract: showing what it would emit, without moving anything.

    Sensors whose `read` takes nothing away from the source and joins no group need not offer it: reading once from the
    durable positions, and storing nothing, shows the same.
    """

    async def peek(self, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int) -> Batch:
        """Return up to `limit` events and dead letters that reads would bring next; called on one never connected.

        No cursor, group or message of the source moves, and nothing is left open. Raises NotConnected or BackOff.
        """
        ...


@runtime_checkable
class Lagging(Protocol):
    """What a sensor may offer besides its contract: how far behind its source it is."""

    def lag(self) -> float | None:
        """Return the lag in the kind's own unit (documented there: records, seconds); None while unknown."""
        ...


@runtime_checkable
class Sharded(Protocol):
    """What a sensor may offer besides its contract: how far behind each of the shards is that it reads now."""

    def shards(self) -> Mapping[str, ShardLag]:
        """Return the lag of each shard by name."""
        ...


@runtime_checkable
class Troubled(Protocol):
    """What a sensor may offer besides its contract: reads succeed, and yet something is wrong."""

    def trouble(self) -> str | None:
        """Return the sentence that makes the sensor unhealthy, None when all is well. Asked after each read."""
        ...


class Alarm:
    """One task waits; others ring."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._waiter: asyncio.Future[bool] | None = None

    def ring(self) -> None:
        """End the wait; when nobody waits, the next wait ends at once."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    async def wait(self, seconds: float | None) -> bool:
        """Wait that long (None: until rung). Return True when rung; the ring is then used up."""
        if not self._rung and (seconds is None or seconds > 0):
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            nap = None if seconds is None else asyncio.ensure_future(self._clock.sleep(seconds))
            if nap is not None:
                nap.add_done_callback(lambda _: None if waiter.done() else waiter.set_result(False))
            try:
                await waiter
            finally:
                self._waiter = None
                if nap is not None:
                    nap.cancel()
        rung, self._rung = self._rung, False
        return rung


class Interval:
    """When to ask next: every so many seconds, spread by jitter, so that many sensors do not ask in step."""

    def __init__(
        self, clock: Clock, every: float, *, jitter: float = 0.1, rand: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._every = every
        self._jitter = jitter
        self._rand = rand
        self._due = clock.monotonic()

    def remaining(self) -> float:
        """Return the seconds until it is due; 0 when it is."""
        return max(0.0, self._due - self._clock.monotonic())

    def restart(self, after: float | None = None) -> None:
        """Make it due after a full interval, shortened or lengthened by jitter, or after exactly `after` seconds."""
        if after is None:
            after = self._every * (1 + self._jitter * (2 * self._rand() - 1))
        self._due = self._clock.monotonic() + after
