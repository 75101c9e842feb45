"""What is remembered of an API's items, so that each version of each is one event: created, changed, or none. Pure.

In flow items and the rows that memory has of them, out flow verdicts and the rows to write. A row keeps the version
that was seen last and the few before it, so that a replica that lags behind, or a list that shows old versions again,
tells nothing twice. Rows are forgotten when they are old and cannot come back:

- with a mark (`high`): the mark lies below what is asked from, and nothing changed for `remember`;
- without one: the item was in no complete poll for `remember`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from sensors.adapters.high_water import Mark, mark_of
from sensors.adapters.http_items import Item
from sensors.adapters.http_position import Position
from sensors.batch import SeenObject
from sensors.scan import KeyFilter

KEPT: Final = 8  # former versions of an item
PRESENT: Final = "present"
ABSENT: Final = "absent"
UNREADABLE: Final = "x:"  # begins the keys of items that went to the dead letters
What = Literal["created", "changed", "known", "silent"]
_UNTOLD: Final = "u"  # in `extra`: no version of the item was told, since all were refused


@dataclass(slots=True)
class Pages:
    """What a poll gathers of items over its pages. `begun` in UTC micros; `shown` notes keys where absence counts."""

    begun: int
    top: Mark | None = None
    moved: bool = False  # an item came twice with different versions: the list moved while it was read
    unmarked: int = 0  # items whose mark cannot be compared
    nameless: int = 0
    count: int = 0
    shown: KeyFilter | None = None


@dataclass(slots=True)
class Remembered:
    """The rows of some items, and what became of them."""

    rows: dict[str, SeenObject]
    writes: dict[str, SeenObject] = field(default_factory=dict)

    def judge(self, item: Item, position: Position, pages: Pages, now: int) -> What:
        """Say what an item is, and note what to remember of it."""
        row = self.rows.get(item.key)
        now = max(now, pages.begun + 1)  # rows of this poll are told from those of the one before
        if pages.shown is not None:
            pages.shown.add(item.key)
        if row is None:
            what: What = "silent" if position.silent(item.mark) else "created"
            self._write(SeenObject(item.key, item.token, 0, PRESENT, now, now, _extra((), item.mark, untold=False)))
            return what
        extra = _read(row)
        untold = _UNTOLD in extra
        former = _former(extra)
        if item.token == row.token or item.token in former:
            if row.state != PRESENT or (item.mark is not None and extra.get("h") != item.mark.value):
                self._write(replace(row, state=PRESENT, last_changed=now, extra=_extra(former, item.mark, untold)))
            return "known"
        if row.last_changed > pages.begun:
            pages.moved = True
        self._write(
            SeenObject(
                item.key,
                item.token,
                row.incarnation,
                PRESENT,
                row.first_seen,
                now,
                _extra((row.token, *former)[:KEPT], item.mark, untold=False),
            )
        )
        if position.silent(item.mark):
            return "silent"
        return "created" if untold else "changed"

    def refuse(self, item: Item, what: What) -> None:
        """Note that an item's version was refused; the first one that is not will be created for all who listen."""
        row = self.rows[item.key]
        if what == "created":
            self._write(replace(row, extra=_extra(_former(_read(row)), item.mark, untold=True)))

    def _write(self, row: SeenObject) -> None:
        self.rows[row.key] = self.writes[row.key] = row


def gone(
    rows: Sequence[SeenObject], shown: KeyFilter | None, below: Mark | None, now: int, remember: float
) -> tuple[Sequence[SeenObject], Sequence[str]]:
    """Return the rows to write and the keys to forget, of some rows after a complete poll.

    `shown` are the keys of that poll where it lists everything, None where it asks from the mark `below`.
    """
    before = now - round(remember * 1e6)
    writes: list[SeenObject] = []
    forget: list[str] = []
    for row in rows:
        if shown is None:
            mark = _mark(row)
            past = row.key.startswith(UNREADABLE) or (mark is not None and below is not None and below.above(mark))
            if past and row.last_changed < before:
                forget.append(row.key)
        elif row.key in shown:
            continue
        elif row.state == PRESENT:
            writes.append(replace(row, state=ABSENT, last_changed=now))
        elif row.last_changed < before:
            forget.append(row.key)
    return writes, forget


def unreadable(key: str, now: int) -> SeenObject:
    """Return the row of an item that went to the dead letters, so that it goes there once."""
    return SeenObject(key, "", 0, PRESENT, now, now)


def _extra(former: Sequence[str], mark: Mark | None, untold: bool) -> str:
    value: dict[str, Any] = {_UNTOLD: 1} if untold else {}
    if former:
        value["t"] = list(former)
    if mark is not None:
        value["h"] = mark.value
    return json.dumps(value, separators=(",", ":")) if value else ""


def _read(row: SeenObject) -> Mapping[str, Any]:
    try:
        value = json.loads(row.extra) if row.extra else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _former(extra: Mapping[str, Any]) -> Sequence[str]:
    former = extra.get("t", ())
    return former if isinstance(former, list) else ()


def _mark(row: SeenObject) -> Mark | None:
    try:
        return mark_of(_read(row).get("h"))
    except ValueError:
        return None
