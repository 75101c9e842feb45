"""The rows that the store holds, as plain values, read by SQL of its own: none of the service's reading code is used.

Beside the service's tables stands `audit`, filled by database triggers that the campaign installs: an independent
witness of every change of state of runs and task runs, which the rows themselves forget.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Rows = Callable[[str], Sequence[Sequence[Any]]]

FINAL = frozenset({"succeeded", "failed", "cancelled", "skipped", "upstream_failed"})
_FINAL_SQL = ", ".join(f"'{state}'" for state in sorted(FINAL))
_CHANGED = f"OLD.state <> NEW.state OR NEW.state IN ({_FINAL_SQL})"
_NOTE = "INSERT INTO audit (kind, uid, old, new, mark) VALUES"
_NOTE_TASK = f"{_NOTE} ('task', NEW.uid, OLD.state, NEW.state, NEW.attempt)"
_NOTE_RUN = f"{_NOTE} ('run', NEW.uid, OLD.state, NEW.state, NEW.fence)"

AUDIT_SQLITE = (
    "CREATE TABLE audit (n INTEGER PRIMARY KEY, kind TEXT, uid TEXT, old TEXT, new TEXT, mark INTEGER)",
    f"CREATE TRIGGER audit_tasks AFTER UPDATE ON task_runs WHEN {_CHANGED} BEGIN {_NOTE_TASK}; END",
    f"CREATE TRIGGER audit_runs AFTER UPDATE ON runs WHEN {_CHANGED} BEGIN {_NOTE_RUN}; END",
)
AUDIT_POSTGRES = (
    "CREATE TABLE audit (n BIGSERIAL PRIMARY KEY, kind TEXT, uid TEXT, old TEXT, new TEXT, mark BIGINT)",
    f"CREATE FUNCTION note_task() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_NOTE_TASK}; RETURN NULL; END $$",
    f"CREATE FUNCTION note_run() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {_NOTE_RUN}; RETURN NULL; END $$",
    f"CREATE TRIGGER audit_tasks AFTER UPDATE ON task_runs FOR EACH ROW WHEN ({_CHANGED}) EXECUTE FUNCTION note_task()",
    f"CREATE TRIGGER audit_runs AFTER UPDATE ON runs FOR EACH ROW WHEN ({_CHANGED}) EXECUTE FUNCTION note_run()",
)


@dataclass(frozen=True, slots=True)
class EventRow:
    """`events`: identity, what it is about, and how large (of a file: the size that its data tells)."""

    uid: str
    sensor: str
    id: str
    type: str
    subject: str | None
    state: str
    cause_run: str | None = None


@dataclass(frozen=True, slots=True)
class DecisionRow:
    """`decisions`, with the events it is about."""

    uid: str
    trigger: str
    outcome: str
    trigger_event: str | None = None
    run: str | None = None
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRow:
    """`runs`."""

    uid: str
    pipeline: str
    state: str
    key: str
    generation: int
    trigger_event: str | None = None
    finished_at: int | None = None


@dataclass(frozen=True, slots=True)
class TaskRow:
    """`task_runs`. `finished_at` is UTC microseconds."""

    uid: str
    run: str
    task: str
    state: str
    attempt: int
    engine_key: str | None = None
    finished_at: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One row of `audit`: a run or task run changed its state. `mark` is the run's fence, the task run's attempt."""

    kind: str
    uid: str
    old: str
    new: str
    mark: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that is checked. `ids` maps (sensor, id) to the remembered uid, `seen` (sensor, key) to a version."""

    events: Sequence[EventRow] = ()
    ids: Mapping[tuple[str, str], str] = field(default_factory=dict)
    seen: Mapping[tuple[str, str], str] = field(default_factory=dict)
    decisions: Sequence[DecisionRow] = ()
    trigger_events: frozenset[str] = frozenset()
    runs: Sequence[RunRow] = ()
    tasks: Sequence[TaskRow] = ()
    counters: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    dead_letters: int = 0
    integrity: str = "ok"


def read_ledger(rows: Rows, integrity: str = "ok") -> Ledger:
    """Read all of it; `rows` runs one query."""
    about: dict[str, list[str]] = {}
    for decision, event in rows("SELECT decision, event FROM decision_events ORDER BY decision, pos"):
        about.setdefault(decision, []).append(event)
    return Ledger(
        events=[EventRow(*row) for row in rows("SELECT uid, sensor, id, type, subject, state, cause_run FROM events")],
        ids={(row[0], row[1]): row[2] for row in rows("SELECT sensor, id, uid FROM event_ids")},
        seen={(row[0], row[1]): row[2] for row in rows("SELECT sensor, key, token FROM seen_objects")},
        decisions=[
            DecisionRow(row[0], row[1], row[2], row[3], row[4], tuple(about.get(row[0], ())))
            for row in rows("SELECT uid, trigger, outcome, trigger_event, run FROM decisions")
        ],
        trigger_events=frozenset(row[0] for row in rows("SELECT uid FROM trigger_events")),
        runs=[
            RunRow(*row)
            for row in rows("SELECT uid, pipeline, state, key, generation, trigger_event, finished_at FROM runs")
        ],
        tasks=[
            TaskRow(*row)
            for row in rows("SELECT uid, run, task, state, attempt, engine_key, finished_at, error FROM task_runs")
        ],
        counters={
            (row[0], row[1], row[2]): int(row[3])
            for row in rows("SELECT kind, name, outcome, sum(n) FROM counters GROUP BY kind, name, outcome")
        },
        changes=[Change(*row) for row in rows("SELECT kind, uid, old, new, mark FROM audit ORDER BY n")],
        dead_letters=int(rows("SELECT count(*) FROM dead_letters")[0][0]),
        integrity=integrity,
    )


_EVENT_OF_SEEN = (
    "SELECT 1 FROM event_ids i WHERE i.sensor = s.sensor"
    " AND i.id = s.key || '@' || s.token || '#' || CAST(s.incarnation AS TEXT)"
)
_TORN = (
    (
        "SELECT i.sensor, i.id FROM event_ids i LEFT JOIN events e ON e.uid = i.uid WHERE e.uid IS NULL LIMIT 5",
        "{}/{} is remembered as seen, but its event is not there",
    ),
    (
        "SELECT uid, run FROM decisions WHERE outcome = 'fired' AND run NOT IN (SELECT uid FROM runs) LIMIT 5",
        "decision {} fired, and its run {} is missing",
    ),
    (
        f"SELECT sensor, key, token FROM seen_objects s WHERE NOT EXISTS ({_EVENT_OF_SEEN}) LIMIT 5",
        "object {}/{} is remembered at version {}, which has no event",
    ),
)


def torn_now(rows: Rows) -> list[str]:
    """Return what is half written in what is committed now, while the service works; a few of each kind."""
    return [text.format(*row) for sql, text in _TORN for row in rows(sql)]


def unfinished(rows: Rows) -> int:
    """Count runs that have not ended."""
    return int(rows("SELECT count(*) FROM runs WHERE state IN ('queued', 'running', 'cancelling')")[0][0])
