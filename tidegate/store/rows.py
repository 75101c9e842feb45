"""Between value types and rows: the columns of each table in one order, and the two ways across.

Empty mappings are stored as NULL; JSON is text by orjson. Decoding builds exactly the value that was encoded.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import repeat
from typing import Any

import orjson

from pipelines.run import Run, RunState, TaskRun, TaskState
from sensors.batch import SeenObject
from sensors.event import EMPTY, Event
from tidegate.store.reader import Row
from tidegate.store.records import StoredEvent
from triggers.decision import Clause, Decision

EVENT_ENVELOPE = (
    "uid:t sensor:t id:t source:t type:t subject:t time:i received_at:i size:i blob:i content_type:t "
    "attributes:t captures:t traceparent:t tracestate:t trusted:i depth:i cause_run:t span:t state:t"
)
EVENT = EVENT_ENVELOPE + " data:b"
SEEN = "key:t token:t incarnation:i state:t first_seen:i last_changed:i extra:t"
RUN = (
    "uid:t pipeline:t definition:t state:t key:t key_scope:t created_at:i generation:i trigger:t trigger_event:t "
    "params:t partition:t lane:t depth:i holder:t lease_until:i fence:i started_at:i finished_at:i error:t "
    "cancel_reason:t span:t run_span:t resumed_from:t config_hash:t"
)
TASK = (
    "uid:t run:t task:t partition:t state:t attempt:i failures:i lost:i engine:t engine_key:t handle:t started_at:i "
    "finished_at:i next_at:i output:t error:t error_kind:t span:t cpu_seconds:f peak_rss_bytes:i "
    "item:t first_started_at:i"
)
DECISION = (
    "uid:t trigger:t version:t outcome:t at:i reason:t clause:t trigger_event:t run:t item:i sampled:i span:t details:t"
)


def names(columns: str, prefix: str = "") -> str:
    """Return the column names of a specification, separated by commas, each with the prefix."""
    return ", ".join(prefix + column.split(":")[0] for column in columns.split())


_EVENT_NAMES = tuple(names(EVENT_ENVELOPE).split(", "))
_RUN_NAMES = tuple(names(RUN).split(", "))
_SEEN_SLOTS = tuple(getattr(SeenObject, name).__set__ for name in names(SEEN).split(", "))
_TASK_NAMES = tuple(field.name for field in fields(TaskRun))
_DECISION_NAMES = tuple(names(DECISION).split(", "))


def to_json(value: Mapping[str, Any]) -> str | None:
    """Encode a mapping; an empty one is None."""
    if not value:
        return None
    return orjson.dumps(value if type(value) is dict else dict(value)).decode()


def from_json(text: str | None) -> Any:
    """Decode a mapping; None is an empty one."""
    return {} if text is None else orjson.loads(text)


def _text_map(text: str | None) -> Mapping[str, str]:
    if text is None:
        return EMPTY
    decoded: Mapping[str, str] = orjson.loads(text)
    return decoded


def seen_of(columns: Sequence[Sequence[Any]]) -> list[SeenObject]:
    """Decode remembered objects from the columns of SEEN, of which a scan reads as many as there are objects.

    Fills the slots column by column: half of the time that the constructor of a frozen dataclass takes.
    """
    if not columns:
        return []
    made = list(map(object.__new__, repeat(SeenObject, len(columns[0]))))
    for fill, column in zip(_SEEN_SLOTS, columns, strict=True):
        deque(map(fill, made, column), 0)
    return made


def event_row(stored: StoredEvent, inline: int) -> tuple[Any, ...]:
    """Encode an event; data above `inline` bytes is left to `blobs`."""
    event = stored.event
    data = event.data
    size = 0 if data is None else len(data)
    large = size > inline
    return (
        event.uid,
        event.sensor,
        event.id,
        event.source,
        event.type,
        event.subject,
        event.time,
        event.received_at,
        size,
        1 if large else 0,
        event.content_type,
        to_json(event.attributes),
        to_json(event.match),
        event.traceparent,
        event.tracestate,
        1 if event.trusted else 0,
        event.depth,
        event.cause_run,
        stored.span,
        stored.state,
        None if large else data,
    )


def event_of(row: Sequence[Any]) -> Event:
    """Decode an event from the columns of EVENT (its data joined in)."""
    return Event(
        uid=row[0],
        sensor=row[1],
        id=row[2],
        source=row[3],
        type=row[4],
        subject=row[5],
        time=row[6],
        received_at=row[7],
        content_type=row[10],
        attributes=_text_map(row[11]),
        match=_text_map(row[12]),
        traceparent=row[13],
        tracestate=row[14],
        trusted=bool(row[15]),
        depth=row[16],
        cause_run=row[17],
        data=None if row[20] is None else bytes(row[20]),
    )


def stored_of(row: Sequence[Any]) -> StoredEvent:
    """Decode an event with its span and state from the columns of EVENT (its data joined in)."""
    return StoredEvent(event_of(row), row[18], row[19])


def event_dict(row: Sequence[Any]) -> Row:
    """Turn the columns of EVENT_ENVELOPE into a plain row."""
    out = dict(zip(_EVENT_NAMES, row, strict=True))
    del out["blob"]
    out["attributes"] = from_json(out["attributes"])
    out["match"] = from_json(out.pop("captures"))
    out["trusted"] = bool(out["trusted"])
    return out


def run_row(run: Run) -> tuple[Any, ...]:
    """Encode a run."""
    return (
        run.uid,
        run.pipeline,
        run.definition,
        str(run.state),
        run.key,
        run.key_scope,
        run.created_at,
        run.generation,
        run.trigger,
        run.trigger_event,
        to_json(run.params),
        run.partition,
        run.lane,
        run.depth,
        run.holder,
        run.lease_until,
        run.fence,
        run.started_at,
        run.finished_at,
        run.error,
        run.cancel_reason,
        run.span,
        run.run_span,
        run.resumed_from,
        run.config_hash,
    )


def run_of(row: Sequence[Any], events: Sequence[str] = ()) -> Run:
    """Decode a run from the columns of RUN followed by seq."""
    values = dict(zip(_RUN_NAMES, row, strict=False))
    values["state"] = RunState(values["state"])
    values["params"] = from_json(values["params"])
    return Run(**values, seq=row[-1], events=tuple(events))


def run_dict(row: Sequence[Any]) -> Row:
    """Turn the columns of RUN followed by seq into a plain row."""
    out = dict(zip((*_RUN_NAMES, "seq"), row, strict=True))
    out["params"] = from_json(out["params"])
    return out


def task_row(task: TaskRun) -> tuple[Any, ...]:
    """Encode a task run."""
    return (
        task.uid,
        task.run,
        task.task,
        task.partition,
        str(task.state),
        task.attempt,
        task.failures,
        task.lost,
        task.engine,
        task.engine_key,
        task.handle,
        task.started_at,
        task.finished_at,
        task.next_at,
        task.output,
        task.error,
        task.error_kind,
        task.span,
        task.cpu_seconds,
        task.peak_rss_bytes,
        task.item,
        task.first_started_at,
    )


def task_of(row: Sequence[Any]) -> TaskRun:
    """Decode a task run from the columns of TASK."""
    values = dict(zip(_TASK_NAMES, row, strict=True))
    values["state"] = TaskState(values["state"])
    return TaskRun(**values)


def decision_row(decision: Decision) -> tuple[Any, ...]:
    """Encode a decision; its events go to a table of their own."""
    clause = decision.clause
    text = None
    if clause is not None:
        text = orjson.dumps([clause.path, clause.text, clause.expected, clause.actual]).decode()
    return (
        decision.uid,
        decision.trigger,
        decision.version,
        str(decision.outcome),
        decision.at,
        decision.reason,
        text,
        decision.trigger_event,
        decision.run,
        decision.item,
        1 if decision.sampled else 0,
        decision.span,
        to_json(decision.details),
    )


def decision_dict(row: Sequence[Any], events: Sequence[str]) -> Row:
    """Turn the columns of DECISION into a plain row."""
    out = dict(zip(_DECISION_NAMES, row, strict=True))
    clause = out["clause"]
    if clause is not None:
        path, text, expected, actual = orjson.loads(clause)
        out["clause"] = clause_dict(Clause(path, text, expected, actual))
    out["sampled"] = bool(out["sampled"])
    out["details"] = from_json(out["details"])
    out["events"] = list(events)
    return out


def clause_dict(clause: Clause) -> Row:
    """Turn a clause into a plain row."""
    return {"path": clause.path, "text": clause.text, "expected": clause.expected, "actual": clause.actual}
