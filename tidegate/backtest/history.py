"""Where the events of a back-test come from: the store, page by page, or a list that a source's reader brought.

Out flow rows of events in the order in which they were received, over several sensors merged, and what fired then. A
page is a snapshot of its own; its size follows the size of the events, so that memory does not.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol, TypeVar

from sensors.event import Event
from sensors.uid import TRIGGER_EVENT, make_uid
from tidegate.backtest.values import EventRow
from tidegate.store.reader import Reader, Row
from tidegate.store.records import StoredEvent
from tidegate.store.rows import event_of, event_row
from triggers.trigger_event import TriggerEvent

R = TypeVar("R")
Read = Callable[[Callable[[Reader], Any]], Any]

_PAGE_BYTES = 2 * 1024 * 1024
_FIRST, _MOST, _LEAST = 200, 2_000, 10
_SIZE, _RECEIVED, _SENSOR, _UID = 8, 7, 1, 0
_FIRED = 1_000


class History(Protocol):
    """What happened."""

    def rows(self, sensors: Sequence[str], since: int, until: int) -> Iterator[EventRow]:
        """Yield events received from `since` up to, not including, `until`, in order."""
        ...

    def events(self, uids: Sequence[str]) -> Mapping[str, Event]:
        """Return events by uid, as far as they are kept."""
        ...

    def fired(self, triggers: Sequence[str], since: int) -> Iterator[tuple[TriggerEvent, int]]:
        """Yield trigger events since a moment in order, each with the moment at which its last event came."""
        ...

    def decided(self, trigger: str, event: str) -> Row | None:
        """Return what was decided last about an event, None when nothing of it is kept."""
        ...


class StoreHistory:
    """The store's own. `read` runs a function in a snapshot."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def rows(self, sensors: Sequence[str], since: int, until: int) -> Iterator[EventRow]:
        """Yield events; see `History`."""
        each = [self._of(sensor, since, until) for sensor in dict.fromkeys(sensors)]
        return each[0] if len(each) == 1 else heapq.merge(*each, key=itemgetter(_RECEIVED, _UID))

    def _of(self, sensor: str, since: int, until: int) -> Iterator[EventRow]:
        after, limit = (since - 1, "\U0010ffff"), _FIRST
        while True:
            rows = self._page(sensor, after, until, limit)
            yield from rows
            if len(rows) < limit:
                return
            after = (rows[-1][_RECEIVED], rows[-1][_UID])
            size = sum(row[_SIZE] for row in rows) // len(rows) + 500
            limit = max(_LEAST, min(_MOST, _PAGE_BYTES // size))

    def _page(self, sensor: str, after: tuple[int, str], until: int, limit: int) -> Sequence[EventRow]:
        found: Sequence[EventRow] = self._read(lambda reader: reader.history(sensor, after, until, limit))
        return found

    def events(self, uids: Sequence[str]) -> Mapping[str, Event]:
        """Return events."""
        found: Mapping[str, Event] = self._read(lambda reader: reader.events_by_uid(uids))
        return found

    def fired(self, triggers: Sequence[str], since: int) -> Iterator[tuple[TriggerEvent, int]]:
        """Yield trigger events."""
        after = make_uid(TRIGGER_EVENT, max(0, since), bytes(10))
        while True:
            rows = self._fired(triggers, after)
            yield from rows
            if len(rows) < _FIRED:
                return
            after = rows[-1][0].uid

    def _fired(self, triggers: Sequence[str], after: str) -> Sequence[tuple[TriggerEvent, int]]:
        found: Sequence[tuple[TriggerEvent, int]] = self._read(
            lambda reader: reader.fired_after(triggers, after, _FIRED)
        )
        return found

    def decided(self, trigger: str, event: str) -> Row | None:
        """Return a decision."""
        rows, _ = self._read(lambda reader: reader.decisions(limit=1, trigger=trigger, event=event))
        return rows[0] if rows else None


def rows_of(events: Sequence[Event]) -> Sequence[EventRow]:
    """Return events as rows."""
    return [event_row(StoredEvent(event), 2**62) for event in events]


class GivenHistory:
    """A list of events (as rows), ordered here; nothing fired on them yet."""

    def __init__(self, rows: Sequence[EventRow]) -> None:
        self._rows = sorted(rows, key=itemgetter(_RECEIVED, _UID))
        self._by_uid = {row[_UID]: row for row in self._rows}

    def rows(self, sensors: Sequence[str], since: int, until: int) -> Iterator[EventRow]:
        """Yield events; see `History`."""
        return (row for row in self._rows if row[_SENSOR] in sensors and since <= row[_RECEIVED] < until)

    def events(self, uids: Sequence[str]) -> Mapping[str, Event]:
        """Return events."""
        return {uid: event_of(self._by_uid[uid]) for uid in uids if uid in self._by_uid}

    def fired(self, triggers: Sequence[str], since: int) -> Iterator[tuple[TriggerEvent, int]]:
        """Yield nothing."""
        return iter(())

    def decided(self, trigger: str, event: str) -> Row | None:
        """Nothing was."""
        return None
