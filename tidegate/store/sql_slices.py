"""Reading the tasks of runs that fan out, in SQL for both databases: the tasks themselves, and their slices by page."""

from collections.abc import Mapping, Sequence

from pipelines.run import TaskRun
from tidegate.store import pages
from tidegate.store.rows import TASK, names, task_of
from tidegate.store.session import Session


class SliceReader:
    """Queries about task runs with and without a partition."""

    _s: Session

    def nodes(self, run: str) -> Sequence[TaskRun]:
        rows = self._s.select(f"SELECT {names(TASK)} FROM task_runs WHERE run = ? AND partition = '' ORDER BY seq", run)
        return [task_of(row) for row in rows]

    def slice_counts(self, run: str) -> Mapping[str, Mapping[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for task, state, count in self._s.select(
            "SELECT task, state, count(*) FROM task_runs WHERE run = ? AND partition <> '' GROUP BY task, state", run
        ):
            found.setdefault(task, {})[state] = count
        return found

    def slices(
        self, run: str, *, limit: int, cursor: str | None = None, task: str | None = None, state: str | None = None
    ) -> tuple[Sequence[TaskRun], str | None]:
        place = pages.decode(cursor, int)
        conditions, values = ["run = ?", "partition <> ''"], [run]
        for column, value in (("task", task), ("state", state)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        rows = self._s.select(
            f"SELECT {names(TASK)}, seq FROM task_runs WHERE {' AND '.join(conditions)} AND seq > ?"
            " ORDER BY seq LIMIT ?",
            *values,
            place[0] if place is not None else 0,
            limit + 1,
        )
        rows, after = pages.page(rows, limit, [row[-1:] for row in rows])
        return [task_of(row[:-1]) for row in rows], after
