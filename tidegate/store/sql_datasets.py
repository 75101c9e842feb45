"""Queries about datasets: what was written last, and the history of one."""

from collections.abc import Sequence
from typing import Any

import orjson

from tidegate.store import pages
from tidegate.store.reader import Row
from tidegate.store.session import Session
from tidegate.store.where import Where

Page = tuple[Sequence[Row], str | None]
_DATASET = (
    *("namespace", "name", "run", "task", "at", "mode", "rows", "bytes", "schema", "version"),
    *("dataset", "disposition", "partition", "changes"),
)


class DatasetReader:
    """Queries about what tasks wrote and read."""

    _s: Session

    def datasets(self, *, limit: int, cursor: str | None = None) -> Page:
        place = pages.decode(cursor, str, str)
        where = Where()
        if place is not None:
            where.add("(namespace, name) > (?, ?)", *place)
        rows = self._s.select(
            f"SELECT {', '.join(_DATASET)} FROM datasets{where.sql} ORDER BY namespace, name LIMIT ?",
            *where.values,
            limit + 1,
        )
        rows, after = pages.page(rows, limit, [row[:2] for row in rows])
        return [_dataset(row) for row in rows], after

    def dataset(self, name: str, namespace: str | None = None) -> Sequence[Row]:
        for column in ("dataset", "name"):
            where = Where()
            where.add(f"{column} = ?", name)
            where.add("namespace = ?", namespace)
            rows = self._s.select(
                f"SELECT {', '.join(_DATASET)} FROM datasets{where.sql} ORDER BY at DESC, namespace, name",
                *where.values,
            )
            if rows:
                return [_dataset(row) for row in rows]
        return []

    def dataset_writes(self, namespace: str, name: str, *, limit: int, cursor: str | None = None) -> Page:
        place = pages.decode(cursor, int)
        where = Where()
        where.add("namespace = ?", namespace)
        where.add("name = ?", name)
        if place is not None:
            where.add("seq < ?", place[0])
        rows = self._s.select(
            f"SELECT {', '.join(_DATASET)}, seq FROM dataset_writes{where.sql} ORDER BY seq DESC LIMIT ?",
            *where.values,
            limit + 1,
        )
        rows, after = pages.page(rows, limit, [row[-1:] for row in rows])
        return [_dataset(row[:-1]) for row in rows], after


def _dataset(row: Sequence[Any]) -> Row:
    out = dict(zip(_DATASET, row, strict=True))
    schema = out["schema"]
    out["schema"] = [] if schema is None else orjson.loads(schema).get("fields", [])
    out["changes"] = {} if out["changes"] is None else orjson.loads(out["changes"])
    return out
