"""Writes a DataFrame into a table of a DuckDB file: checks, data and the record of the write are one transaction.

The table `_tidegate_writes` in the same file remembers who wrote what with which fencing token. An older token, or an
older attempt of the same run, is refused there, where no clock or pause can fool it; an append that the record shows as
done is not done twice. DuckDB lets one process at a time open a file for writing: others wait for it, in here.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from pipelines.datasets.target import Target
from pipelines.datasets.written import COUNTS, Judge, Last, Stamp, TargetBusy, TargetUnusable, Written, schema_of

if TYPE_CHECKING:
    import duckdb

WAIT = 60.0
_KEEP = 30 * 86_400_000_000  # microseconds that records are kept, but for the last of each dataset
_RECORDS = """
create table if not exists main._tidegate_writes (
    dataset varchar not null, run varchar not null, task varchar not null, part varchar not null,
    fence bigint not null, attempt integer not null, mode varchar not null,
    rows bigint not null, columns varchar not null, written_at bigint not null
)
"""

_FORGET = """
delete from main._tidegate_writes as old where dataset = $1 and (
    (run = $2 and task = $3 and part = $4)
    or (written_at < $5 and exists (
        from main._tidegate_writes as new where new.dataset = $1 and new.run <> $2 and new.written_at > old.written_at
    ))
)
"""


def write_table(
    target: Target,
    frame: Any,
    stamp: Stamp,
    mode: str,
    judge: Judge,
    sleep: Callable[[float], None] = time.sleep,
) -> Written:
    """Replace or extend (`mode` replace, append) the table by a Polars DataFrame. Returns after the commit.

    Raises what `judge` raises, StaleWrite, TargetBusy, or TargetUnusable.
    """
    import duckdb

    if frame.width == 0:
        raise TargetUnusable("a DataFrame without columns cannot become a table; return one with columns")
    connection = _open(target, sleep)
    try:
        connection.execute("begin transaction")
        connection.execute(_RECORDS)
        dataset = f"{target.schema}.{target.table}"
        done = _outranked(connection, dataset, stamp)
        found = connection.execute(
            "select rows, columns from main._tidegate_writes where dataset = ? and run <> ? "
            "order by written_at desc limit ?",
            [dataset, stamp.run, COUNTS],
        ).fetchall()
        judge(_last(found))
        schema = schema_of(frame)
        if mode == "replace" or not done:
            _publish(connection, target, frame, mode)
            connection.execute(_FORGET, [dataset, stamp.run, stamp.task, stamp.partition, stamp.at - _KEEP])
            connection.execute(
                "insert into main._tidegate_writes values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    dataset,
                    stamp.run,
                    stamp.task,
                    stamp.partition,
                    stamp.fence,
                    stamp.attempt,
                    mode,
                    frame.height,
                    orjson.dumps(schema).decode(),
                    stamp.at,
                ],
            )
        connection.execute("commit")
    except duckdb.TransactionException as error:
        raise TargetBusy(f"{target.name} was changed by another writer meanwhile: {error}") from error
    except duckdb.Error as error:
        raise TargetUnusable(f"{target.name} could not be written: {error}") from error
    finally:
        connection.close()
    return Written(frame.height, None, schema, f"{stamp.run}.{stamp.attempt}")


def _last(found: list[tuple[int, str]]) -> Last | None:
    """Return what checks compare with, of rows and columns of earlier writes."""
    if not found:
        return None
    schema = tuple((name, kind) for name, kind in orjson.loads(found[0][1]))
    return Last(found[0][0], schema, tuple(rows for rows, _ in found))


def _open(target: Target, sleep: Callable[[float], None]) -> "duckdb.DuckDBPyConnection":
    """Open the file for writing, waiting for another process that has it."""
    import duckdb

    target.path.parent.mkdir(parents=True, exist_ok=True)
    waited, pause = 0.0, 0.01
    while True:
        try:
            return duckdb.connect(str(target.path))
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise TargetUnusable(f"{target.path} cannot be opened: {error}") from error
            if waited >= WAIT:
                raise TargetBusy(f"{target.path} was in use by another process for {WAIT:.0f} s: {error}") from error
            sleep(pause)
            waited += pause
            pause = min(pause * 1.5, 0.25)
        except duckdb.Error as error:
            raise TargetUnusable(f"{target.path} cannot be opened: {error}") from error


def _outranked(connection: "duckdb.DuckDBPyConnection", dataset: str, stamp: Stamp) -> bool:
    """Say whether this run's task has written already; raise StaleWrite when somebody newer of this run has."""
    rows = connection.execute(
        "select fence, attempt, task = ? and part = ? from main._tidegate_writes where dataset = ? and run = ?",
        [stamp.task, stamp.partition, dataset, stamp.run],
    ).fetchall()
    for fence, attempt, same in rows:
        stamp.refuse_stale(dataset, fence, attempt if same else 0)
    return any(same for _, _, same in rows)


class _Stream:
    """A DataFrame as nothing but an Arrow stream: DuckDB then reads it without pyarrow."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def _publish(connection: "duckdb.DuckDBPyConnection", target: Target, frame: Any, mode: str) -> None:
    import polars as pl

    schema, table = _quoted(target.schema), _quoted(target.table)
    empty = pl.selectors.by_dtype(pl.Null)
    connection.register("_tidegate_incoming", _Stream(frame.with_columns(empty.cast(pl.String))))
    connection.execute(f"create schema if not exists {schema}")
    name = f"{schema}.{table}"
    if mode == "replace":
        connection.execute(f"create or replace table {name} as from _tidegate_incoming")
    else:
        connection.execute(f"create table if not exists {name} as from _tidegate_incoming limit 0")
        connection.execute(f"insert into {name} by name from _tidegate_incoming")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
