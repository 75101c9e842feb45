"""A dataset in a folder: immutable Parquet files, and a manifest that says which of them are the dataset now.

    orders/_manifest.json                                  the publish step: replaced as a whole, on condition
    orders/part-run_…-3-1-9f2c41aa-0.parquet               a part: written once, never changed
    orders/day=2026-01-31/part-….parquet                   with `partition_by: [day]`

A write puts its parts first, then publishes a manifest that names them, on the condition that nobody published
meanwhile: readers of the manifest see all of a write or nothing. Other tools read the files that `files` lists; a plain
glob (`orders/**/*.parquet`) is as good only while all writes append one part. Parts that a newer manifest no longer
names stay for an hour, for readers under way; parts that no manifest ever named (their writer died) go with them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from secrets import token_hex
from typing import Any, Final
from urllib.parse import quote

import orjson

from pipelines.datasets import ledger
from pipelines.datasets.columns import changes, plan_columns
from pipelines.datasets.combine import check_frame, combined, fits, partitions
from pipelines.datasets.formats import decoded, encoded
from pipelines.datasets.places import Files
from pipelines.datasets.single_file import insist, left
from pipelines.datasets.target import Target
from pipelines.datasets.written import (
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

MANIFEST: Final = "_manifest.json"
LINGER: Final = 3_600_000_000  # microseconds that parts stay after no manifest names them any more
_READS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file: its path below the folder, rows, bytes, and the values of the partition columns as text."""

    path: str
    rows: int
    bytes: int
    values: Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the dataset is now: parts, columns, and the memory of its writes."""

    parts: tuple[Part, ...] = ()
    schema: Schema = ()
    memory: tuple[ledger.Record, ...] = ()
    swept: int = 0  # UTC microseconds at which left-over parts were last removed


class Folder:
    """One dataset in one folder."""

    def __init__(self, target: Target, files: Files, sleep: Callable[[float], None] = time.sleep) -> None:
        self._folder = target.path
        self._files = files
        self._sleep = sleep
        self._name = files.shown(target.path)

    def write(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        """Publish the frame as `how` says. Returns when the manifest is durable."""
        check_frame(frame, how, stamp, self._name)
        return insist(self._name, lambda: self._once(frame, stamp, how, judge), self._sleep)

    def read(self) -> Content:
        """Return the rows of the last published manifest. Raises TargetUnusable when there is none."""
        for _ in range(_READS):
            manifest, tag = self._manifest()
            if tag is None:
                raise TargetUnusable(f"there is no dataset in {self._name}; has the task that writes it run?")
            frame = self._frame(manifest.parts)
            if frame is not None:
                version = manifest.memory[-1].version if manifest.memory else None
                return Content(frame, manifest.schema, version, sum(part.bytes for part in manifest.parts))
        raise TargetUnusable(f"parts of {self._name} are missing; restore them, or write the dataset anew")

    def look(self) -> Look | None:
        """Return what the manifest tells; None when there is none."""
        manifest, tag = self._manifest()
        if tag is None:
            return None
        rows, size = sum(part.rows for part in manifest.parts), sum(part.bytes for part in manifest.parts)
        return Look(rows, size, manifest.schema, manifest.memory[-1].version if manifest.memory else None)

    def close(self) -> None:
        """Let go of connections."""
        self._files.close()

    def _once(self, frame: Any, stamp: Stamp, how: How, judge: Judge) -> Written:
        manifest, tag = self._manifest()
        verdict = ledger.decide(manifest.memory, stamp, how.mode, self._name)
        judge(verdict.last)
        if verdict.done is not None and verdict.skip:
            if verdict.done.run != stamp.run:  # ours from now on, for whoever resumes us
                memory = ledger.adopted(manifest.memory, verdict.done, stamp)
                self._publish(replace(manifest, memory=memory), tag)
            return left(verdict.done)
        kept, result = self._result(manifest, frame, stamp, how)
        made = self._put(result, stamp, how)
        schema = _schema(manifest, how, schema_of(result))
        stamp.reached("dataset.staged")
        record = ledger.record(stamp, how.mode, frame.height, schema, verdict.seq)
        sweep = stamp.at - manifest.swept >= LINGER
        new = Manifest(
            parts=(*kept, *made),
            schema=schema,
            memory=ledger.remembered(manifest.memory, record),
            swept=stamp.at if sweep else manifest.swept,
        )
        stamp.reached("dataset.before_publish")
        self._publish(new, tag)
        stamp.reached("dataset.published")
        if sweep:
            self._sweep((*manifest.parts, *new.parts), stamp.at)
        size = sum(part.bytes for part in made)
        before = manifest.schema if tag is not None else None
        return Written(frame.height, size, schema, record.version, changes(before, schema), created=tag is None)

    def _result(self, manifest: Manifest, frame: Any, stamp: Stamp, how: How) -> tuple[tuple[Part, ...], Any]:
        """Return the parts that stay as they are, and the rows for which new ones are written."""
        if manifest.schema and how.mode in ("append", "replace") and (how.mode == "append" or how.partition_by):
            plan_columns(manifest.schema, schema_of(frame), how.schema, fits, self._name)
        if how.mode == "append" and manifest.schema:
            return manifest.parts, self._aligned(manifest, frame, how, stamp)
        if how.mode == "replace" and how.partition_by and manifest.schema:
            coming = [dict(values) for values, _ in partitions(frame, how.partition_by)]
            if stamp.partition and len(how.partition_by) == 1:
                coming.append({how.partition_by[0]: stamp.partition})
            if all(set(part.values) == set(how.partition_by) for part in manifest.parts):
                kept = tuple(part for part in manifest.parts if part.values not in coming)
                return kept, self._aligned(manifest, frame, how, stamp)
        if how.mode == "replace" and how.schema == "free" and not how.partition_by:
            return (), combined(None, frame, how, stamp, self._name)
        old = self._frame(manifest.parts) if manifest.schema else None
        if old is None and manifest.schema:
            raise TargetUnusable(f"parts of {self._name} are missing; restore them, or write the dataset anew")
        return (), combined(old, frame, how, stamp, self._name)

    def _aligned(self, manifest: Manifest, frame: Any, how: How, stamp: Stamp) -> Any:
        """Return the new rows with the types that the dataset has; no old row is read but those of one part."""
        sample = self._frame(manifest.parts[-1:])
        if sample is None or not manifest.parts:
            return combined(None, frame, how, stamp, self._name)
        whole = replace(how, mode="append") if how.mode != "append" else how
        return combined(sample.clear(), frame, whole, stamp, self._name)

    def _put(self, frame: Any, stamp: Stamp, how: How) -> tuple[Part, ...]:
        """Write the parts, under names that no other attempt, holder or try uses."""
        split = partitions(frame, how.partition_by) if how.partition_by else [({}, frame)]
        unique = token_hex(6)
        made = []
        for number, (values, rows) in enumerate(split):
            folder = "".join(f"{quote(name, safe='')}={_folder_name(value)}/" for name, value in values.items())
            path = f"{folder}part-{stamp.run}-{stamp.fence}-{stamp.attempt}-{unique}-{number}.parquet"
            data = encoded(rows, "parquet")
            self._files.put(self._folder + path, data)
            made.append(Part(path=path, rows=rows.height, bytes=len(data), values=values))
        return tuple(made)

    def _frame(self, parts: Sequence[Part]) -> Any | None:
        """Return the rows of parts; None when one of them is gone (a newer manifest says what there is)."""
        import polars as pl

        frames = []
        for part in parts:
            found = self._files.fetch(self._folder + part.path)
            if found is None:
                return None
            frames.append(decoded(found[0], "parquet", self._files.shown(self._folder + part.path)))
        return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()

    def _manifest(self) -> tuple[Manifest, str | None]:
        found = self._files.fetch(self._folder + MANIFEST)
        if found is None:
            return Manifest(), None
        try:
            told = orjson.loads(found[0])
            return Manifest(
                parts=tuple(Part(**part) for part in told["parts"]),
                schema=tuple((name, kind) for name, kind in told["schema"]),
                memory=ledger.load(told["memory"]),
                swept=told["swept"],
            ), found[1]
        except (ValueError, KeyError, TypeError) as error:
            raise TargetUnusable(
                f"{self._files.shown(self._folder + MANIFEST)} is damaged ({error!r}); restore it, or empty the folder"
            ) from error

    def _publish(self, manifest: Manifest, tag: str | None) -> None:
        told = {
            "files": [self._files.shown(self._folder + part.path) for part in manifest.parts],
            "schema": [list(column) for column in manifest.schema],
            "parts": [
                {"path": part.path, "rows": part.rows, "bytes": part.bytes, "values": dict(part.values)}
                for part in manifest.parts
            ],
            "memory": ledger.dump(manifest.memory),
            "swept": manifest.swept,
        }
        self._files.swap(self._folder + MANIFEST, orjson.dumps(told, option=orjson.OPT_INDENT_2), tag)

    def _sweep(self, named: Sequence[Part], now: int) -> None:
        """Remove parts that no manifest names and that nobody reads any more."""
        keep = {self._folder + part.path for part in named}
        self._files.remove(
            [
                path
                for path, changed in self._files.names(self._folder).items()
                if path not in keep
                and path.endswith(".parquet")
                and path.rpartition("/")[2].startswith("part-")
                and changed < now - LINGER
            ]
        )


def _folder_name(value: str | None) -> str:
    return "__HIVE_DEFAULT_PARTITION__" if value is None else quote(value, safe=" ") or "__EMPTY__"


def _schema(manifest: Manifest, how: How, made: Schema) -> Schema:
    """Return the dataset's columns after a write: those of its new rows, and of the parts that stay."""
    if how.mode == "replace" and how.schema == "free" and not how.partition_by:
        return made
    names = {name for name, _ in manifest.schema}
    return (*manifest.schema, *(column for column in made if column[0] not in names))
