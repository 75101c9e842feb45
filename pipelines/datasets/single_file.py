"""A dataset in one file: readers see the old file or the new one, never a part.

A Parquet file carries the memory of its writes in its footer: rows and memory are published in one step, so every
disposition works, by reading what is there and publishing what it becomes. CSV and JSON have no place for a memory: it
lies in a hidden file beside them, which is published first. After a crash in between, a stale attempt is refused all
the more, and the write is simply done again; therefore such files can be replaced, and nothing else.
"""

import random
import time
from collections.abc import Callable
from typing import Any, Final

import orjson

from pipelines.datasets import ledger
from pipelines.datasets.columns import changes, plan_columns
from pipelines.datasets.combine import check_frame, combined, fits, with_empty
from pipelines.datasets.formats import TAIL, decoded, encoded, footer, footer_size
from pipelines.datasets.places import Files, Moved
from pipelines.datasets.target import Target
from pipelines.datasets.written import (
    Content,
    How,
    Judge,
    Look,
    Stamp,
    TargetBusy,
    TargetUnusable,
    WriteRefused,
    Written,
    schema_of,
)

TRIES: Final = 40
_Memory = tuple[ledger.Record, ...]


def insist(name: str, attempt: Callable[[], Written], sleep: Callable[[float], None]) -> Written:
    """Try until nobody else has published meanwhile. Raises TargetBusy when that never happens."""
    pause = 0.01
    for _ in range(TRIES):
        try:
            return attempt()
        except Moved:
            sleep(pause * (0.5 + random.random() / 2))
            pause = min(pause * 1.5, 1.0)
    raise TargetBusy(f"{name} was changed by others {TRIES} times while it was being written; try again later")


def left(done: ledger.Record) -> Written:
    """Answer for a write that was done before, as it was recorded."""
    return Written(done.rows, None, done.schema, done.version, repeated=True)


class SingleFile:
    """One dataset in one file."""

    def __init__(self, target: Target, files: Files, sleep: Callable[[float], None] = time.sleep) -> None:
        self._target = target
        self._files = files
        self._sleep = sleep
        self._name = files.shown(target.path)

    def write(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        """Publish the frame as `how` says. Returns when it is durable under its name."""
        check_frame(frame, how, stamp, self._name)
        if self._target.format == "parquet":
            return insist(self._name, lambda: self._parquet(frame, stamp, how, judge), self._sleep)
        if how.mode != "replace" or how.partition_by:
            raise WriteRefused(
                f"{self._name} can only be replaced as a whole: {self._target.format} has no place for the memory of "
                "its writes. Name a Parquet file, a folder (a slash at the end), or a database"
            )
        return insist(self._name, lambda: self._beside(frame, stamp, how, judge), self._sleep)

    def read(self) -> Content:
        """Return the whole content. Raises TargetUnusable when there is none."""
        found = self._files.fetch(self._target.path)
        if found is None:
            raise TargetUnusable(f"there is no {self._name} to read; has the task that writes it run?")
        frame = decoded(found[0], self._target.format, self._name)
        memory = self._memory_in(found[0]) if self._target.format == "parquet" else self._memory_beside()[0]
        return Content(frame, schema_of(frame), memory[-1].version if memory else None, len(found[0]))

    def look(self) -> Look | None:
        """Return what the file tells of itself; None when there is none."""
        if self._target.format != "parquet":
            found = self._files.tail(self._target.path, 1)
            memory = self._memory_beside()[0]
            last = memory[-1] if memory else None
            if found is None:
                return None
            if last is None:
                return Look(None, found[2], (), None)
            return Look(last.rows, found[2], last.schema, last.version)
        ended = self._end()
        if ended is None:
            return None
        tail, _, size = ended
        told, rows, arrow = footer(tail, self._name)
        memory = ledger.load(told) if told else ()
        schema = memory[-1].schema if memory else tuple((field.name, str(field.type)) for field in arrow)
        return Look(rows, size, schema, memory[-1].version if memory else None)

    def close(self) -> None:
        """Let go of connections."""
        self._files.close()

    def _parquet(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        whole = how.schema == "free" and how.mode == "replace" and not how.partition_by
        old: Any = None
        if whole:
            ended = self._end()
            tag = None if ended is None else ended[1]
            told = None if ended is None else footer(ended[0], self._name)[0]
            memory = ledger.load(told) if told else ()
        else:
            found = self._files.fetch(self._target.path)
            tag = None if found is None else found[1]
            memory = () if found is None else self._memory_in(found[0])
            old = None if found is None else decoded(found[0], "parquet", self._name)
        verdict = ledger.decide(memory, stamp, how.mode, self._name)
        judge(verdict.last)
        if verdict.done is not None and verdict.skip:
            if old is not None and verdict.done.run != stamp.run:  # ours from now on, for whoever resumes us
                data = encoded(old, "parquet", _dumped(ledger.adopted(memory, verdict.done, stamp)))
                self._files.swap(self._target.path, data, tag)
            return left(verdict.done)
        result = combined(old, frame, how, stamp, self._name)
        schema = schema_of(result)
        record = ledger.record(stamp, how.mode, frame.height, schema, verdict.seq)
        data = encoded(result, "parquet", _dumped(ledger.remembered(memory, record)))
        stamp.reached("dataset.staged")
        stamp.reached("dataset.before_publish")
        self._files.swap(self._target.path, data, tag)
        stamp.reached("dataset.published")
        before = schema_of(old) if old is not None else memory[-1].schema if memory else None
        return Written(frame.height, len(data), schema, record.version, changes(before, schema), created=tag is None)

    def _beside(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        found = self._files.tail(self._target.path, 1)
        memory, tag = self._memory_beside()
        verdict = ledger.decide(memory, stamp, how.mode, self._name)
        judge(verdict.last)
        if verdict.done is not None and verdict.skip and found is not None:
            return left(verdict.done)
        before = memory[-1].schema if memory else None
        result = combined(None, frame, how, stamp, self._name)
        schema = schema_of(result)
        if how.schema != "free" and before is not None:
            plan = plan_columns(before, schema, how.schema, fits, self._name)
            result = with_empty(result, plan.absent)
            schema = (*schema, *((name, dict(before)[name]) for name in plan.absent))
        record = ledger.record(stamp, how.mode, frame.height, schema, verdict.seq)
        data = encoded(result, self._target.format)
        stamp.reached("dataset.staged")
        self._files.swap(self._beside_path(), _dumped(ledger.remembered(memory, record)), tag)
        stamp.reached("dataset.before_publish")
        self._files.swap(self._target.path, data, None if found is None else found[1])
        stamp.reached("dataset.published")
        return Written(frame.height, len(data), schema, record.version, changes(before, schema), created=found is None)

    def _end(self) -> tuple[bytes, str, int] | None:
        """Return the end of a Parquet file with all of its footer, its tag and its length."""
        found = self._files.tail(self._target.path, TAIL)
        if found is None:
            return None
        size = footer_size(found[0], self._name)
        if size <= len(found[0]):
            return found
        return self._files.tail(self._target.path, size + 4)

    def _memory_in(self, data: bytes) -> _Memory:
        told = footer(data[-max(footer_size(data[-TAIL:], self._name) + 4, 16) :], self._name)[0]
        return ledger.load(told) if told else ()

    def _memory_beside(self) -> tuple[_Memory, str | None]:
        path = self._beside_path()
        found = self._files.fetch(path)
        if found is None:
            return (), None
        try:
            told = orjson.loads(found[0])
            # A list is what an older version wrote.
            return (tuple(map(ledger.record_of, told)) if isinstance(told, list) else ledger.load(told)), found[1]
        except (ValueError, KeyError, TypeError) as error:
            raise TargetUnusable(
                f"{self._files.shown(path)} is damaged ({error!r}); remove it to forget former writes"
            ) from error

    def _beside_path(self) -> str:
        folder, slash, name = self._target.path.rpartition("/")
        return f"{folder}{slash}.{name}.writes.json"


def _dumped(memory: _Memory) -> bytes:
    return orjson.dumps(ledger.dump(memory))
