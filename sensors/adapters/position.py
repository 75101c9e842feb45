"""The durable position of a sensor that scans: versioned JSON, so that a first scan goes on where it was left."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal, Protocol

from sensors.batch import Cursor
from sensors.errors import NotConnected
from sensors.units import StartAt

VERSION = 1


@dataclass(frozen=True, slots=True)
class Position:
    """Where a scan stands. `path` is the option's text when it was fixed, `root` names the directory itself.

    What is found before `baseline` is complete is history: silent if its modification is before `start` and it was not
    touched since `since`, the first connect (both UTC micros). `start` 0 means that everything is an event.
    """

    path: str
    start: int
    since: int
    baseline: bool = False
    root: str = ""

    def silent(self, modified: int, changed: int) -> bool:
        """Say whether an unknown file with these times (UTC micros) is history and no event."""
        return not self.baseline and self.start > 0 and modified < self.start and changed < self.since

    def to_json(self) -> str:
        """Return the text to store."""
        return json.dumps({"v": VERSION, **asdict(self)}, separators=(",", ":"))

    def done(self, root: str) -> "Position":
        """Return the position after a complete scan of the directory `root`."""
        return replace(self, baseline=True, root=root)


class ScanOptions(Protocol):
    """The options that decide about a position."""

    @property
    def path(self) -> str:
        """What is scanned, as written."""
        ...

    @property
    def start(self) -> StartAt:
        """Where history starts when there is no position."""
        ...

    @property
    def cursor(self) -> Literal["keep", "reset"] | None:
        """What to do with a position of another path."""
        ...


def take_up(
    cursor: Cursor | None, options: ScanOptions, now: int
) -> tuple[Position, Literal["keep", "store", "forget"]]:
    """Return the position to go on from, and what to do first: nothing, store it, or forget what is remembered.

    `now` in UTC micros. Raises NotConnected when the stored position is of another path and nobody said what to do.
    """
    fresh = Position(options.path, options.start.micros(now), now)
    if cursor is None:
        return fresh, "store"
    try:
        stored = read_position(cursor.value)
    except ValueError as error:
        raise NotConnected(f"{error}; was it written by a newer version?") from error
    if stored.path == options.path:
        return stored, "keep"
    if options.cursor == "keep":
        return replace(stored, path=options.path, root=""), "store"
    if options.cursor == "reset":
        return fresh, "forget"
    raise NotConnected(
        f"it watched {stored.path!r} so far and is to watch {options.path!r} now: say `cursor: keep` if the same files "
        "are there, or `cursor: reset` to begin anew"
    )


def read_position(text: str) -> Position:
    """Read stored text. Raises ValueError for another version or form."""
    value = json.loads(text)
    if not isinstance(value, dict) or value.pop("v", None) != VERSION:
        raise ValueError(f"the stored position has another form than version {VERSION}")
    try:
        return Position(**value)
    except TypeError as error:
        raise ValueError("the stored position has another form") from error
