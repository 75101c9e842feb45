"""What the shared SQL needs from a database connection, and how one statement text serves both databases.

Statements are written as PostgreSQL takes them, with `?` for values, and three words that `sqlite_text` rewrites: `=
ANY(?)` (a list of text; of numbers with `?::bigint[]`), `PAIRS(?)` / `TRIPLES(?)` (a JSON array of arrays of text, as
rows with columns a, b, c), and `JSON_ROWS(x, y)` (rows folded into one JSON array). Row locks are dropped on SQLite,
where the writer is alone.

`select` returns text and numbers only: SQLite folds the whole answer into one JSON text, because each row stepped
over would release the interpreter lock once, and taking it back beside a busy event loop costs up to the switch
interval.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson


@dataclass(frozen=True, slots=True, eq=False)
class Bulk:
    """One statement for many rows `v`: their `names`, their `types` (t text, i integer, f float, b bytes), the body.

    The body reads `FROM v` and must skip rows whose first column is NULL: SQLite pads with such rows, so that a few
    statement texts serve every number of rows and stay prepared. Values for `?` in the body follow the rows.
    """

    names: tuple[str, ...]
    types: str
    body: str


def bulk(columns: str, body: str) -> Bulk:
    """Build a bulk statement from columns written as `uid:t at:i …`."""
    pairs = [column.split(":") for column in columns.split()]
    return Bulk(tuple(name for name, _ in pairs), "".join(kind for _, kind in pairs), body)


def insert(table: str, columns: str, conflict: str = "") -> Bulk:
    """Build a bulk insert of all `columns` into `table`; `conflict` is an ON CONFLICT clause."""
    names = ", ".join(column.split(":")[0] for column in columns.split())
    first = columns.split(":", 1)[0]
    return bulk(columns, f"INSERT INTO {table} ({names}) SELECT {names} FROM v WHERE {first} IS NOT NULL {conflict}")


class Session(Protocol):
    """One connection, used by one thread at a time."""

    locks: bool  # whether rows have to be locked: other writers exist

    def now(self) -> int:
        """Return the database's clock (UTC µs), constant within a transaction."""
        ...

    def select(self, sql: str, *params: Any) -> Sequence[Sequence[Any]]:
        """Return all rows of a query over text and numbers."""
        ...

    def columns(self, sql: str, *params: Any) -> Sequence[Sequence[Any]]:
        """Return the answer to a query over text and numbers column by column, for many rows; empty for no rows."""
        ...

    def fetch(self, sql: str, *params: Any) -> Sequence[Sequence[Any]]:
        """Return all rows of a query that may hold bytes."""
        ...

    def execute(self, sql: str, *params: Any) -> int:
        """Run a statement; return how many rows it changed."""
        ...

    def bulk(self, statement: Bulk, rows: Sequence[Sequence[Any]], *params: Any) -> int:
        """Run a bulk statement over rows; return how many rows it changed."""
        ...


def json_rows(rows: Sequence[Sequence[str]]) -> str:
    """Encode rows of text for PAIRS(?) and TRIPLES(?)."""
    return orjson.dumps(rows).decode()


def json_list(value: Any) -> Any:
    """Decode what JSON_ROWS gave: text, a list where SQLite folded it in as JSON, NULL for no rows on PostgreSQL."""
    if value is None or isinstance(value, list):
        return value or []
    return orjson.loads(value)


_ANY = re.compile(r"= ANY\(\?(?:::bigint\[\])?\)")
_LOCK = re.compile(r"\s+FOR (?:UPDATE|SHARE)(?: OF \w+)?(?: SKIP LOCKED)?")
_ROWS = re.compile(r"JSON_ROWS\(([^()]*)\)")


def sqlite_text(sql: str) -> str:
    """Rewrite a statement for SQLite."""
    sql = _LOCK.sub("", sql)
    sql = _ANY.sub("IN (SELECT value FROM json_each(?))", sql)
    sql = sql.replace(
        "PAIRS(?)", "(SELECT json_extract(value, '$[0]') AS a, json_extract(value, '$[1]') AS b FROM json_each(?))"
    )
    sql = sql.replace(
        "TRIPLES(?)",
        "(SELECT json_extract(value, '$[0]') AS a, json_extract(value, '$[1]') AS b, json_extract(value, '$[2]') AS c"
        " FROM json_each(?))",
    )
    return _ROWS.sub(r"json_group_array(json_array(\1))", sql)


def postgres_text(sql: str) -> str:
    """Rewrite a statement for psycopg."""
    sql = sql.replace("%", "%%")
    sql = sql.replace("= ANY(?)", "= ANY(?::text[])")
    sql = sql.replace("PAIRS(?)", "(SELECT e ->> 0 AS a, e ->> 1 AS b FROM jsonb_array_elements(?::jsonb) AS e)")
    sql = sql.replace(
        "TRIPLES(?)", "(SELECT e ->> 0 AS a, e ->> 1 AS b, e ->> 2 AS c FROM jsonb_array_elements(?::jsonb) AS e)"
    )
    return _ROWS.sub(r"(json_agg(json_build_array(\1)))::text", sql).replace("?", "%s")
