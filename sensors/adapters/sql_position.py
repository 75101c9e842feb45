"""The durable position of a sensor on a database: versioned JSON, and where to begin without one. Pure."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from sensors.adapters.sql_high import at, capped
from sensors.adapters.sql_source import Sort, Value
from sensors.batch import Cursor
from sensors.errors import NotConnected
from sensors.units import StartAt

VERSION: Final = 1
SHARD: Final = ""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a database was read. `source` says which one, and by which column.

    `high` is the greatest value that was read (None: none yet); nothing before `floor` is asked for. Until a first look
    is complete, rows up to `history` were there before: they are remembered, and are no events.
    """

    source: str
    high: Value | None = None
    floor: Value | None = None
    history: Value | None = None

    def cursor(self) -> Cursor:
        """Return it as it is stored."""
        return Cursor(SHARD, json.dumps({"v": VERSION, **asdict(self)}, separators=(",", ":"), ensure_ascii=False))


def begin(
    source: str, start: StartAt, sort: Sort | None, newest: tuple[Value | None, int], now: int, column: str
) -> Position:
    """Return where to begin; `newest` is the greatest value there is, and the database's clock (UTC micros).

    Raises NotConnected where the column cannot say when its rows were written and `start` asks for a moment.
    """
    high, clock = newest
    if start.mode == "beginning":
        return Position(source)
    if start.mode == "now":
        if high is None or sort is None:
            return Position(source)
        return Position(source, capped(sort, high, clock), history=high)
    try:
        floor = at(sort, start.micros(now), high, column)
    except ValueError as error:
        raise NotConnected(str(error)) from error
    return Position(source, floor, floor)


def take_up(
    cursor: Cursor, source: str, what: Literal["keep", "reset"] | None
) -> tuple[Position, Literal["keep", "store", "reset"]]:
    """Return the stored position and what to do with it. Raises NotConnected when it is of something else."""
    stored = _read(cursor.value)
    if stored.source == source:
        return stored, "keep"
    if what == "keep":
        return replace(stored, source=source), "store"
    if what == "reset":
        return stored, "reset"
    raise NotConnected(
        f"it watched {stored.source} so far and is to watch {source} now: say `cursor: keep` if the same rows are "
        "there, or `cursor: reset` to begin anew"
    )


def _read(text: str) -> Position:
    try:
        value: dict[str, Any] = json.loads(text)
        if value.pop("v") != VERSION:
            raise ValueError("another version")
        return Position(**value)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotConnected(
            f"the stored position has another form than version {VERSION}; was it written by a newer version?"
        ) from error
