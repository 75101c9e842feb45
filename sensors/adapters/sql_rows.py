"""What rows mean: which are new, which changed, and what their events look like.

In flows a page of rows with what is remembered of their keys, out flows a batch: an event for each row whose version is
not the remembered one, with the memory to store beside it. A row that cannot be told becomes a dead letter, and the
others go on.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from sensors.adapters.sql_source import Shape, row_map
from sensors.batch import DeadLetter, SeenObject
from sensors.event import Event, storable_text
from sensors.listing import PRESENT
from sensors.uid import EVENT, new_uid

CREATED: Final = "sql.row.created"
CHANGED: Final = "sql.row.changed"
MAX_TEXT: Final = 900  # bytes of a key or a version as text; longer ones are known by their hash
RECENT: Final = 20_000


@dataclass(frozen=True, slots=True)
class Telling:
    """How a sensor tells of rows. `max_row` are bytes of a row as JSON."""

    sensor: str
    source: str
    key: Sequence[str]
    version: Sequence[str]
    high: str
    max_row: int


@dataclass(frozen=True, slots=True)
class Read:
    """One row that was read: its key and version as text, and its values by column."""

    key: str
    token: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What became of rows."""

    events: Sequence[Event]
    seen: Sequence[SeenObject]
    dead: Sequence[DeadLetter]


class Recent:
    """The versions read lately, so that a window that is read again asks nobody for them. Bounded."""

    def __init__(self, most: int = RECENT) -> None:
        self._most = most
        self._known: OrderedDict[str, str] = OrderedDict()

    def has(self, row: Read) -> bool:
        """Say whether this version was read lately."""
        return self._known.get(row.key) == row.token

    def add(self, row: Read) -> None:
        """Remember a version."""
        self._known[row.key] = row.token
        self._known.move_to_end(row.key)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()


def identify(
    rows: Sequence[Sequence[Any]], shape: Shape, telling: Telling
) -> tuple[Sequence[Read], Sequence[DeadLetter]]:
    """Return the rows that have an identity, the others as dead letters."""
    found: list[Read] = []
    dead: list[DeadLetter] = []
    for row in rows:
        values = row_map(shape.columns, row)
        missing = [name for name in telling.key if values[name] is None]
        if missing:
            dead.append(_dead("no_key", f"{missing[0]!r}, a column of the key, is null", values, telling))
            continue
        try:
            key, token = (_text([values[name] for name in names]) for names in (telling.key, telling.version))
        except TypeError as error:
            dead.append(_dead("unreadable", f"a row holds what is no text: {error}", values, telling))
            continue
        found.append(Read(key, token, values))
    return found, dead


def tell(
    rows: Sequence[Read], known: Mapping[str, SeenObject], telling: Telling, shape: Shape, now: int, *, silent: bool
) -> Told:
    """Return what is new in these rows. `silent` rows are remembered and are no events; `now` is UTC micros."""
    events: list[Event] = []
    dead: list[DeadLetter] = []
    memory: dict[str, SeenObject] = {}
    for row in rows:
        before = memory.get(row.key) or known.get(row.key)
        if before is not None and before.token == row.token:
            continue
        first = now if before is None else before.first_seen
        high = row.values[telling.high]
        memory[row.key] = SeenObject(row.key, row.token, 0, PRESENT, first, now, orjson.dumps(high).decode())
        if silent:
            continue
        try:
            data = orjson.dumps(row.values)
        except TypeError as error:
            dead.append(_dead("unreadable", f"a row holds what is no text: {error}", row.values, telling, row.key))
            continue
        if len(data) > telling.max_row:
            size = f"the row has {len(data):,} bytes, and `max_row` is {telling.max_row:,}; select fewer columns"
            dead.append(DeadLetter("too_large", size, f"{telling.source}#{row.key}"))
            continue
        events.append(_event(row, before is not None, data, telling, shape, now))
    return Told(events, list(memory.values()), dead)


def _event(row: Read, known: bool, data: bytes, telling: Telling, shape: Shape, now: int) -> Event:
    subject = row.values[telling.key[0]] if len(telling.key) == 1 else row.key
    subject = str(subject).lower() if isinstance(subject, bool) else str(subject)
    if len(subject.encode("utf-8", "replace")) > MAX_TEXT or not storable_text(subject):
        subject = row.key
    return Event(
        sensor=telling.sensor,
        id=f"{row.key}@{row.token}",
        uid=new_uid(EVENT, now),
        source=telling.source,
        type=CHANGED if known else CREATED,
        received_at=now,
        subject=subject,
        time=_moment(row.values[telling.high]) if shape.sort == "time" else None,
        data=data,
        content_type="application/json",
    )


def _text(values: Sequence[Any]) -> str:
    """Return values as a JSON array, in which no two lists of values look the same; of a long one the hash."""
    text = orjson.dumps(values)
    return text.decode() if len(text) <= MAX_TEXT else "sha256:" + hashlib.sha256(text).hexdigest()


def _moment(value: Any) -> int | None:
    try:
        return round(datetime.fromisoformat(value).timestamp() * 1_000_000)
    except (TypeError, ValueError, OverflowError):
        return None


def _dead(reason: str, detail: str, values: Mapping[str, Any], telling: Telling, key: str = "") -> DeadLetter:
    """Return the letter of a row that has no identity, or that is no JSON: its values as Python spells them."""
    payload = repr(dict(values)).encode("utf-8", "backslashreplace")[: telling.max_row]
    return DeadLetter(reason, detail, f"{telling.source}#{key}" if key else telling.source, payload, "text/plain")
