"""A table of a DuckDB file. DuckDB lets one process at a time open a file for writing: others wait for it, in here."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipelines.datasets.sql_table import INCOMING, SqlTable
from pipelines.datasets.target import Target
from pipelines.datasets.written import Schema, TargetBusy, TargetUnusable

if TYPE_CHECKING:
    import duckdb

WAIT: Final = 60.0  # seconds to wait for a file that another process has open
# By another process; or by this one, which has it open in the other way or is closing it.
_IN_USE: Final = ("lock", "different configuration", "already attached")
_RECORDS: Final = (
    "create table if not exists {} ("
    "dataset varchar not null, run varchar not null, task varchar not null, part varchar not null,"
    " fence bigint not null, attempt integer not null, mode varchar not null,"
    " rows bigint not null, columns varchar not null, written_at bigint not null, seq bigint, resumes varchar)"
)
_INTEGERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
_NATURALS: Final = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")


def open_duckdb(
    target: Target,
    _connection: Mapping[str, Any] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> SqlTable:
    """Return the table; nothing is opened yet."""

    @contextmanager
    def connect(write: bool) -> Iterator[_DuckSession]:
        session = _DuckSession(_open(Path(target.place), write, sleep), target)
        try:
            yield session
        finally:
            session.close()

    return SqlTable(target, connect, fits, "main")


def fits(there: str, coming: str) -> bool:
    """Say whether values of one DuckDB type go into a column of another without loss."""
    if there == coming or (there == "VARCHAR" and coming.startswith("ENUM")):
        return True
    if coming in _INTEGERS:
        size = _INTEGERS.index(coming)
        return there in _INTEGERS[size:] or (there == "DOUBLE" and size < 3) or (there == "FLOAT" and size < 2)
    if coming in _NATURALS:
        size = _NATURALS.index(coming)
        return there in _NATURALS[size:] or there in _INTEGERS[size + 1 :] or (there == "DOUBLE" and size < 3)
    return (coming, there) in (("FLOAT", "DOUBLE"), ("TIMESTAMP", "TIMESTAMP_NS"), ("TIME", "TIME_NS"))


class _DuckSession:
    """One connection."""

    transactional_ddl = True
    moment_type = "TIMESTAMP WITH TIME ZONE"
    text_type = "VARCHAR"

    def __init__(self, connection: "duckdb.DuckDBPyConnection", target: Target) -> None:
        self._c = connection
        self._target = target
        self.run("set timezone = 'UTC'")

    def run(self, sql: str, values: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        with _told(self._target):
            return self._c.execute(sql, list(values)).fetchall()

    def prepare(self, records: str) -> None:
        """All DDL is within the transaction."""

    def begin(self, dataset: str, records: str) -> None:
        self.run("begin transaction")
        self.run(f"create schema if not exists {self.quoted(self._target.schema)}")
        self.run(_RECORDS.format(records))
        known = dict(self.columns("main", "_tidegate_writes") or ())
        for name, kind in (("seq", "bigint"), ("resumes", "varchar")):  # an older version's table has neither
            if name not in known:
                self.run(f"alter table {records} add column {name} {kind}")

    def commit(self) -> None:
        self.run("commit")

    def columns(self, schema: str, table: str) -> Schema | None:
        rows = self.run(
            "select column_name, data_type from duckdb_columns() where database_name = current_database()"
            " and schema_name = ? and table_name = ? order by column_index",
            [schema, table],
        )
        return tuple((name, kind) for name, kind in rows) or None

    def stage(self, frame: Any) -> Schema:
        with _told(self._target):
            self._c.register("_tidegate_arriving", _Stream(frame))
            self._c.execute(f"create or replace temporary table {INCOMING} as from _tidegate_arriving")
            self._c.unregister("_tidegate_arriving")
        return tuple((row[0], row[1]) for row in self.run(f"describe {INCOMING}"))

    def frame(self, sql: str, values: Sequence[Any] = ()) -> Any:
        import polars as pl

        with _told(self._target):
            relation = self._c.sql(sql, params=list(values)) if values else self._c.sql(sql)
            spans = [
                name for name, kind in zip(relation.columns, relation.types, strict=True) if str(kind) == "INTERVAL"
            ]
            if spans:  # Arrow's intervals of months, days and nanoseconds are not Polars' durations
                inner = ", ".join(f"epoch_us({self.quoted(name)}) as {self.quoted(name)}" for name in spans)
                relation = relation.project(f"* replace ({inner})")
            # The relation's own stream leaves types behind that the library complains of when the process ends.
            reader = getattr(relation, "to_arrow_reader", None)
            frame = pl.DataFrame(relation if reader is None else reader())
        return frame.with_columns(pl.col(name).cast(pl.Duration("us")) for name in spans)

    def quoted(self, *names: str) -> str:
        return ".".join('"' + name.replace('"', '""') + '"' for name in names)

    def size(self, schema: str, table: str) -> int | None:
        return None

    def close(self) -> None:
        """Close; a transaction that was not committed is undone."""
        self._c.close()


@contextmanager
def _told(target: Target) -> Iterator[None]:
    """Turn what DuckDB raises into the errors of writers."""
    import duckdb

    try:
        yield
    except duckdb.TransactionException as error:
        raise TargetBusy(f"{target.name} was changed by another writer meanwhile: {error}") from error
    except duckdb.Error as error:
        raise TargetUnusable(f"{target.name} could not be used: {error}") from error


def _open(path: Path, write: bool, sleep: Callable[[float], None]) -> "duckdb.DuckDBPyConnection":
    """Open the file, waiting for another process that writes to it."""
    import duckdb

    if write:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise TargetUnusable(f"there is no {path} to read; has the task that writes it run?")
    waited, pause = 0.0, 0.01
    while True:
        try:
            return duckdb.connect(str(path), read_only=not write)
        except duckdb.Error as error:
            if not any(word in str(error) for word in _IN_USE):
                raise TargetUnusable(f"{path} cannot be opened: {error}") from error
            if waited >= WAIT:
                raise TargetBusy(f"{path} was in use for {WAIT:.0f} s: {error}") from error
            sleep(pause)
            waited += pause
            pause = min(pause * 1.5, 0.25)


class _Stream:
    """A DataFrame as nothing but an Arrow stream: DuckDB then reads it without pyarrow."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)
