"""What goes into the store and comes back in one piece: ids, cursors, events, timers, claims. Plain frozen data.

Moments are UTC microseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.run import Run, TaskRun
from sensors.event import Event


@dataclass(frozen=True, slots=True)
class NewId:
    """An event id to remember: `uid` is the event's if it is new; `expires_at` None keeps it for ever."""

    sensor: str
    id: str
    uid: str
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class CursorRow:
    """A stored cursor with its epoch (0 when no row exists yet)."""

    sensor: str
    shard: str
    value: str
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event to store, with its own span's traceparent (`span`), and the state it is stored in.

    `state` is `stored` or `dead` (kept for the record, judged `error`, named in the dead letters).
    """

    event: Event
    span: str | None = None
    state: str = "stored"


@dataclass(frozen=True, slots=True)
class HeldEvent:
    """A `paused` decision and the event that it holds; `stored` is None when the event is gone."""

    decision: str
    event: str
    stored: StoredEvent | None


@dataclass(frozen=True, slots=True)
class Timer:
    """A durable alarm: `kind` chooses the handler, `key` is its own; setting the same (kind, key) again moves it."""

    due: int
    kind: str
    key: str
    payload: str = ""


@dataclass(frozen=True, slots=True)
class ClaimAsk:
    """What a holder asks for: up to `limit` runs for `lease` µs; leases ended before `now - grace` are taken over."""

    holder: str
    limit: int
    lease: int
    grace: int


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """A claimed run with its task runs and its definition's JSON text."""

    run: Run
    tasks: Sequence[TaskRun]
    definition: str
    taken_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunUpdate:
    """A fenced change of one run's row; None leaves a column alone. Frees lane and key when `state` is final."""

    run: str
    fence: int
    state: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    error: str | None = None
    cancel_reason: str | None = None


CountKey = tuple[str, str, str]  # (kind, name, outcome), e.g. ("trigger", "orders-arrived", "fired")
