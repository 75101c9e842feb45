"""A dataset in a table of a database: data, columns and the record of the write are one transaction.

The table `_tidegate_writes` beside it remembers who wrote what under which fencing token. It is read under a lock in
the transaction that writes, so an older token or attempt is refused there, where no clock or pause can fool it. What a
database does in its own way is a `Session`; where its DDL ends transactions (Snowflake), columns are made before.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import orjson

from pipelines.datasets import ledger
from pipelines.datasets.columns import Fits, changes, plan_columns
from pipelines.datasets.combine import check_frame, moment, nulls_as_text, same_columns
from pipelines.datasets.single_file import left
from pipelines.datasets.target import Target
from pipelines.datasets.written import (
    COUNTS,
    Content,
    How,
    Judge,
    Look,
    Schema,
    Stamp,
    TargetUnusable,
    Written,
    schema_of,
)

RECORDS: Final = "_tidegate_writes"
INCOMING: Final = "_tidegate_incoming"
_COLUMNS: Final = "dataset, run, task, part, fence, attempt, mode, rows, columns, written_at, seq, resumes"


class Session(Protocol):
    """One connection for one write or read. Statements take `?` for values, and raise the errors of `written`."""

    transactional_ddl: bool
    moment_type: str
    text_type: str

    def run(self, sql: str, values: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        """Execute one statement; return its rows."""
        ...

    def prepare(self, records: str) -> None:
        """Make the schema, and the table of records, if they are not there."""
        ...

    def begin(self, dataset: str, records: str) -> None:
        """Begin a transaction, and wait for other writers of the dataset."""
        ...

    def commit(self) -> None:
        """Commit."""
        ...

    def columns(self, schema: str, table: str) -> Schema | None:
        """Return a table's columns with the database's own types; None when there is no such table."""
        ...

    def stage(self, frame: Any) -> Schema:
        """Load a Polars DataFrame into the temporary table `_tidegate_incoming`; return its columns."""
        ...

    def frame(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """Return a query's rows as a Polars DataFrame."""
        ...

    def quoted(self, *names: str) -> str:
        """Return an identifier, or several joined by dots."""
        ...

    def size(self, schema: str, table: str) -> int | None:
        """Return the bytes that a table takes, None when that is not known."""
        ...


Connect = Callable[[bool], AbstractContextManager[Session]]
"""Opens a session (`True`: to write)."""


class SqlTable:
    """One dataset in one table."""

    def __init__(self, target: Target, connect: Connect, fits: Fits, records_in: str) -> None:
        self._target = target
        self._connect = connect
        self._fits = fits
        self._records_in = records_in
        self._dataset = f"{target.schema}.{target.table}"

    def write(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        """Publish the frame as `how` says. Returns after the commit."""
        check_frame(frame, how, stamp, self._target.name)
        frame = nulls_as_text(frame)
        with self._connect(True) as session:
            records = session.quoted(self._records_in, RECORDS)
            session.prepare(records)
            write = _Write(session, self._target, records, frame, stamp, how)
            if not session.transactional_ddl:
                verdict = self._verdict(session, records, stamp, how, judge)
                if not verdict.skip:
                    write.make_ready(self._fits)
            session.begin(self._dataset, records)
            verdict = self._verdict(session, records, stamp, how, judge)
            if verdict.done is not None and verdict.skip:
                if verdict.done.run != stamp.run:  # ours from now on, for whoever resumes us
                    self._record(session, records, ledger.adopted([verdict.done], verdict.done, stamp)[0])
                session.commit()
                return left(verdict.done)
            if session.transactional_ddl:
                write.make_ready(self._fits)
            stamp.reached("dataset.staged")
            write.apply()
            record = ledger.record(stamp, how.mode, frame.height, write.schema(frame, verdict.schema), verdict.seq)
            self._record(session, records, record)
            stamp.reached("dataset.before_publish")
            session.commit()
            stamp.reached("dataset.published")
            differs = changes(verdict.schema, record.schema) if verdict.schema and write.there else write.changes
            return Written(frame.height, None, record.schema, record.version, differs, created=write.there is None)

    def read(self) -> Content:
        """Return all rows. Raises TargetUnusable when there is no such table."""
        with self._connect(False) as session:
            if session.columns(self._target.schema, self._target.table) is None:
                raise TargetUnusable(f"there is no table {self._target.name} to read; has the task that writes it run?")
            last = self._last(session)
            table = session.quoted(self._target.schema, self._target.table)
            frame = session.frame(f"select * from {table}")  # noqa: S608 - quoted
            return Content(frame, schema_of(frame), last.version if last else None)

    def look(self) -> Look | None:
        """Return what the table tells of itself; None when there is none."""
        with self._connect(False) as session:
            columns = session.columns(self._target.schema, self._target.table)
            if columns is None:
                return None
            last = self._last(session)
            table = session.quoted(self._target.schema, self._target.table)
            rows = int(session.run(f"select count(*) from {table}")[0][0])  # noqa: S608 - quoted
            size = session.size(self._target.schema, self._target.table)
            return Look(rows, size, last.schema if last else columns, last.version if last else None)

    def query(self, sql: str) -> Any:
        """Return the rows of somebody's query in this database, as a Polars DataFrame."""
        with self._connect(False) as session:
            return session.frame(sql)

    def close(self) -> None:
        """Nothing is held."""

    def _verdict(self, session: Session, records: str, stamp: Stamp, how: How, judge: Judge) -> ledger.Verdict:
        rows = session.run(
            f"select {_COLUMNS} from {records} where dataset = ? and (run in (?, ?) or resumes = ?)",  # noqa: S608
            [self._dataset, stamp.run, stamp.resumes, stamp.run],
        )
        rows = [
            *rows,
            *session.run(
                f"select {_COLUMNS} from {records} where dataset = ? and run not in (?, ?) and coalesce(resumes, '')"  # noqa: S608
                f" <> ? order by coalesce(seq, 0) desc, written_at desc limit {COUNTS}",
                [self._dataset, stamp.run, stamp.resumes, stamp.run],
            ),
        ]
        verdict = ledger.decide([_record(row) for row in rows], stamp, how.mode, self._target.name)
        judge(verdict.last)
        return verdict

    def _last(self, session: Session) -> ledger.Record | None:
        if session.columns(self._records_in, RECORDS) is None:
            return None
        rows = session.run(
            f"select {_COLUMNS} from {session.quoted(self._records_in, RECORDS)} where dataset = ?"  # noqa: S608
            " order by coalesce(seq, 0) desc, written_at desc limit 1",
            [self._dataset],
        )
        return _record(rows[0]) if rows else None

    def _record(self, session: Session, records: str, record: ledger.Record) -> None:
        """Note a write in place of the one that it repeats, and forget what is old, but for other runs' last one."""
        session.run(
            f"delete from {records} where dataset = ? and run in (?, ?) and task = ? and part = ?",  # noqa: S608
            [self._dataset, record.run, record.resumes or record.run, record.task, record.partition],
        )
        session.run(
            f"delete from {records} where dataset = ? and written_at < ? and coalesce(seq, 0) <"  # noqa: S608
            f" (select coalesce(max(seq), 0) from {records} where dataset = ? and run <> ?)",
            [self._dataset, record.at - ledger.KEEP, self._dataset, record.run],
        )
        session.run(
            f"insert into {records} ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            [
                self._dataset,
                record.run,
                record.task,
                record.partition,
                record.fence,
                record.attempt,
                record.mode,
                record.rows,
                orjson.dumps(record.schema).decode(),
                record.at,
                record.seq,
                record.resumes,
            ],
        )


class _Write:
    """One write within its session: columns made ready, then rows."""

    def __init__(self, session: Session, target: Target, records: str, frame: Any, stamp: Stamp, how: How) -> None:
        self._s = session
        self._target = target
        self._frame = frame
        self._stamp = stamp
        self._how = how
        self._table = session.quoted(target.schema, target.table)
        self._coming: Schema = ()
        self.there: Schema | None = None
        self.changes = changes(None, ())
        self._now: Schema = ()

    def make_ready(self, fits: Fits) -> None:
        """Load the rows aside, and give the table the columns that they need."""
        s, how = self._s, self._how
        self._coming = s.stage(self._frame)
        self.there = there = s.columns(self._target.schema, self._target.table)
        own = {how.deleted_at} if how.mode == "soft_delete" else set()
        free = how.schema == "free" and how.mode == "replace" and not how.partition_by
        if there is not None and free and s.transactional_ddl and not same_columns(there, self._coming):
            s.run(f"drop table {self._table}")
            there = None
        if there is None:
            columns = [*self._coming, *((name, s.moment_type) for name in own)]
            listed = ", ".join(f"{s.quoted(name)} {kind}" for name, kind in columns)
            s.run(f"create table {self._table} ({listed})")
            now = tuple(columns)
        else:
            policy = "evolve" if how.schema == "free" else how.schema
            known = tuple(column for column in there if column[0] not in own)
            plan = plan_columns(known, self._coming, policy, fits, self._target.name)
            missing = [(name, s.moment_type) for name in own - {name for name, _ in there}]
            for name, kind in (*plan.add, *missing):
                s.run(f"alter table {self._table} add column {s.quoted(name)} {kind}")
            now = (*there, *plan.add, *missing)
        self.changes = changes(self.there, now)
        self._now = now

    def schema(self, frame: Any, before: Schema) -> Schema:
        """Return the columns as they are recorded: as Polars tells them, or the database those that never came."""
        told = {**dict(before), **dict(schema_of(frame))}
        return tuple((name, told.get(name, kind)) for name, kind in self._now)

    def apply(self) -> None:
        """Bring the rows in, within the transaction."""
        how = self._how
        upsert = how.mode in ("merge", "soft_delete")
        if how.mode == "replace":
            self._clear()
        elif upsert:
            self._update()
        names = ", ".join(self._s.quoted(name) for name, _ in self._coming)
        values = ", ".join(self._value(name) for name, _ in self._coming)
        there = f"select 1 from {self._table} as t where {self._match('t')}"  # noqa: S608 - quoted
        beyond = f" where not exists ({there})" if upsert else ""
        self._s.run(f"insert into {self._table} ({names}) select {values} from {INCOMING} as i{beyond}")  # noqa: S608

    def _clear(self) -> None:
        """Delete what is replaced. Not `truncate`: readers go on seeing the old rows until the commit."""
        for where, values in self._slices() if self._how.partition_by else [("1 = 1", [])]:
            self._s.run(f"delete from {self._table} where {where}", values)  # noqa: S608 - quoted

    def _update(self) -> None:
        """Change the rows that are there; with `soft_delete`, mark those that are missing."""
        s, how = self._s, self._how
        sets = [f"{s.quoted(name)} = {self._value(name)}" for name, _ in self._coming if name not in how.key]
        if how.mode == "soft_delete":
            gone = s.quoted(how.deleted_at)
            sets.append(f"{gone} = null")
            missing = f"{gone} is null and not exists (select 1 from {INCOMING} as i where {self._match()})"  # noqa: S608
            for where, values in self._slices() if how.partition_by else [("1 = 1", [])]:
                s.run(
                    f"update {self._table} set {gone} = cast(? as {s.moment_type}) where {missing} and ({where})",  # noqa: S608
                    [moment(self._stamp.at).isoformat(), *values],
                )
        if sets:
            s.run(f"update {self._table} set {', '.join(sets)} from {INCOMING} as i where {self._match()}")  # noqa: S608

    def _value(self, name: str) -> str:
        """Return a column that comes, as the type that is there."""
        there, coming = dict(self._now)[name], dict(self._coming)[name]
        column = f"i.{self._s.quoted(name)}"
        return column if there == coming else f"cast({column} as {there})"

    def _match(self, alias: str = "") -> str:
        alias = alias or self._s.quoted(self._target.table)
        return " and ".join(f"{alias}.{name} = i.{name}" for name in map(self._s.quoted, self._how.key))

    def _slices(self) -> list[tuple[str, list[Any]]]:
        """Return conditions for the rows of the partitions that come, and of the run's own: together, the slice.

        They are simple on purpose: not every database takes correlated subqueries under `or`.
        """
        names = [self._s.quoted(name) for name in self._how.partition_by]
        if len(names) > 1:
            table = self._s.quoted(self._target.table)
            same = " and ".join(f"{table}.{name} is not distinct from i.{name}" for name in names)
            return [(f"exists (select 1 from {INCOMING} as i where {same})", [])]  # noqa: S608 - quoted
        (name,) = names
        slices: list[tuple[str, list[Any]]] = [
            (f"{name} in (select {name} from {INCOMING})", []),  # noqa: S608 - quoted
            (f"{name} is null and exists (select 1 from {INCOMING} where {name} is null)", []),  # noqa: S608 - quoted
        ]
        if self._stamp.partition:
            slices.append((f"cast({name} as {self._s.text_type}) = ?", [self._stamp.partition]))
        return slices


def _record(row: Sequence[Any]) -> ledger.Record:
    return ledger.Record(
        run=row[1],
        task=row[2],
        partition=row[3],
        fence=int(row[4]),
        attempt=int(row[5]),
        mode=row[6],
        rows=int(row[7]),
        schema=tuple((name, kind) for name, kind in orjson.loads(row[8])),
        at=int(row[9]),
        seq=int(row[10] or 0),
        resumes=row[11] or "",
    )
