"""The sensor on a database: it asks for what grew, page by page, and tells of each version of a row once.

In flow pages of rows from a little before the greatest high on, at an interval or when a bell rings; out flow batches.
The window before the high is read again and again, for rows of long transactions are committed with a moment that has
passed already; what is remembered of each key drops the repeats. Memory is bounded by a page, however many rows there
are.

Order: within one look by the high column, then the key. A batch's cursor says that everything before it was told.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson

from sensors.adapters import sql_high
from sensors.adapters.sql_position import SHARD, Position, begin, take_up
from sensors.adapters.sql_rows import Read, Recent, Telling, identify, tell
from sensors.adapters.sql_source import After, Bell, Database, Page, Query, Shape, Value
from sensors.batch import Batch, Cursor, DeadLetter
from sensors.clock import SECOND, Clock
from sensors.errors import NotConnected
from sensors.polling import Alarm, Interval
from sensors.ports import Lookup, Prefilter
from sensors.units import StartAt

_IDLE: Final = 60.0
_QUIET: Final = 0.2  # seconds between two looks that a bell asked for: a flood of notices is one look
_SWEEP: Final = 1_000
_SWEEP_EVERY: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Asking:
    """What a sensor asks, and how often. Seconds; `overlap` None: as fits the column; `remember` None: for ever."""

    query: Query
    source: str
    every: float
    start: StartAt
    cursor: Literal["keep", "reset"] | None
    overlap: float | int | None
    page_size: int
    remember: float | None


@dataclass(slots=True)
class _Look:
    """One look at what grew: from where, and the last row that was read."""

    low: Value | None
    history: Value | None
    after: After | None = None


class SqlSensor:
    """The pull sensor. See the module's docstring; the runner calls it, one call at a time."""

    def __init__(self, asking: Asking, telling: Telling, database: Database, bell: Bell | None, clock: Clock) -> None:
        self._asking = asking
        self._telling = telling
        self._database = database
        self._bell = bell
        self._clock = clock
        self._alarm = Alarm(clock)
        self._interval = Interval(clock, asking.every)
        self._recent = Recent()
        self._shape = Shape((), None)
        self._overlap: float | int = 0
        self._position = Position("")
        self._lookup: Lookup | None = None
        self._greeting: Batch | None = None
        self._forgetting = False
        self._look: _Look | None = None
        self._looked_at = 0.0
        self._swept_at = clock.monotonic()
        self._sweep_after: str | None = None
        self._stored: Cursor | None = None

    # -- the sensor contract ------------------------------------------------------------------------------------------
    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Reach the database, check the query against it, and take up the position."""
        self._lookup, self._look, self._sweep_after = lookup, None, None
        self._recent.clear()
        await self._database.open()
        try:
            await self._take_up(cursors.get(SHARD))
        except BaseException:
            await self._database.close()
            raise
        self._interval.restart(0.0)
        if self._bell is not None:
            self._bell.start(self._alarm.ring)

    async def _take_up(self, cursor: Cursor | None) -> None:
        asking = self._asking
        self._shape = await self._database.shape(asking.query)
        self._check_columns()
        stored, todo = (None, "store") if cursor is None else take_up(cursor, asking.source, asking.cursor)
        self._forgetting, self._stored = todo == "reset", cursor
        anew = stored is None or todo == "reset"
        newest: tuple[Value | None, int] = (None, 0)
        if (anew and asking.start.mode == "now") or self._shape.sort == "text":
            newest = await self._database.newest(asking.query)
        if stored is None or anew:
            stored = begin(asking.source, asking.start, self._shape.sort, newest, self._clock.now(), asking.query.high)
        self._position = stored
        self._set_overlap(newest[0] if stored.high is None else stored.high)
        self._greeting = Batch(cursors=(stored.cursor(),)) if todo == "store" else None

    def _check_columns(self) -> None:
        columns = self._shape.columns
        doubled = sorted({name for name in columns if columns.count(name) > 1})
        if doubled:
            raise NotConnected(f"the query gives two columns named {doubled[0]!r}; name them apart with `as`")
        for option in ("key", "high", "version"):
            asked = getattr(self._telling, option)
            for name in (asked,) if isinstance(asked, str) else asked:
                if name not in columns:
                    known = ", ".join(columns)
                    raise NotConnected(f"the query gives no column {name!r}, which `{option}` names; it gives {known}")

    def _set_overlap(self, high: Value | None) -> None:
        """Decide about the overlap, as soon as something says what the high column is made of."""
        if self._shape.sort is None:
            return
        try:
            self._overlap = sql_high.overlap_of(self._shape.sort, high, self._asking.overlap, self._asking.query.high)
        except ValueError as error:
            raise NotConnected(str(error)) from error

    async def read(self) -> Batch:
        """Wait for the next look, or go on with the one under way; return what a page of it means."""
        if self._forgetting:
            return await self._forget()
        if self._greeting is not None:
            batch, self._greeting = self._greeting, None
            return batch
        if self._look is None:
            if self._sweep_after is not None and self._interval.remaining() > 0:
                return await self._sweep()
            rung = await self._alarm.wait(min(_IDLE, self._interval.remaining()))
            if not rung and self._interval.remaining() > 0:
                return await self._sweep()
            if rung:
                await self._clock.sleep(self._looked_at + _QUIET - self._clock.monotonic())
            self._look = self._begin()
        look = self._look
        page = await self._database.page(self._asking.query, look.low, look.after, self._asking.page_size)
        return await self._judge(look, page)

    async def close(self) -> None:
        """Let go of the database."""
        if self._bell is not None:
            await self._bell.close()
        await self._database.close()

    def poll(self) -> None:
        """Look now."""
        self._alarm.ring()

    def trouble(self) -> str | None:
        """Return why new rows are found by polling only, although notices were asked for."""
        return self._bell.trouble if self._bell is not None else None

    # -- looks --------------------------------------------------------------------------------------------------------
    def _begin(self) -> _Look:
        self._interval.restart()
        self._looked_at = self._clock.monotonic()
        position, sort = self._position, self._shape.sort
        low = position.high
        if low is not None and sort is not None:
            low = sql_high.back(sort, low, self._overlap)
            if position.floor is not None and sql_high.later(sort, position.floor, low):
                low = position.floor
        return _Look(low, position.history)

    async def _judge(self, look: _Look, page: Page) -> Batch:
        now = self._clock.now()
        telling, query = self._telling, self._asking.query
        if page.rows and self._shape.sort is None:  # the first row of a table that was empty says what it is made of
            self._shape = await self._database.shape(query)
            self._set_overlap(_of(page.rows[-1], self._shape, query.high))
        rows, dead = identify(page.rows, self._shape, telling)
        fresh = [row for row in rows if not self._recent.has(row)]
        known = await self._memory().seen([row.key for row in fresh]) if fresh else {}
        history, news = self._parted(fresh, look)
        quiet = tell(history, known, telling, self._shape, now, silent=True)
        told = tell(news, known, telling, self._shape, now, silent=False)
        for row in fresh:
            self._recent.add(row)
        if page.rows:
            last = page.rows[-1]
            high = _of(last, self._shape, query.high)
            look.after = After(high, [_of(last, self._shape, name) for name in query.key])
            self._advance(high, page.now)
        if not page.more:
            self._look = None
            self._position = replace(self._position, history=None)
        batch = Batch(
            events=told.events,
            seen=[*quiet.seen, *told.seen],
            dead_letters=[*self._first_time(dead), *told.dead],
            dedup_for=self._asking.remember,
        )
        cursor = self._position.cursor()
        if batch.empty and cursor == self._stored:
            return batch
        self._stored = cursor
        return replace(batch, cursors=(cursor,))

    def _first_time(self, dead: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Leave out the letters of rows without identity that a window which is read again has brought before."""
        found = []
        for letter in dead:
            mark = Read(hashlib.sha256(letter.payload).hexdigest(), letter.reason, {})
            if not self._recent.has(mark):
                self._recent.add(mark)
                found.append(letter)
        return found

    def _parted(self, rows: list[Read], look: _Look) -> tuple[list[Read], list[Read]]:
        """Part history from news."""
        upto, sort = look.history, self._shape.sort
        history: list[Read] = []
        news: list[Read] = []
        for row in rows:
            new = upto is None or sort is None or sql_high.later(sort, row.values[self._telling.high], upto)
            (news if new else history).append(row)
        return history, news

    def _advance(self, high: Value, now: int) -> None:
        position, sort = self._position, self._shape.sort
        if sort is None:
            return
        high = sql_high.capped(sort, high, now)
        if position.high is None or sql_high.later(sort, high, position.high):
            self._position = replace(position, high=high)

    # -- memory -------------------------------------------------------------------------------------------------------
    async def _sweep(self) -> Batch:
        """Forget, a page at a time, rows that have not changed for as long as asked, and are not in the window."""
        remember, sort, high = self._asking.remember, self._shape.sort, self._position.high
        if remember is None or sort is None or high is None:
            return Batch()
        if self._sweep_after is None:
            if self._clock.monotonic() - self._swept_at < _SWEEP_EVERY:
                return Batch()
            self._sweep_after = ""
        low = sql_high.back(sort, high, self._overlap)
        before = self._clock.now() - round(remember * SECOND)
        rows = await self._memory().seen_range(self._sweep_after, None, _SWEEP)
        self._sweep_after = rows[-1].key if rows else None
        if not rows:
            self._swept_at = self._clock.monotonic()
        old = [row for row in rows if row.last_changed < before]
        return Batch(forget=[row.key for row in old if sql_high.later(sort, low, orjson.loads(row.extra))])

    async def _forget(self) -> Batch:
        """Forget everything, a page at a time, before the new position is stored."""
        rows = await self._memory().seen_range("", None, _SWEEP)
        if rows:
            return Batch(forget=[row.key for row in rows])
        self._forgetting = False
        return Batch(cursors=(self._position.cursor(),))

    def _memory(self) -> Lookup:
        if self._lookup is None:
            raise NotConnected("not connected")
        return self._lookup


def _of(row: Any, shape: Shape, column: str) -> Any:
    return row[list(shape.columns).index(column)]
