"""The port of databases that are watched: what a driver offers, and the values that go between.

One file per driver implements `Database`; nothing else knows it. Rows come in the order of the high column, then the
key, so that a page goes on exactly behind the one before (`After`), however many rows share a moment. Values are ready
for JSON, without loss: numbers that JSON readers would round are text, moments are RFC 3339, bytes stay bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sensors.adapters.sql_text import Statement

# What a high column is made of, and so what can be subtracted from it. `time` knows its offset from UTC, `local` and
# `date` do not; `commit` is the number of the writing transaction (PostgreSQL's xid8).
Sort = Literal["time", "local", "date", "whole", "number", "text", "commit", "other"]
Value = str | int | float


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: the statement, the columns that identify a row, and the one that grows."""

    statement: Statement
    key: Sequence[str]
    high: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What the answer looks like: column names in order, and what the high column is made of (None: no row says)."""

    columns: Sequence[str]
    sort: Sort | None


@dataclass(frozen=True, slots=True)
class After:
    """The last row of the page before: the values of its high column and of its key."""

    high: Value
    key: Sequence[Value]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page. `more`: there may be others behind it. `now` is the database's clock (UTC micros)."""

    rows: Sequence[Sequence[Any]]
    more: bool
    now: int


class Database(Protocol):
    """A database being watched. The sensor alone calls it, one call at a time.

    All but `close` raise NotConnected or BackOff, with a sentence that names no secret.
    """

    @property
    def place(self) -> str:
        """Say which database it is, as a URL without user and password."""
        ...

    async def open(self) -> None:
        """Connect for reading only."""
        ...

    async def shape(self, query: Query) -> Shape:
        """Say what the answer looks like, without reading it."""
        ...

    async def newest(self, query: Query) -> tuple[Value | None, int]:
        """Return the greatest value of the high column, None where there is no row; and the database's clock."""
        ...

    async def page(self, query: Query, low: Value | None, after: After | None, limit: int) -> Page:
        """Return up to `limit` rows with a high of `low` or more (None: all), behind `after`.

        Fewer rows say nothing: a page also ends where its bytes would become too many.
        """
        ...

    async def close(self) -> None:
        """Let go. Never raises."""
        ...


class Bell(Protocol):
    """Tells that something may be new, so that the next look need not wait. Only a hint."""

    def start(self, ring: Callable[[], None]) -> None:
        """Begin to listen, and connect again as often as need be."""
        ...

    @property
    def trouble(self) -> str | None:
        """Say why nothing can be heard now, None while all is well."""
        ...

    async def close(self) -> None:
        """Stop."""
        ...


def row_map(columns: Sequence[str], row: Sequence[Any]) -> Mapping[str, Any]:
    """Return a row by column."""
    return dict(zip(columns, row, strict=True))
