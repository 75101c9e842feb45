"""The memory of a target: who wrote what under which fencing token; and what that means for the next write. Pure.

Every target keeps it where its own transaction or publish step covers it. A write is known by its run (or the run that
this one resumes), task and partition. What such a write has done is not done twice: an append never, anything else only
while it is still the last write of the dataset, so that a late repeat does not undo what others wrote since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pipelines.datasets.written import COUNTS, Last, Schema, StaleWrite, Stamp

KEEP: Final = 30 * 86_400_000_000  # microseconds that records are kept, but for the last ones of each dataset
MOST: Final = 1_000  # records that a file keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One write. `seq` orders the writes of a dataset; `at` is UTC microseconds."""

    run: str
    task: str
    partition: str
    fence: int
    attempt: int
    mode: str
    rows: int
    schema: Schema
    at: int
    seq: int
    resumes: str = ""

    @property
    def version(self) -> str:
        """Return how the write is named."""
        return f"{self.run}.{self.attempt}"

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            **{name: getattr(self, name) for name in self.__slots__ if name != "schema"},
            "schema": [list(column) for column in self.schema],
        }


def record_of(plain: Mapping[str, Any]) -> Record:
    """Read a record back; one of an older version lacks some fields."""
    known = {name: plain[name] for name in Record.__slots__ if name in plain}
    schema = tuple((str(name), str(kind)) for name, kind in plain["schema"])
    return Record(**{"mode": "replace", "seq": 0, **known, "schema": schema})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the memory says: the write that this one repeats, whether it is to be left at that, and what came before.

    `seq` is the number of the write to come, `schema` the columns that the last write of all recorded.
    """

    done: Record | None
    skip: bool
    last: Last | None
    seq: int
    schema: Schema = ()


def decide(records: Sequence[Record], stamp: Stamp, mode: str, dataset: str) -> Verdict:
    """Judge a write by the records of its dataset. Raises StaleWrite when a newer one of the same run has written.

    `records` holds at least those of the run, of the run it resumes, of runs that resume it, and the last ones.
    """
    done: Record | None = None
    for record in records:
        same = (record.task, record.partition) == (stamp.task, stamp.partition)
        if record.run == stamp.run:
            stamp.refuse_stale(dataset, record.fence, record.attempt if same else 0)
        elif record.resumes == stamp.run and same:
            raise StaleWrite(f"run {record.run}, which resumed this one, has written {dataset} already")
        if same and record.run in (stamp.run, stamp.resumes) and (done is None or record.seq > done.seq):
            done = record
    ordered = sorted(records, key=lambda record: (record.seq, record.at))
    others = [record for record in ordered if record.run not in (stamp.run, stamp.resumes or stamp.run)]
    skip = done is not None and (mode == "append" or ordered[-1] is not done)
    counts = tuple(record.rows for record in reversed(others[-COUNTS:]))
    last = Last(others[-1].rows, others[-1].schema, counts) if others else None
    return Verdict(done, skip, last, (ordered[-1].seq if ordered else 0) + 1, ordered[-1].schema if ordered else ())


def record(stamp: Stamp, mode: str, rows: int, schema: Schema, seq: int) -> Record:
    """Return the record of a write."""
    return Record(
        run=stamp.run,
        task=stamp.task,
        partition=stamp.partition,
        fence=stamp.fence,
        attempt=stamp.attempt,
        mode=mode,
        rows=rows,
        schema=schema,
        at=stamp.at,
        seq=seq,
        resumes=stamp.resumes,
    )


def remembered(records: Sequence[Record], new: Record) -> tuple[Record, ...]:
    """Return the memory after a write: what it repeats is replaced, what is old goes, but for other runs' last one."""
    kept = [old for old in records if (old.run, old.task, old.partition) != (new.run, new.task, new.partition)]
    others = [old.seq for old in kept if old.run != new.run]
    last = max(others, default=0)
    return (*(old for old in kept if old.at >= new.at - KEEP or (old.seq == last and old.run != new.run)), new)


def adopted(records: Sequence[Record], done: Record, stamp: Stamp) -> tuple[Record, ...]:
    """Return the memory with a write of the run that is resumed as one of the run that resumes it."""
    mine = replace(done, run=stamp.run, resumes=stamp.resumes, fence=stamp.fence, attempt=stamp.attempt)
    return tuple(mine if old is done else old for old in records)


def dump(records: Sequence[Record]) -> dict[str, Any]:
    """Return records as compact JSON values: schemas, which rarely change, stand there once."""
    schemas: list[Schema] = []
    lines = []
    for one in records[-MOST:]:
        if one.schema not in schemas:
            schemas.append(one.schema)
        plain = one.plain()
        plain["schema"] = schemas.index(one.schema)
        lines.append(plain)
    return {"schemas": [[list(column) for column in schema] for schema in schemas], "writes": lines}


def load(plain: Mapping[str, Any]) -> tuple[Record, ...]:
    """Read records back."""
    return tuple(record_of({**line, "schema": plain["schemas"][line["schema"]]}) for line in plain["writes"])
