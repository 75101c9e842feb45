"""A psycopg connection as a `Session`: many rows go in as one JSON text, statements stay prepared.

One JSON parameter costs a tenth of the client's time of one array per column (bytes travel as base64 in it), and its
type never changes, so that one prepared statement serves every number of rows.
"""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import orjson
import psycopg

from tidegate.store.session import Bulk, postgres_text

_COLUMNS = {"t": "e ->> {}", "i": "(e ->> {})::bigint", "f": "(e ->> {})::float8", "b": "decode(e ->> {}, 'base64')"}
NOW = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"


class PostgresSession:
    """One connection, used by one thread at a time."""

    locks = True

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self.connection = connection
        self._now = 0
        self._texts: dict[str, bytes] = {}
        self._bulks: dict[Bulk, bytes] = {}

    def begin(self, how: str) -> tuple[Any, ...]:
        """Run BEGIN and take the clock in the same round trip; returns what `how` selects beside it."""
        cursor = self.connection.execute(how.encode(), prepare=False)
        cursor.nextset()
        row = cursor.fetchone()
        if row is None:
            raise psycopg.OperationalError("The database did not tell its time.")
        self._now = int(row[0])
        return row

    def now(self) -> int:
        """Return the database's time at BEGIN (UTC µs)."""
        return self._now

    def select(self, sql: str, *params: Any) -> Sequence[Sequence[Any]]:
        """Return all rows of a query."""
        return self.connection.execute(self._text(sql), params).fetchall()

    fetch = select

    def columns(self, sql: str, *params: Any) -> Sequence[Sequence[Any]]:
        """Return the answer to a query column by column."""
        return list(zip(*self.select(sql, *params), strict=True))

    def execute(self, sql: str, *params: Any) -> int:
        """Run a statement; return how many rows it changed."""
        return self.connection.execute(self._text(sql), params).rowcount

    def bulk(self, statement: Bulk, rows: Sequence[Sequence[Any]], *params: Any) -> int:
        """Run a bulk statement over rows; return how many rows it changed."""
        if not rows:
            return 0
        text = self._bulks.get(statement)
        if text is None:
            text = self._bulks[statement] = _bulk_text(statement).encode()
        return self.connection.execute(text, [_encode(statement, rows), *params]).rowcount

    def _text(self, sql: str) -> bytes:
        text = self._texts.get(sql)
        if text is None:
            text = self._texts[sql] = postgres_text(sql).encode()
        return text


def _bulk_text(statement: Bulk) -> str:
    columns = ", ".join(_COLUMNS[kind].format(n) for n, kind in enumerate(statement.types))
    rows = f"SELECT {columns} FROM jsonb_array_elements(?::jsonb) AS e"
    return postgres_text(f"WITH v({', '.join(statement.names)}) AS ({rows}) {statement.body}")


def _encode(statement: Bulk, rows: Sequence[Sequence[Any]]) -> str:
    """Encode rows as a JSON array of arrays; text that JSON or the database cannot hold raises."""
    if "b" in statement.types:
        binary = [n for n, kind in enumerate(statement.types) if kind == "b"]
        encoded = [list(row) for row in rows]
        for row in encoded:
            for n in binary:
                if row[n] is not None:
                    row[n] = b64encode(row[n]).decode()
        rows = encoded
    return orjson.dumps(rows).decode()
