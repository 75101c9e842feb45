"""A sqlite3 connection as a `Session`: few statements, each over many rows.

sqlite3 gives the interpreter lock away at every step of a statement, and taking it back beside a busy event loop
costs up to the switch interval. So rows go in by the hundred per statement (padded to a few fixed sizes, so that the
statements stay prepared), and answers come back as one JSON text.
"""

import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson

from sensors.clock import Clock
from tidegate.store.session import Bulk, sqlite_text

_SIZES = (1, 4, 16, 64, 256)
_VARIABLES = 32_766


class SqliteSession:
    """One connection, used by one thread at a time. `moment` is the transaction's time once `tick` was called."""

    locks = False

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._now = 0
        self._texts: dict[str, str] = {}
        self._selects: dict[str, str] = {}
        self._columns: dict[str, str] = {}
        self._bulks: dict[Bulk, dict[int, str]] = {}

    def tick(self) -> None:
        """Take the time for the transaction that starts."""
        self._now = self._clock.now()

    def now(self) -> int:
        """Return the time of the transaction (UTC µs)."""
        return self._now

    def select(self, sql: str, *params: Any) -> Sequence[Sequence[Any]]:
        """Return all rows of a query over text and numbers."""
        values = _bind(params)
        text = self._selects.get(sql)
        if text is None:
            text = self._selects[sql] = self._folded(sql, values)
        (folded,) = self.connection.execute(text, values).fetchone()
        rows: list[list[Any]] = orjson.loads(folded)
        return rows

    def columns(self, sql: str, *params: Any) -> Sequence[Sequence[Any]]:
        """Return the answer to a query column by column."""
        values = _bind(params)
        text = self._columns.get(sql)
        if text is None:
            text = self._columns[sql] = self._folded(sql, values, by_column=True)
        columns: list[list[Any]] = [orjson.loads(folded) for folded in self.connection.execute(text, values).fetchone()]
        return columns if columns[0] else ()

    def _folded(self, sql: str, values: Sequence[Any], *, by_column: bool = False) -> str:
        text = sqlite_text(sql)
        described = self.connection.execute(f"SELECT * FROM ({text}) LIMIT 0", values).description
        names = [f"c{index}" for index in range(len(described))]
        columns = ", ".join(names)
        folded = [f"json_group_array({name})" for name in names]
        answer = ", ".join(folded) if by_column else f"json_group_array(json_array({columns}))"
        return f"WITH q({columns}) AS ({text}) SELECT {answer} FROM q"

    def fetch(self, sql: str, *params: Any) -> Sequence[Sequence[Any]]:
        """Return all rows of a query that may hold bytes."""
        return self.connection.execute(self._text(sql), _bind(params)).fetchall()

    def execute(self, sql: str, *params: Any) -> int:
        """Run a statement; return how many rows it changed."""
        before = self.connection.total_changes
        self.connection.execute(self._text(sql), _bind(params))
        return self.connection.total_changes - before

    def bulk(self, statement: Bulk, rows: Sequence[Sequence[Any]], *params: Any) -> int:
        """Run a bulk statement over rows; return how many rows it changed."""
        texts = self._bulks.get(statement)
        if texts is None:
            texts = self._bulks[statement] = {}
        connection = self.connection
        before = connection.total_changes
        start, width = 0, len(statement.names)
        while start < len(rows):
            size = _size(len(rows) - start, width)
            flat = list(chain.from_iterable(rows[start : start + size]))
            _refuse_nul(flat)
            flat.extend([None] * (size * width - len(flat)))
            flat.extend(params)
            text = texts.get(size)
            if text is None:
                text = texts[size] = _bulk_text(statement, size)
            connection.execute(text, flat)
            start += size
        return connection.total_changes - before

    def _text(self, sql: str) -> str:
        text = self._texts.get(sql)
        if text is None:
            text = self._texts[sql] = sqlite_text(sql)
        return text


def _size(left: int, width: int) -> int:
    """Choose how many rows the next statement takes: the next size up when it will be more than half full."""
    best = 1
    for size in _SIZES:
        if size * width > _VARIABLES:
            break
        if size <= left or size < 2 * left:
            best = size
    return best


def _bulk_text(statement: Bulk, size: int) -> str:
    row = "(" + ", ".join("?" * len(statement.names)) + ")"
    return sqlite_text(f"WITH v({', '.join(statement.names)}) AS (VALUES {', '.join([row] * size)}) {statement.body}")


def _bind(params: Sequence[Any]) -> Sequence[Any]:
    return [orjson.dumps(value).decode() if isinstance(value, list) else value for value in params]


def _refuse_nul(values: Sequence[Any]) -> None:
    """Refuse what PostgreSQL would refuse as well."""
    if "\0" in "".join([value for value in values if type(value) is str]):
        raise ValueError("Text with a NUL character cannot be stored.")
