"""The durable position of a sensor that polls an API: how far it has come, as versioned JSON.

It moves only at the end of a complete poll, in the transaction of that poll's last events; what was read of a poll that
did not end is read again.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from sensors.adapters.high_water import Mark, mark_of
from sensors.batch import Cursor
from sensors.errors import NotConnected
from sensors.units import StartAt

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Position:
    """`source` is the URL as far as it is fixed; `since` the first connect, `start` where history ends (UTC micros).

    `high` is the highest mark seen; `etag`, `modified` are the validators of the last complete answer to the request
    whose hash is `request`. `told` counts the changes of the watched value, which is `value` (JSON text; None: not yet
    seen). Until `baseline` is done, what is found is history when `start` was `now`.
    """

    source: str
    since: int
    start: int = 0
    now: bool = False
    baseline: bool = False
    high: int | float | str | None = None
    etag: str = ""
    modified: str = ""
    request: str = ""
    value: str | None = None
    told: int = 0

    @property
    def mark(self) -> Mark | None:
        """Return `high` as it is compared."""
        return mark_of(self.high)

    def silent(self, mark: Mark | None) -> bool:
        """Say whether an item that was not known before is history and no event."""
        if self.now:
            return not self.baseline
        micros = None if mark is None else mark.micros
        return micros is not None and micros < self.start

    def to_json(self) -> str:
        """Return the text to store; what is not set is left out."""
        kept = {name: value for name, value in asdict(self).items() if value not in (None, "")}
        return json.dumps({"v": VERSION, **kept}, separators=(",", ":"))


def fresh(source: str, start: StartAt, now: int) -> Position:
    """Return the position of a sensor that has none yet; `now` in UTC micros."""
    return Position(source, now, 0 if start.mode == "now" else start.micros(now), start.mode == "now")


def take_up(
    cursor: Cursor | None, source: str, start: StartAt, option: Literal["keep", "reset"] | None, now: int
) -> tuple[Position, Literal["keep", "store", "forget"]]:
    """Return the position to go on from, and what to do first: nothing, store it, or forget what is remembered.

    Raises NotConnected when the stored position is of another source and nobody said what to do.
    """
    new = fresh(source, start, now)
    if cursor is None:
        return new, "store"
    try:
        stored = read(cursor.value)
    except ValueError as error:
        raise NotConnected(f"{error}; was it written by a newer version?") from error
    if stored.source == source:
        return stored, "keep"
    if option == "keep":
        return replace(stored, source=source, etag="", modified="", request=""), "store"
    if option == "reset":
        return new, "forget"
    raise NotConnected(
        f"it asked {stored.source} so far and is to ask {source} now: say `cursor: keep` if the same items are there, "
        "or `cursor: reset` to begin anew"
    )


def read(text: str) -> Position:
    """Read stored text. Raises ValueError for another version or form."""
    value: Any = json.loads(text)
    if not isinstance(value, dict) or value.pop("v", None) != VERSION:
        raise ValueError(f"the stored position has another form than version {VERSION}")
    try:
        return Position(**value)
    except TypeError as error:
        raise ValueError("the stored position has another form") from error
