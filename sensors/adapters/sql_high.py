"""Values of a column that grows: what can be subtracted from them, which of two is later. Pure.

Values are as `sql_source` has them. What is no plain value of its sort (`infinity`, a year before Christ) is kept as it
is and compares as the database would have it at the ends.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from sensors.adapters.sql_source import Sort, Value

CLOCKED: Final = frozenset({"time", "local", "date"})
_ISO: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)"
    r"(?:(?P<sep>[ T])(\d\d:\d\d)(?P<seconds>:\d\d)?(?P<fraction>\.\d{1,9})?(?P<zone>Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)
_FAR: Final = timedelta(hours=14)  # as far as a clock without an offset may be ahead of UTC
_DEFAULT: Final[dict[Sort, float | int]] = {"time": 300.0, "local": 300.0, "date": 86_400.0, "whole": 1_000}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def overlap_of(sort: Sort, value: Value | None, asked: float | None, column: str) -> float | int:
    """Return what to subtract before each look: seconds for moments, a number for numbers, 0 for all else.

    Raises ValueError with a sentence where what was asked does not fit the column, or nothing is known that would.
    """
    if sort == "text" and isinstance(value, str) and _ISO.fullmatch(value):
        sort = "local"
    if sort == "commit":
        return 0  # the order of commits is known: nothing comes late
    if asked is None:
        if sort in _DEFAULT:
            return _DEFAULT[sort]
        raise ValueError(
            f"`high`: nothing can be subtracted from {column!r} by itself, and rows that are committed late would be "
            "lost; name a time or a whole number, or say `overlap: 0s` where no row is ever late"
        )
    if asked and sort in CLOCKED and isinstance(asked, int):
        raise ValueError(f"`overlap`: {column!r} is a time; write a duration such as 5m")
    if asked and sort in ("whole", "number") and isinstance(asked, float):
        raise ValueError(f"`overlap`: {column!r} is a number; write how far it may lag behind, such as 1000")
    if asked and sort not in CLOCKED and sort not in ("whole", "number"):
        raise ValueError(f"`overlap`: nothing can be subtracted from {column!r}; say 0s where no row is ever late")
    return asked


def back(sort: Sort, value: Value, overlap: float) -> Value:
    """Return the value that lies `overlap` before."""
    if not overlap:
        return value
    if isinstance(value, int):
        return value - int(overlap)
    if isinstance(value, float):
        return value - overlap
    if sort in ("whole", "number"):
        try:
            return str(Decimal(value) - Decimal(overlap))
        except InvalidOperation:
            return value
    return _shifted(value, timedelta(seconds=-overlap))


def capped(sort: Sort, value: Value, now: int) -> Value:
    """Return a moment, or the database's clock where that is earlier: a row from the future must hide no other."""
    if sort not in CLOCKED or not isinstance(value, str):
        return value
    limit = _EPOCH + timedelta(microseconds=now) + (timedelta() if sort == "time" else _FAR)
    moment = _moment(value)
    if moment is None:
        return value if value.startswith("-") or value.endswith("BC") else moment_text(sort, limit)
    return value if moment <= limit else moment_text(sort, limit)


def later(sort: Sort, value: Value, than: Value) -> bool:
    """Say whether a value is greater than another of the same column."""
    if isinstance(value, str) and isinstance(than, str):
        if sort in CLOCKED:
            one, other = _moment(value), _moment(than)
            if one is not None and other is not None:
                return one > other
            return _end(value) > _end(than)
        if sort in ("whole", "number", "commit"):
            try:
                return Decimal(value) > Decimal(than)
            except InvalidOperation:
                return value != than
        return value > than
    if not isinstance(value, str) and not isinstance(than, str):
        return value > than
    return isinstance(value, str)  # as SQLite sorts: text behind numbers


def moment_text(sort: Sort, moment: datetime) -> str:
    """Return a moment as values of a sort are written."""
    if sort == "date":
        return moment.date().isoformat()
    text = moment.replace(tzinfo=None).isoformat()
    return f"{text}Z" if sort == "time" else text


def at(sort: Sort | None, micros: int, like: Value | None, column: str) -> Value:
    """Return a moment (UTC micros) as a value of the column. Raises ValueError where the column holds no moments."""
    moment = _EPOCH + timedelta(microseconds=micros)
    if sort is not None and sort in CLOCKED:
        return moment_text(sort, moment)
    if sort == "text" and isinstance(like, str) and _ISO.fullmatch(like):
        return _written_like(moment.replace(tzinfo=None), like)
    raise ValueError(f"`start`: {column!r} holds no moments; write now or beginning")


def _end(value: str) -> int:
    """Order what is no plain moment: the ends of time, and the years before Christ."""
    if value == "-infinity":
        return -2
    if value.endswith("BC"):
        return -1
    return 1 if _moment(value) is None else 0


def _moment(value: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _shifted(value: str, by: timedelta) -> str:
    """Return a text moment moved, written the same way."""
    if _ISO.fullmatch(value) is None:
        return value
    moment = _moment(value)
    if moment is None:
        return value
    try:
        moved = moment + by
    except OverflowError:
        return value
    return _written_like(moved, value)


def _written_like(moment: datetime, like: str) -> str:
    """Write a moment as another one is written: the same parts, the same separators. Rounds down."""
    parts = _ISO.fullmatch(like)
    if parts is None or parts["sep"] is None:
        return moment.date().isoformat()
    text = f"{moment.date().isoformat()}{parts['sep']}{moment:%H:%M}"
    if parts["seconds"]:
        text += f"{moment:%S}".join((":", ""))
    if parts["fraction"]:
        text += f".{moment.microsecond:06d}"[: len(parts["fraction"])].ljust(len(parts["fraction"]), "0")
    return text + (parts["zone"] or "")
