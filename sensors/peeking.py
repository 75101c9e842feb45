"""Peeking: what a sensor would emit next, shown and forgotten.

In flow an instance that was never connected and the durable positions; out flows a batch that nobody makes durable. A
sensor that offers `Peekable` is asked; any other is connected, read and closed, over a memory that remembers for the
length of the peek what its batches would have made durable. Nothing is acknowledged, and no action on an object is due.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeVar

from sensors.batch import Batch, Cursor, DeadLetter, ObjectAction, SeenObject
from sensors.clock import Clock
from sensors.errors import BadPayload, Exhausted, NotConnected
from sensors.event import Event
from sensors.polling import Peekable
from sensors.ports import Lookup, Owned, WantsAll
from sensors.sensor import Sensor

WITHIN: Final = 20.0  # seconds that a peek takes at most
QUIET: Final = 2.0  # seconds without a batch after which there is nothing more to see now
_PAGE: Final = 1_000
T = TypeVar("T")


class NotPeekable(Exception):
    """A sensor cannot be peeked at; the sentence says why and what to do instead."""


async def peek(sensor: Sensor, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int, clock: Clock) -> Batch:
    """Return up to `limit` events and dead letters that would come next; moves nothing.

    Raises NotConnected when the source cannot be asked, or does not answer in time, and BackOff.
    """
    if not isinstance(sensor, Peekable):
        return await peek_by_reading(sensor, cursors, lookup, limit, clock)
    found = await _Deadline(clock, WITHIN).wait(sensor.peek(cursors, lookup, limit))
    if found is None:
        raise NotConnected(f"the source has not answered within {WITHIN:g} s")
    return found


async def peek_by_reading(
    sensor: Sensor, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int, clock: Clock
) -> Batch:
    """Connect, read until there is enough or nothing more, and close; for sensors whose reads take nothing away."""
    memory, deadline = _Memory(lookup, cursors), _Deadline(clock, WITHIN)
    events: list[Event] = []
    dead: list[DeadLetter] = []
    if await deadline.wait(_connected(sensor, cursors, memory)) is None:
        raise NotConnected(f"the source has not answered within {WITHIN:g} s")
    try:
        patience = WITHIN
        while len(events) + len(dead) < limit:
            batch = await deadline.wait(_read(sensor), patience)
            if batch is None:
                break
            events += batch.events
            dead += batch.dead_letters
            memory.take(batch)
            patience = QUIET
    finally:
        await sensor.close()
    return Batch(events=events[:limit], dead_letters=dead[: max(0, limit - len(events))])


async def _connected(sensor: Sensor, cursors: Mapping[str, Cursor], memory: Lookup) -> bool:
    await sensor.connect(dict(cursors), memory, WantsAll())
    return True


async def _read(sensor: Sensor) -> Batch | None:
    """Read once; what is unreadable is a dead letter, and the end of the source is the end."""
    try:
        return await sensor.read()
    except BadPayload as error:
        return Batch(dead_letters=(DeadLetter("bad_payload", str(error), error.position, error.payload),))
    except Exhausted:
        return None


class _Deadline:
    """Waits for calls, up to a moment for all of them together; one that does not end in time is cancelled."""

    def __init__(self, clock: Clock, within: float) -> None:
        self._clock = clock
        self._end = clock.monotonic() + within

    async def wait(self, call: Coroutine[Any, Any, T], seconds: float = WITHIN) -> T | None:
        """Return what a call returns, None when it took longer."""
        task = asyncio.ensure_future(call)
        limiter = asyncio.ensure_future(self._clock.sleep(min(seconds, self._end - self._clock.monotonic())))
        try:
            await asyncio.wait({task, limiter}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            limiter.cancel()
            task.cancel()
            await asyncio.wait({task}, timeout=5.0)


class _Memory:
    """A lookup over another one, with what was read since laid on top; no action is ever due, and nothing is owned."""

    def __init__(self, under: Lookup, cursors: Mapping[str, Cursor]) -> None:
        self._under = under
        self._cursors = cursors
        self._over: dict[str, SeenObject | None] = {}  # None: forgotten

    def take(self, batch: Batch) -> None:
        """Remember what a batch would have made durable."""
        self._over.update({seen.key: seen for seen in batch.seen})
        self._over.update(dict.fromkeys(batch.forget))

    async def seen(self, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        asked = [key for key in keys if key not in self._over]
        found = dict(await self._under.seen(asked)) if asked else {}
        found.update({key: over for key in keys if (over := self._over.get(key)) is not None})
        return found

    async def seen_after(self, key: str, limit: int, prefix: str = "") -> Sequence[SeenObject]:
        found: list[SeenObject] = []
        while len(found) < limit:
            rows = await self.seen_range(key, None, _PAGE)
            if not rows:
                break
            found += [row for row in rows if row.state == "present" and row.key.startswith(prefix)]
            key = rows[-1].key
        return found[:limit]

    async def seen_range(self, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
        while True:
            rows = await self._under.seen_range(after, upto, limit)
            end = rows[-1].key if len(rows) == limit else upto
            known = {row.key: row for row in rows}
            laid = {key: over for key, over in self._over.items() if key > after and (end is None or key <= end)}
            merged = {key: row for key, row in {**known, **laid}.items() if row is not None}
            found = [merged[key] for key in sorted(merged)][:limit]
            if found or len(rows) < limit:
                return found
            after = rows[-1].key

    async def own(self, shards: Sequence[str]) -> Mapping[str, Owned]:
        return {shard: Owned(shard, 0, self._cursors.get(shard)) for shard in shards}

    async def known(self, ids: Sequence[str]) -> Mapping[str, str]:
        return await self._under.known(ids)

    async def unfinished(self, events: Sequence[str]) -> AbstractSet[str]:
        return await self._under.unfinished(events)

    async def due_actions(self, limit: int) -> Sequence[ObjectAction]:
        return ()

    async def open_actions(self, keys: Sequence[str]) -> Mapping[str, Sequence[ObjectAction]]:
        return await self._under.open_actions(keys)
