"""A table of PostgreSQL. Writers of one dataset wait for each other on an advisory lock of the transaction.

Readers never wait, and see the rows of before until the commit.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pipelines.datasets.connections import postgres_url
from pipelines.datasets.postgres_types import column_type, copied, polars_frame
from pipelines.datasets.sql_table import INCOMING, RECORDS, SqlTable
from pipelines.datasets.target import Target
from pipelines.datasets.written import Schema, TargetBusy, TargetUnusable, WriteRefused

if TYPE_CHECKING:
    import psycopg

WAIT: Final = "60s"  # to wait for another writer of the dataset
_CONNECT: Final = 10  # seconds
_RECORDS: Final = (
    "create table if not exists {} ("
    "dataset text not null, run text not null, task text not null, part text not null,"
    " fence bigint not null, attempt integer not null, mode text not null,"
    " rows bigint not null, columns text not null, written_at bigint not null, seq bigint, resumes text)"
)
_INTEGERS: Final = ("smallint", "integer", "bigint")
_FROM_TEXT: Final = ("character varying", "character", "uuid", "json", "jsonb", "xml", "inet", "citext")
_NUMERIC: Final = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?")
_PIECES: Final = re.compile(r'"(?:[^"]|"")*"|\?')


def open_postgres(
    target: Target,
    connection: Mapping[str, Any] | None = None,
    _sleep: Callable[[float], None] = time.sleep,
) -> SqlTable:
    """Return the table; nothing is connected yet."""
    url = postgres_url(connection, target)

    @contextmanager
    def connect(write: bool) -> Iterator[_PostgresSession]:
        with _told(target):
            opened = _connected(url, target)
        try:
            session = _PostgresSession(opened, target)
            if not write:
                session.run("set transaction isolation level repeatable read read only")
            yield session
        finally:
            opened.close()

    return SqlTable(target, connect, fits, target.schema)


def fits(there: str, coming: str) -> bool:
    """Say whether values of one PostgreSQL type go into a column of another without loss."""
    if there == coming:
        return True
    if coming == "text":
        return there.partition("(")[0] in _FROM_TEXT
    if coming == "jsonb":
        return there == "json"
    room = _NUMERIC.fullmatch(there)
    if coming in _INTEGERS:
        size = _INTEGERS.index(coming)
        wide = room is not None and (room[1] is None or int(room[1]) - int(room[2]) >= (5, 10, 19)[size])
        return wide or there in _INTEGERS[size:] or (there == "double precision" and size < 2)
    need = _NUMERIC.fullmatch(coming)
    if room is not None and need is not None and need[1] is not None:
        whole, places = int(need[1]) - int(need[2]), int(need[2])
        return room[1] is None or (int(room[2]) >= places and int(room[1]) - int(room[2]) >= whole)
    return (coming, there) == ("real", "double precision")


class _PostgresSession:
    """One connection, in a transaction from its first statement on."""

    transactional_ddl = True
    moment_type = "timestamp with time zone"
    text_type = "text"

    def __init__(self, connection: "psycopg.Connection[Any]", target: Target) -> None:
        self._c = connection
        self._target = target

    def run(self, sql: str, values: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        import psycopg

        with _told(self._target), psycopg.RawCursor(self._c) as cursor:
            cursor.execute(_numbered(sql).encode(), list(values) or None)
            return cursor.fetchall() if cursor.description is not None else ()

    def prepare(self, records: str) -> None:
        """All DDL is within the transaction."""

    def begin(self, dataset: str, records: str) -> None:
        self.run(f"set local lock_timeout = '{WAIT}'")
        self.run("select pg_advisory_xact_lock(hashtextextended(?, 0))", [f"tidegate:{dataset}"])
        if not self.run("select 1 from pg_namespace where nspname = ?", [self._target.schema]):
            self.run(f"create schema if not exists {self.quoted(self._target.schema)}")
        if self.columns(self._target.schema, RECORDS) is None:
            # Writers of other datasets in this schema may be about to make it too.
            self.run("select pg_advisory_xact_lock(hashtextextended(?, 0))", [f"tidegate:{self._target.schema}"])
            self.run(_RECORDS.format(records))

    def commit(self) -> None:
        with _told(self._target):
            self._c.commit()

    def columns(self, schema: str, table: str) -> Schema | None:
        rows = self.run(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = to_regclass(?) and attnum > 0 and not attisdropped order by attnum",
            [self.quoted(schema, table)],
        )
        return tuple((name, kind) for name, kind in rows) or None

    def stage(self, frame: Any) -> Schema:
        columns = tuple((name, column_type(dtype)) for name, dtype in frame.schema.items())
        listed = ", ".join(f"{self.quoted(name)} {kind}" for name, kind in columns)
        self.run(f"create temporary table {INCOMING} ({listed}) on commit drop")
        with (
            _told(self._target),
            self._c.cursor() as cursor,
            cursor.copy(f"copy {INCOMING} from stdin".encode()) as copy,
        ):
            for row in copied(frame):
                copy.write_row(row)
        self.run(f"analyze {INCOMING}")
        return columns

    def frame(self, sql: str, values: Sequence[Any] = ()) -> Any:
        with _told(self._target), self._c.cursor(name="tidegate") as cursor:
            cursor.itersize = 20_000
            cursor.execute(sql.encode(), list(values) or None)
            return polars_frame(cursor)

    def quoted(self, *names: str) -> str:
        return ".".join('"' + name.replace('"', '""') + '"' for name in names)

    def size(self, schema: str, table: str) -> int | None:
        rows = self.run("select pg_total_relation_size(to_regclass(?))", [self.quoted(schema, table)])
        return None if rows[0][0] is None else int(rows[0][0])


def _connected(url: str, target: Target) -> "psycopg.Connection[Any]":
    import psycopg

    try:
        connection: psycopg.Connection[Any] = psycopg.connect(
            url,
            connect_timeout=_CONNECT,
            application_name="tidegate",
            prepare_threshold=None,
            options="-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres",
            keepalives_idle=30,
        )
    except psycopg.Error as error:
        # Connection strings may hold a password; what libpq says of them does not, but it is kept to one line.
        said = " ".join(str(error).split())
        raise TargetUnusable(f"{target.namespace} cannot be reached: {said}") from error
    return connection


@contextmanager
def _told(target: Target) -> Iterator[None]:
    """Turn what psycopg raises into the errors of writers."""
    import psycopg
    from psycopg import errors

    try:
        yield
    except (errors.LockNotAvailable, errors.SerializationFailure, errors.DeadlockDetected) as error:
        raise TargetBusy(f"{target.name} is being written by another: {error}") from error
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        raise WriteRefused(f"{target.name} does not take the rows: {error}") from error
    except psycopg.Error as error:
        raise TargetUnusable(f"{target.name} could not be used: {error}") from error


def _numbered(sql: str) -> str:
    """Return a statement with `?` outside of quoted names as `$1`, `$2`, …."""
    count = 0

    def number(found: "re.Match[str]") -> str:
        nonlocal count
        if found[0] != "?":
            return found[0]
        count += 1
        return f"${count}"

    return _PIECES.sub(number, sql)
