"""What holders of runs do, and the small durable things, in SQL for both databases.

Every change of a holder is conditional on the run's fence. A final state changes the run's row only: its lane and key
read it there.
"""

from collections.abc import Mapping, Sequence

from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, TaskRun
from tidegate.store.records import RunUpdate, Timer
from tidegate.store.rows import RUN, TASK, names, run_of, task_of, task_row, to_json
from tidegate.store.session import Bulk, Session, bulk, insert, json_rows

_SET = (
    "state = coalesce(v.state, runs.state), started_at = coalesce(v.started_at, runs.started_at),"
    " finished_at = coalesce(v.finished_at, runs.finished_at), error = coalesce(v.error, runs.error),"
    " cancel_reason = coalesce(v.cancel_reason, runs.cancel_reason)"
)
_UPDATE_RUNS = bulk(
    "uid:t fence:i state:t started_at:i finished_at:i error:t cancel_reason:t",
    f"UPDATE runs SET {_SET} FROM v WHERE runs.uid = v.uid AND runs.fence = v.fence",
)
_TASK_CHANGES = ", ".join(
    f"{name} = excluded.{name}" for name in names(TASK).split(", ") if name not in ("uid", "run", "task", "partition")
)
_UPSERT_TASKS = insert("task_runs", TASK, f"ON CONFLICT (uid) DO UPDATE SET {_TASK_CHANGES}")
_LOGS = insert("logs", "run:t task:t attempt:i at:i stream:t text:t")
_WRITES_COLUMNS = (
    "run:t namespace:t name:t task:t at:i mode:t rows:i bytes:i schema:t version:t"
    " dataset:t disposition:t partition:t changes:t"
)
_WRITES = insert("dataset_writes", _WRITES_COLUMNS)
_DATASETS = insert(
    "datasets",
    _WRITES_COLUMNS,
    "ON CONFLICT (namespace, name) DO UPDATE SET run = excluded.run, task = excluded.task, at = excluded.at,"
    " mode = excluded.mode, rows = excluded.rows, bytes = excluded.bytes, schema = excluded.schema,"
    " version = excluded.version, dataset = excluded.dataset, disposition = excluded.disposition,"
    " partition = excluded.partition, changes = excluded.changes",
)
_DATASETS_READ = insert("datasets", _WRITES_COLUMNS, "ON CONFLICT (namespace, name) DO NOTHING")
_CHECKS = insert(
    "checks", "run:t name:t task:t dataset:t passed:i severity:t message:t at:i expected:t actual:t sample:t"
)
_CHECK_WORDS = ("severity", "message", "at", "expected", "actual", "sample")
_TIMERS = insert(
    "timers",
    "kind:t key:t due:i payload:t",
    "ON CONFLICT (kind, key) DO UPDATE SET due = excluded.due, payload = excluded.payload",
)


class DispatchSql:
    """Methods of `Tx` for the holders of runs."""

    _s: Session

    def renew(self, holder: str, runs: Sequence[str], lease: int) -> tuple[Sequence[str], Mapping[str, str]]:
        uids = sorted(set(runs))
        if self._s.locks:
            self._s.select("SELECT 1 FROM runs WHERE uid = ANY(?) ORDER BY uid FOR UPDATE", uids)
        self._s.execute(
            "UPDATE runs SET lease_until = ? WHERE uid = ANY(?) AND holder = ? AND state IN ('running', 'cancelling')",
            self._s.now() + lease,
            uids,
            holder,
        )
        rows = self._s.select(
            "SELECT uid, state, cancel_reason FROM runs WHERE uid = ANY(?) AND holder = ?", uids, holder
        )
        held = {row[0] for row in rows}
        lost = [uid for uid in runs if uid not in held]
        return lost, {uid: reason or "" for uid, state, reason in rows if state == "cancelling"}

    def fences(self, runs: Sequence[str]) -> Mapping[str, int]:
        rows = self._s.select(
            "SELECT uid, fence FROM runs WHERE uid = ANY(?) ORDER BY uid FOR UPDATE", sorted(set(runs))
        )
        return {row[0]: row[1] for row in rows}

    def get_runs(self, uids: Sequence[str]) -> Mapping[str, Run]:
        return read_runs(self._s, uids)

    def get_tasks(self, run: str) -> Sequence[TaskRun]:
        rows = self._s.select(f"SELECT {names(TASK)} FROM task_runs WHERE run = ? ORDER BY seq", run)
        return [task_of(row) for row in rows]

    def update_runs(self, updates: Sequence[RunUpdate]) -> None:
        for group in _rounds(updates):
            rows = [
                (u.run, u.fence, u.state and str(u.state), u.started_at, u.finished_at, u.error, u.cancel_reason)
                for u in group
            ]
            self._s.bulk(_UPDATE_RUNS, rows)

    def upsert_tasks(self, tasks: Sequence[TaskRun]) -> None:
        last = {task.uid: task for task in tasks}  # one statement cannot touch a row twice
        self._s.bulk(_UPSERT_TASKS, [task_row(task) for task in last.values()])

    def request_cancel(self, run: str, reason: str) -> str | None:
        found = self._s.select("SELECT state FROM runs WHERE uid = ? FOR UPDATE", run)
        if not found:
            return None
        state = str(found[0][0])
        if state == "queued":
            self._s.execute(
                "UPDATE runs SET state = 'cancelled', cancel_reason = ?, finished_at = ? WHERE uid = ?",
                reason,
                self._s.now(),
                run,
            )
            self._s.execute(
                "UPDATE task_runs SET state = 'cancelled', finished_at = ? WHERE run = ?"
                " AND state IN ('pending', 'ready', 'retry_wait')",
                self._s.now(),
                run,
            )
            return "cancelled"
        if state == "running":
            self._s.execute("UPDATE runs SET state = 'cancelling', cancel_reason = ? WHERE uid = ?", reason, run)
            return "cancelling"
        return state

    def insert_logs(self, lines: Sequence[LogLine]) -> None:
        self._s.bulk(_LOGS, [(line.run, line.task, line.attempt, line.at, line.stream, line.text) for line in lines])

    def insert_datasets(self, run: str, writes: Sequence[DatasetWrite], checks: Sequence[CheckResult]) -> None:
        rows = [
            (
                run,
                write.namespace,
                write.name,
                write.task,
                write.at,
                write.mode,
                write.rows,
                write.bytes,
                to_json({"fields": [list(field) for field in write.schema]} if write.schema else {}),
                write.version,
                write.dataset or None,
                write.disposition,
                write.partition or None,
                to_json(write.changes) if write.changes else None,
            )
            for write in writes
        ]
        self._s.bulk(_WRITES, rows)
        last = {(row[1], row[2], row[5] == "read"): row for row in rows}
        self._s.bulk(_DATASETS, [row for key, row in sorted(last.items()) if not key[2]])
        self._s.bulk(_DATASETS_READ, [row for key, row in sorted(last.items()) if key[2]])
        self._s.bulk(
            _CHECKS,
            [
                (run, c.check, c.task, c.dataset, int(c.passed), *(getattr(c, name) for name in _CHECK_WORDS))
                for c in checks
            ],
        )


class SmallSql:
    """Methods of `Tx` for timers and settings."""

    _s: Session

    def set_timers(self, timers: Sequence[Timer]) -> None:
        last = {(timer.kind, timer.key): timer for timer in timers}
        self._s.bulk(_TIMERS, [(kind, key, t.due, t.payload) for (kind, key), t in sorted(last.items())])

    def drop_timers(self, names: Sequence[tuple[str, str]]) -> None:
        if names:  # one that is being taken waits for what this transaction has locked: never wait for it
            self._s.execute(
                "DELETE FROM timers WHERE (kind, key) IN (SELECT t.kind, t.key FROM PAIRS(?) AS k JOIN timers AS t"
                " ON t.kind = k.a AND t.key = k.b FOR UPDATE OF t SKIP LOCKED)",
                json_rows(sorted(set(names))),
            )

    def due_timers(self, limit: int) -> Sequence[Timer]:
        rows = self._s.select(
            "SELECT due, kind, key, payload FROM timers WHERE due <= ? ORDER BY due, kind, key LIMIT ?"
            " FOR UPDATE SKIP LOCKED",
            self._s.now(),
            limit,
        )
        due = [Timer(*row) for row in rows]
        self._delete_timers([(timer.kind, timer.key) for timer in due])
        return due

    def _delete_timers(self, names: Sequence[tuple[str, str]]) -> None:
        if names:
            self._s.execute(
                "DELETE FROM timers WHERE (kind, key) IN (SELECT k.a, k.b FROM PAIRS(?) AS k)", json_rows(list(names))
            )

    def put_setting(self, name: str, value: str | None) -> None:
        if value is None:
            self._s.execute("DELETE FROM settings WHERE name = ?", name)
        else:
            self._s.bulk(_SETTINGS, [(name, value)])

    def get_settings(self, prefix: str) -> Mapping[str, str]:
        return read_settings(self._s, prefix)


_SETTINGS: Bulk = insert("settings", "name:t value:t", "ON CONFLICT (name) DO UPDATE SET value = excluded.value")


_LAST = "\U0010ffff"  # sorts behind every character of a name


def read_runs(session: Session, uids: Sequence[str]) -> Mapping[str, Run]:
    """Read runs by uid with their causing events."""
    wanted = sorted(set(uids))
    rows = session.select(f"SELECT {names(RUN)}, seq FROM runs WHERE uid = ANY(?)", wanted)
    events: dict[str, list[str]] = {row[0]: [] for row in rows}
    if rows:
        for run, event in session.select(
            "SELECT run, event FROM run_events WHERE run = ANY(?) ORDER BY run, pos", list(events)
        ):
            events[run].append(event)
    return {row[0]: run_of(row, events[row[0]]) for row in rows}


def read_settings(session: Session, prefix: str) -> Mapping[str, str]:
    """Read settings whose name starts with the prefix."""
    rows = session.select(
        "SELECT name, value FROM settings WHERE name >= ? AND name < ? ORDER BY name", prefix, prefix + _LAST
    )
    return {name: value for name, value in rows if name.startswith(prefix)}


def _rounds(updates: Sequence[RunUpdate]) -> list[list[RunUpdate]]:
    """Split updates so that no round touches a run twice; each run's updates keep their order."""
    rounds: list[list[RunUpdate]] = []
    depth: dict[str, int] = {}
    for update in updates:
        n = depth.get(update.run, 0)
        depth[update.run] = n + 1
        if n == len(rounds):
            rounds.append([])
        rounds[n].append(update)
    return rounds
