"""What is watched by the clock, and what checks found, in SQL for both databases."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tidegate.store.session import Session, json_rows
from tidegate.store.watch_port import LAST_RUNS, USUAL, USUAL_OF, DatasetName, Row, RunOf

_CHECK = "run, name, task, dataset, passed, severity, message, at, expected, actual, sample"
_LABELS = ("run", "check", "task", "dataset", "passed", "severity", "message", "at", "expected", "actual", "sample")
_LATEST = 200  # results of a dataset among which the latest of each check are looked for


class WatchSql:
    """Methods of `Tx` for what is watched."""

    _s: Session

    def written_at(self, datasets: Sequence[DatasetName]) -> Mapping[DatasetName, int]:
        rows = self._s.select(
            "SELECT d.namespace, d.name, d.at FROM PAIRS(?) AS k JOIN datasets AS d"
            " ON d.namespace = k.a AND d.name = k.b WHERE d.mode <> 'read'",
            json_rows(sorted(set(datasets))),
        )
        return {(row[0], row[1]): row[2] for row in rows}

    def usual_duration(self, pipeline: str) -> int | None:
        rows = self._s.select(
            "SELECT started_at, finished_at FROM"
            " (SELECT seq, state, started_at, finished_at FROM runs WHERE pipeline = ? ORDER BY seq DESC LIMIT ?) AS r"
            " WHERE state = 'succeeded' AND started_at IS NOT NULL AND finished_at IS NOT NULL"
            " ORDER BY seq DESC LIMIT ?",
            pipeline,
            USUAL_OF,
            USUAL,
        )
        return int(median(end - start for start, end in rows)) if rows else None

    def runs_between(self, pipeline: str, after: int, until: int) -> Sequence[RunOf]:
        rows = self._s.select(
            "SELECT uid, state, created_at FROM"
            " (SELECT seq, uid, state, created_at FROM runs WHERE pipeline = ? ORDER BY seq DESC LIMIT ?) AS r"
            " WHERE created_at > ? AND created_at <= ? ORDER BY seq DESC",
            pipeline,
            LAST_RUNS,
            after,
            until,
        )
        return [RunOf(*row) for row in rows]


class ChecksReader:
    """Methods of `Reader` for what checks found."""

    _s: Session

    def run_checks(self, run: str) -> Sequence[Row]:
        return [_row(row) for row in self._s.select(f"SELECT {_CHECK} FROM checks WHERE run = ? ORDER BY seq", run)]

    def last_checks(self, datasets: Sequence[str]) -> Mapping[str, Sequence[Row]]:
        found: dict[str, Sequence[Row]] = {}
        for dataset in sorted(set(datasets)):
            rows = self._s.select(
                f"SELECT {_CHECK} FROM checks WHERE dataset = ? ORDER BY seq DESC LIMIT ?", dataset, _LATEST
            )
            latest: dict[tuple[str, str], Row] = {}
            for row in rows:
                latest.setdefault((row[2], row[1]), _row(row))
            if latest:
                found[dataset] = [latest[name] for name in sorted(latest)]
        return found


def _row(row: Sequence[Any]) -> Row:
    found = dict(zip(_LABELS, row, strict=True))
    found["passed"] = bool(found["passed"])
    return found
