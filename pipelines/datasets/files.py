"""Writes a DataFrame as a Parquet or CSV file: readers see the old file or the new one, never a part.

The new file is written beside the old one, synced, and renamed over it under a lock of its own. A hidden file beside it
remembers the last writes (rows, columns, fencing token); an older token or attempt of the same run is refused.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from pipelines.datasets.target import Target
from pipelines.datasets.written import Judge, Last, Stamp, TargetUnusable, Written, schema_of

_REMEMBERED = 20


def write_file(target: Target, frame: Any, stamp: Stamp, judge: Judge) -> Written:
    """Write the file of a Polars DataFrame. Returns when it is durable under its name.

    Raises what `judge` raises, StaleWrite, or TargetUnusable.
    """
    path = target.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(f".{path.name}.lock")):
            memory = path.with_name(f".{path.name}.writes.json")
            records = _recall(memory)
            for record in records:
                if record["run"] == stamp.run:
                    stamp.refuse_stale(str(path), record["fence"], record["attempt"] if _same(record, stamp) else 0)
            others = [record for record in records if record["run"] != stamp.run]
            judge(_last(others))
            schema = schema_of(frame)
            record = {
                "run": stamp.run,
                "fence": stamp.fence,
                "task": stamp.task,
                "partition": stamp.partition,
                "attempt": stamp.attempt,
                "rows": frame.height,
                "schema": schema,
                "at": stamp.at,
            }
            records = [*(old for old in records if not _same(old, stamp)), record][-_REMEMBERED:]
            temporary = path.with_name(f".{path.name}.{stamp.run}.{stamp.attempt}.tmp")
            try:
                _write(target.scheme, frame, temporary)
                size = temporary.stat().st_size
                # The record first: after a crash in between, a stale attempt is refused all the more.
                _replace(memory, orjson.dumps(records))
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync(path.parent)
    except OSError as error:
        raise TargetUnusable(f"{path} could not be written: {error}") from error
    return Written(frame.height, size, schema, f"{stamp.run}.{stamp.attempt}")


def _last(others: list[Any]) -> Last | None:
    """Return what checks compare with, of records of earlier writes."""
    if not others:
        return None
    schema = tuple((name, kind) for name, kind in others[-1]["schema"])
    return Last(others[-1]["rows"], schema, tuple(record["rows"] for record in reversed(others)))


def _write(scheme: str, frame: Any, path: Path) -> None:
    import polars as pl

    try:
        if scheme == "parquet":
            frame.write_parquet(path)
        else:
            frame.write_csv(path)
    except pl.exceptions.PolarsError as error:
        raise TargetUnusable(f"the DataFrame cannot be written as {scheme}: {error}") from error
    _sync(path)


def _same(record: Any, stamp: Stamp) -> bool:
    return bool(
        (record["run"], record["task"], record["partition"]) == (stamp.run, stamp.task, stamp.partition),
    )


def _recall(memory: Path) -> list[Any]:
    with suppress(FileNotFoundError):
        try:
            return list(orjson.loads(memory.read_bytes()))
        except ValueError as error:
            raise TargetUnusable(f"{memory} is damaged ({error}); remove it to forget former writes") from error
    return []


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(data)
    _sync(temporary)
    temporary.replace(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process; wait for whoever has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
