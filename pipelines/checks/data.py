"""The data that checks judge, behind one face: a Polars frame, or a table that a database computes over.

In flow a native frame or DuckDB relation; out flow counts and a few rows. Expressions are narwhals', so that the same
check runs on a frame in memory and, pushed down as SQL, inside the database. Values that are shown are bounded, and
redacted where the check says so.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from decimal import Decimal
from functools import cached_property
from math import isfinite
from typing import Any

from pipelines.checks.finding import SAMPLE, SHOWN, Unfit
from pipelines.checks.spec import CheckSpec
from pipelines.datasets.values import as_frame

REDACTED = "***"
_TEXT = 60
_COLUMNS = 12


class Data:
    """What is judged, as one check sees it: `only` names the columns whose values are not to be shown."""

    def __init__(self, native: Any, redact: bool | Sequence[str] = False) -> None:
        import narwhals as nw

        found: Any = native if _computes(native) else as_frame(native)
        if found is None:
            raise TypeError(f"{type(native).__name__} is no table; hand over a DataFrame, or what becomes one")
        self.native = found
        self.frame = nw.from_native(found).lazy()
        self.secret = redact

    def seen_by(self, spec: CheckSpec) -> "Data":
        """Return the same data with the secrets of one check."""
        other = copy(self)
        other.secret = spec.redact
        return other

    @cached_property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.count(None)

    @cached_property
    def schema(self) -> Mapping[str, Any]:
        """Return narwhals types by column."""
        return dict(self.frame.collect_schema())

    @cached_property
    def types(self) -> Mapping[str, str]:
        """Return the names of types by column, as writers record them."""
        empty = self.frame.head(0).collect("polars").to_native()
        return {name: str(kind) for name, kind in empty.schema.items()}

    def columns(self, names: Sequence[str]) -> Sequence[str]:
        """Return the names; Unfit says which of them is no column."""
        for name in names:
            if name not in self.schema:
                raise Unfit(f"column {name!r} is missing; there are {', '.join(self.schema) or 'no columns'}")
        return names

    def kind(self, column: str) -> Any:
        """Return a column's narwhals type; Unfit when there is no such column."""
        self.columns([column])
        return self.schema[column]

    def count(self, predicate: Any) -> int:
        """Return how many rows a predicate (None: any) holds for."""
        import narwhals as nw

        frame = self.frame if predicate is None else self.frame.filter(predicate)
        return int(self.answer(frame.select(nw.len()))[0][0])

    def answer(self, frame: Any) -> Sequence[Sequence[Any]]:
        """Compute a lazy frame and return its rows."""
        return list(frame.collect("polars").rows())

    def values(self, column: str, predicate: Any) -> Sequence[Any]:
        """Return a few different values of a column for which a predicate holds, in the order of the data."""
        import narwhals as nw

        if self.hidden(column):
            return []
        found = self.answer(self.frame.filter(predicate).select(nw.col(column)).head(20 * SHOWN))
        return (
            list(dict.fromkeys(row[0] for row in found))[:SHOWN] if _hashable(found) else [r[0] for r in found[:SHOWN]]
        )

    def sample(self, predicate: Any, first: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Return a few rows for which a predicate holds, the columns `first` before others."""
        import narwhals as nw

        order = [*first, *(name for name in self.schema if name not in first)][:_COLUMNS]
        frame = self.frame.filter(predicate).select(*(nw.col(name) for name in order)).head(SAMPLE)
        return self.shown(order, self.answer(frame))

    def shown(self, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Sequence[Mapping[str, Any]]:
        """Return rows as they may be kept: bounded, and redacted."""
        return [
            {name: REDACTED if self.hidden(name) and value is not None else plain(value) for name, value in pairs}
            for pairs in (list(zip(names, row, strict=True))[:_COLUMNS] for row in rows[:SAMPLE])
        ]

    def hidden(self, column: str) -> bool:
        """Say whether a column's values are not to be shown."""
        return self.secret if isinstance(self.secret, bool) else column in self.secret

    @property
    def hides(self) -> bool:
        """Say whether any value is not to be shown."""
        return bool(self.secret)

    def such_as(self, column: str, values: Sequence[Any]) -> str:
        """Return words for a few values, none for redacted ones."""
        return f", such as {listed(values)}" if values and not self.hidden(column) else ""


def listed(values: Sequence[Any]) -> str:
    """Return values in words, each cut to a bounded length."""
    return ", ".join(word(value) for value in values)


def word(value: Any) -> str:
    """Return one value in words: dates and times as ISO text, all else as Python writes it."""
    iso = getattr(value, "isoformat", None)
    text = iso() if iso is not None else str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"


def plain(value: Any) -> Any:
    """Return a value that JSON holds, bounded."""
    if value is None or isinstance(value, bool | int):
        return value if not isinstance(value, int) or abs(value) < 2**53 else str(value)
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    text = value if isinstance(value, str) else word(value)
    return text if len(text) <= 2 * _TEXT else f"{text[: 2 * _TEXT - 1]}…"


def share(part: float, whole: float) -> str:
    """Return a part of a whole as a percentage that is never rounded to a lie (0 % of something, 100 % of less)."""
    if not whole:
        return "0%"
    percent = 100 * part / whole
    for digits in range(7):
        text = f"{percent:.{digits}f}"
        if (float(text) != 0 or part == 0) and (float(text) != 100 or part == whole):
            return f"{text}%"
    return f"{percent:g}%"


def _computes(native: Any) -> bool:
    """Say whether the data can compute by itself; everything else becomes a Polars frame."""
    return type(native).__module__.partition(".")[0] in ("polars", "duckdb", "_duckdb")


def _hashable(rows: Sequence[Sequence[Any]]) -> bool:
    try:
        return all(hash(row[0]) is not None for row in rows)
    except TypeError:
        return False
