"""The rows of the in-memory store: plain dicts of frozen values. A transaction works on a copy; COMMIT installs it."""

from dataclasses import dataclass, field, fields

from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, TaskRun
from sensors.batch import DeadLetter, ObjectAction, SeenObject
from tidegate.store.alert_records import AlertGroup, AlertMessage, AlertRow
from tidegate.store.records import CountKey, CursorRow, StoredEvent, Timer
from tidegate.store.replay_records import Replay, ReplayedRun
from triggers.decision import Decision
from triggers.ports import RunKeyName, RunKeyState
from triggers.round import Occurrence, Round, RoundName
from triggers.trigger_event import TriggerEvent


@dataclass(slots=True)
class State:
    """Everything stored. Never changed once it is in place."""

    cursors: dict[tuple[str, str], CursorRow] = field(default_factory=dict)
    event_ids: dict[tuple[str, str], tuple[str, int | None]] = field(default_factory=dict)
    events: dict[str, StoredEvent] = field(default_factory=dict)
    seen: dict[tuple[str, str], SeenObject] = field(default_factory=dict)
    actions: dict[str, tuple[str, ObjectAction]] = field(default_factory=dict)  # uid -> (sensor, action)
    dead_letters: dict[str, tuple[str, int, DeadLetter]] = field(default_factory=dict)
    run_keys: dict[RunKeyName, RunKeyState] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    rounds: dict[RoundName, Round] = field(default_factory=dict)
    queues: dict[RoundName, tuple[Occurrence, ...]] = field(default_factory=dict)
    trigger_events: dict[str, TriggerEvent] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)  # in order of `seq`
    tasks: dict[str, TaskRun] = field(default_factory=dict)
    counts: dict[tuple[CountKey, str], int] = field(default_factory=dict)
    logs: dict[int, LogLine] = field(default_factory=dict)
    writes: dict[int, tuple[str, DatasetWrite]] = field(default_factory=dict)
    datasets: dict[tuple[str, str], tuple[str, DatasetWrite]] = field(default_factory=dict)
    checks: dict[int, tuple[str, CheckResult]] = field(default_factory=dict)
    timers: dict[tuple[str, str], Timer] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    stubs: dict[str, tuple[str, int]] = field(default_factory=dict)  # uid -> (label, at)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    alerts: dict[str, AlertRow] = field(default_factory=dict)
    alert_groups: dict[tuple[str, str], AlertGroup] = field(default_factory=dict)  # (route, key)
    alert_messages: dict[tuple[str, int], AlertMessage] = field(default_factory=dict)  # (message, target)
    replays: dict[str, Replay] = field(default_factory=dict)
    replayed: dict[tuple[str, str, str, int, int], ReplayedRun] = field(default_factory=dict)  # by all but run, origin
    retried: dict[str, tuple[int, str]] = field(default_factory=dict)  # dead letter -> (at, what came of it)
    last: dict[str, int] = field(default_factory=dict)  # the last number given out, by table

    def copy(self) -> "State":
        """Copy every table; the rows are shared."""
        return State(*(dict(getattr(self, table.name)) for table in fields(self)))

    def next(self, table: str) -> int:
        """Give out the next number of a table."""
        self.last[table] = self.last.get(table, 0) + 1
        return self.last[table]
