"""Whether a file is as expected, and if not, how it differs: as data, and in one plain sentence. Pure.

The order of columns is never compared. A name that occurs twice counts with its first type; in the mode `exact` the
second is one too many.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sensors.adapters.column_types import accepts, join
from sensors.adapters.shapes import Column, Origin, Shape, counted, shown

VERSION: Final = 1
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Retyped:
    """A column that is there with another type."""

    name: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class Difference:
    """How a file differs from what was expected; false when it does not."""

    missing: Sequence[str] = ()
    added: Sequence[Column] = ()
    retyped: Sequence[Retyped] = ()
    rows: int = 0
    rows_exact: bool = True
    fewer_than: int | None = None
    more_than: int | None = None

    def __bool__(self) -> bool:
        return bool(
            self.missing or self.added or self.retyped or self.fewer_than is not None or self.more_than is not None
        )

    def data(self) -> Mapping[str, Any]:
        """Return it as JSON data; only what differs."""
        data: dict[str, Any] = {}
        if self.missing:
            data["missing"] = list(self.missing)
        if self.added:
            data["added"] = [{"name": column.name, "type": column.type} for column in self.added]
        if self.retyped:
            data["retyped"] = [{"name": r.name, "expected": r.expected, "found": r.found} for r in self.retyped]
        if self.fewer_than is not None or self.more_than is not None:
            bounds = {"min": self.fewer_than, "max": self.more_than}
            data["rows"] = {name: value for name, value in bounds.items() if value is not None}
            data["rows"] |= {"found": self.rows, "exact": self.rows_exact}
        return data

    def sentence(self) -> str:
        """Return it in words."""
        parts: list[str] = []
        if self.missing:
            parts.append(f"{_columns(self.missing)} {'is' if len(self.missing) == 1 else 'are'} missing")
        if self.added:
            parts.append(f"{_columns([c.name for c in self.added])} {_verb(len(self.added))} not expected")
        for changed in self.retyped[:_NAMED]:
            parts.append(f"{shown(changed.name)} is {changed.found[:60]} and should be {changed.expected[:60]}")
        if len(self.retyped) > _NAMED:
            parts.append(f"{len(self.retyped) - _NAMED:,} more have other types")
        found = counted(self.rows, "row") if self.rows_exact else f"at least {counted(self.rows, 'row')}"
        if self.fewer_than is not None:
            parts.append(f"it has {found} and should have at least {self.fewer_than:,}")
        if self.more_than is not None:
            parts.append(f"it has {found} and should have at most {self.more_than:,}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Last:
    """The form of the last accepted file, kept for `as_last`."""

    columns: Mapping[str, str]
    origin: Origin
    generation: int

    def to_json(self) -> str:
        """Return the text to store."""
        value = {"v": VERSION, "generation": self.generation, "origin": self.origin, "columns": dict(self.columns)}
        return json.dumps(value, separators=(",", ":"))


def read_last(text: str) -> Last:
    """Read stored text. Raises ValueError for another version or form."""
    value = json.loads(text)
    if not isinstance(value, dict) or value.get("v") != VERSION:
        raise ValueError(f"the stored form of the last file is not of version {VERSION}")
    columns, origin, generation = value.get("columns"), value.get("origin"), value.get("generation")
    if not isinstance(columns, dict) or origin not in ("declared", "text", "json") or not isinstance(generation, int):
        raise ValueError("the stored form of the last file cannot be read")
    return Last(columns, origin, generation)


def compare_columns(shape: Shape, expected: Mapping[str, str | None], mode: Literal["exact", "at_least"]) -> Difference:
    """Compare with what is written down. A type of None is any."""
    if not shape.telling:
        return Difference()
    found = _first(shape.columns)
    retyped = [
        Retyped(name, kind, found[name])
        for name, kind in expected.items()
        if kind is not None and name in found and not accepts(kind, found[name], shape.origin)
    ]
    return Difference(
        missing=[name for name in expected if name not in found],
        added=_surplus(shape.columns, expected) if mode == "exact" else (),
        retyped=retyped,
    )


def compare_last(shape: Shape, last: Last) -> Difference:
    """Compare with the last accepted file. Types that are guessed in either may widen to what holds both."""
    if not shape.telling:
        return Difference()
    found = _first(shape.columns)
    origin = _weaker(shape.origin, last.origin)
    return Difference(
        missing=[name for name in last.columns if name not in found],
        added=[Column(name, kind) for name, kind in found.items() if name not in last.columns],
        retyped=[
            Retyped(name, kind, found[name])
            for name, kind in last.columns.items()
            if name in found and join(kind, found[name], origin) is None
        ],
    )


def next_last(shape: Shape, last: Last | None, generation: int) -> Last | None:
    """Return what to keep after a file was accepted: its form, with types as wide as they were known to be."""
    if not shape.telling:
        return last
    if last is None:
        return Last(_first(shape.columns), shape.origin, generation)
    origin = _weaker(shape.origin, last.origin)
    columns = {
        name: join(last.columns[name], kind, origin) or kind if name in last.columns else kind
        for name, kind in _first(shape.columns).items()
    }
    return Last(columns, shape.origin, generation)


def compare_rows(shape: Shape, least: int | None, most: int | None) -> Difference:
    """Compare the number of rows. Of a file that was not counted to its end only `most` can be known to be broken."""
    rows = Difference(rows=shape.rows, rows_exact=shape.exact)
    few = least is not None and shape.exact and shape.rows < least
    many = most is not None and shape.rows > most
    if not few and not many:
        return rows
    return Difference(
        rows=shape.rows,
        rows_exact=shape.exact,
        fewer_than=least if few else None,
        more_than=most if many else None,
    )


def _first(columns: Sequence[Column]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for column in columns:
        found.setdefault(column.name, column.type)
    return found


def _surplus(columns: Sequence[Column], expected: Mapping[str, Any]) -> Sequence[Column]:
    seen: set[str] = set()
    surplus: list[Column] = []
    for column in columns:
        if column.name not in expected or column.name in seen:
            surplus.append(column)
        seen.add(column.name)
    return surplus


def _weaker(one: Origin, other: Origin) -> Origin:
    if "text" in (one, other):
        return "text"
    return "json" if "json" in (one, other) else "declared"


def _columns(names: Sequence[str]) -> str:
    listed = ", ".join(shown(name) for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{'column' if len(names) == 1 else 'columns'} {listed}{more}"


def _verb(count: int) -> str:
    return "is" if count == 1 else "are"
