"""High-water marks of polled lists: compared as what they are, lowered by an overlap, written back as they came. Pure.

A mark is a number, a moment (RFC 3339, also with a blank instead of the `T`, without an offset, or a bare date), a text
of digits, or any other text. Moments are compared to the nanosecond whatever their offsets are, digits as numbers, all
other texts by their characters. Marks of different kinds do not compare: such an item never moves the mark.
"""

import math
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

Kind = Literal["number", "moment", "digits", "text"]
Value = int | float | str

MAX_TEXT: Final = 256
_NANOS: Final = 1_000_000_000
_MOMENT: Final = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:([Tt ])(\d{2}):(\d{2})(?::(\d{2})(?:([.,])(\d{1,9}))?)?\s?(Z|z|[+-]\d{2}:?\d{2}|[+-]\d{2})?)?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark as it came, and what it is compared by: nanoseconds of a moment, the number, or the text itself."""

    value: Value
    kind: Kind
    order: Any

    def above(self, other: "Mark | None") -> bool:
        """Say whether this one lies above another of its kind; any lies above none."""
        return other is None or (self.kind == other.kind and bool(self.order > other.order))

    @property
    def micros(self) -> int | None:
        """Return a moment as UTC microseconds; None for what is no moment."""
        return int(self.order) // 1000 if self.kind == "moment" else None


@dataclass(frozen=True, slots=True)
class Overlap:
    """By how much to look back: seconds for moments, an amount for numbers."""

    seconds: float | None = None
    amount: int | float | None = None


class OverlapMisfit(ValueError):
    """The overlap is of another kind than the marks."""


def mark_of(value: Any) -> Mark | None:
    """Return the mark that a value is; None for null. Raises ValueError for what cannot be one."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{type(value).__name__} is neither a number nor a text")  # noqa: TRY004 - one error for all
    if not isinstance(value, str):
        if not math.isfinite(value):
            raise ValueError("it is not a finite number")
        return Mark(value, "number", value)
    text = value.strip()
    if not text:
        return None
    if len(text) > MAX_TEXT:
        raise ValueError(f"it is longer than {MAX_TEXT} characters")
    if text.isascii() and text.isdigit():
        return Mark(text, "digits", int(text))
    nanos = _nanos(text)
    return Mark(text, "text", text) if nanos is None else Mark(text, "moment", nanos)


def moment_mark(micros: int, like: Mark | None = None) -> Mark:
    """Return the mark of a moment (UTC micros, rounded down), written as `like` is."""
    style = like.value if like is not None and like.kind == "moment" else ""
    text = _written(micros * 1000, str(style) or ("2000-01-01T00:00:00Z" if micros % 1_000_000 == 0 else _MICROS))
    return Mark(text, "moment", _nanos(text))


_MICROS: Final = "2000-01-01T00:00:00.000000Z"


def lowered(mark: Mark, overlap: Overlap) -> Mark:
    """Return the mark to ask from: this one less the overlap. Moments are rounded down. Raises OverlapMisfit.

    Without an overlap it is the mark itself; other texts cannot be lowered and stay as they are.
    """
    if mark.kind == "moment":
        if overlap.amount:
            raise OverlapMisfit("`overlap` is a number and `high` gives moments; write a duration such as 10m")
        if not overlap.seconds:
            return mark
        text = _written(mark.order - round(overlap.seconds * _NANOS), str(mark.value))
        return Mark(text, "moment", _nanos(text))
    if mark.kind == "text":
        if overlap.amount or overlap.seconds:
            raise OverlapMisfit("`overlap` cannot be taken from what `high` gives: neither moments nor numbers")
        return mark
    if overlap.seconds:
        raise OverlapMisfit("`overlap` is a duration and `high` gives numbers; write a number such as 100")
    if not overlap.amount:
        return mark
    if mark.kind == "digits":
        number = max(0, int(mark.order) - int(-(-overlap.amount // 1)))
        return replace(mark, value=str(number).zfill(len(str(mark.value))), order=number)
    number = mark.order - overlap.amount
    return Mark(number, "number", number)


def _nanos(text: str) -> int | None:
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    year, month, day, _, hour, minute, second, _, fraction, offset = found.groups()
    leap = second == "60"
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            59 if leap else int(second or 0),
            tzinfo=UTC,
        )
        behind = _offset(offset)
    except ValueError:
        return None
    seconds = (moment - _EPOCH) // timedelta(seconds=1) + leap - behind
    return seconds * _NANOS + int((fraction or "").ljust(9, "0") or 0)


def _offset(text: str | None) -> int:
    """Return an offset in seconds; none at all counts as UTC."""
    if text is None or text in "Zz":
        return 0
    digits = text[1:].replace(":", "")
    hours, minutes = int(digits[:2]), int(digits[2:] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("no offset")
    return (hours * 3600 + minutes * 60) * (-1 if text[0] == "-" else 1)


def _written(nanos: int, style: str) -> str:
    """Return a moment, rounded down, in the form of another: its offset, its digits, a bare date for a date."""
    found = _MOMENT.fullmatch(style)
    if found is None:
        raise ValueError(f"{style!r} is no moment")
    _, _, _, letter, _, _, second, point, fraction, offset = found.groups()
    seconds, rest = divmod(nanos, _NANOS)
    try:
        moment = _EPOCH + timedelta(seconds=seconds + _offset(offset))
    except OverflowError:
        moment = datetime(1, 1, 1, tzinfo=UTC)
    text = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    if letter is None:
        return text
    text += f"{letter}{moment.hour:02}:{moment.minute:02}"
    if second is not None:
        text += f":{moment.second:02}"
        if fraction:
            text += point + f"{rest:09}"[: len(fraction)]
    return text + (offset or "")
