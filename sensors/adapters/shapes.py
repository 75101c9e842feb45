"""What a file of a table looks like: its columns with their types, and how many rows it has. Values only.

Type names are those of Arrow in lower case: `int64`, `float64`, `string`, `bool`, `date`, `time[us]`, `timestamp[us]`,
`timestamp[us, UTC]`, `decimal(10,2)`, `binary`, `list<int64>`, `struct<a: int64>`, `null` where every value is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

MAX_COLUMNS: Final = 10_000  # all of them stand in the event

Origin = Literal["declared", "text", "json"]


class Unreadable(ValueError):
    """A file is not what it claims to be; the sentence says why, and holds nothing of its content but short names."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column, by name and type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A file's form. `rows` were counted; unless `exact` there may be more of them.

    `origin` says where the types are from: `declared` by the file, or guessed from `text` (everything is text until
    proven otherwise) or `json` (numbers, booleans and text are apart). `compression` is empty for none.
    """

    format: str
    columns: Sequence[Column]
    rows: int
    exact: bool
    origin: Origin
    compression: str = ""

    @property
    def telling(self) -> bool:
        """Say whether the columns are known: JSON without a single row has none to show."""
        return not (self.origin == "json" and self.rows == 0)

    def data(self) -> Mapping[str, Any]:
        """Return the fields for an event's data."""
        data: dict[str, Any] = {
            "format": self.format,
            "schema": [{"name": column.name, "type": column.type} for column in self.columns],
            "rows_exact": self.exact,
        }
        if self.exact:
            data["rows"] = self.rows
        if self.compression:
            data["compression"] = self.compression
        return data


def shown(name: str) -> str:
    """Return a name from a file as it may stand in a sentence: short, printable, in back quotes."""
    text = "".join(char if char.isprintable() else "�" for char in name[:60])
    return f"`{text}…`" if len(name) > 60 else f"`{text}`"


def clean(name: str) -> str:
    """Return a name from a file as it may be stored: no NUL, no other control character, at most 1,000 characters."""
    if name.isprintable() and len(name) <= 1000:
        return name
    return "".join("�" if ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 else char for char in name[:1000])


def counted(number: int, what: str) -> str:
    """Return `1 row`, `2 rows`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"
