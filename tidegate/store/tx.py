"""The ports of the store: transactions for writers, reads for everyone else, and the group commit between them.

A `Write` is a function over an open transaction and *all* its items that wait when the transaction starts; the store runs
the waiting writes of a group in one transaction on its one writer thread and resolves each caller's future after COMMIT.
A write must be a pure function of its items and what it reads through `tx`: it may be run again after a rollback.
Within one group, writes run in the order in which their first item came; items keep their order.

Moments are UTC microseconds. Methods taking several keys lock them in sorted order, so that two writers never deadlock.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, TaskRun
from sensors.batch import Cursor, DeadLetter, SeenObject
from sensors.event import Event
from triggers.decision import Decision
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.trigger_event import TriggerEvent

I = TypeVar("I")
R = TypeVar("R")


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
class Timer:
    """A durable alarm: `kind` chooses the handler, `key` is its own; setting the same (kind, key) again moves it."""

    due: int
    kind: str
    key: str
    payload: str = ""


@dataclass(frozen=True, slots=True)
class ClaimAsk:
    """What a holder asks for: up to `limit` runs for `lease` µs; leases that ended before `now - grace` are taken over."""

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


class Tx(Protocol):
    """One open read-write transaction. All methods are synchronous and run on the writer thread."""

    def now(self) -> int:
        """Return the database's clock (SQLite: this machine's), constant within one transaction."""
        ...

    # -- events ------------------------------------------------------------------------------------------------
    def lock_cursors(self, names: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], CursorRow]:
        """Lock and return the cursors (sensor, shard) that exist."""
        ...

    def put_cursors(self, sensor: str, cursors: Sequence[Cursor]) -> None:
        """Insert or replace positions; epochs stay."""
        ...

    def raise_epoch(self, sensor: str, shard: str) -> CursorRow:
        """Take ownership of a shard: raise its epoch (inserting the row) and return it."""
        ...

    def new_event_ids(self, ids: Sequence[NewId]) -> Mapping[tuple[str, str], str]:
        """Remember the ids that are new and return (sensor, id) -> uid for all: the first one's uid where it was known."""
        ...

    def insert_events(self, events: Sequence[StoredEvent]) -> None:
        """Store events; data above the inline limit goes to `blobs`."""
        ...

    def put_seen(self, sensor: str, seen: Sequence[SeenObject], forget: Sequence[str]) -> None:
        """Insert or replace remembered objects; erase the forgotten ones."""
        ...

    def insert_dead_letters(self, letters: Sequence[tuple[str, str, int, DeadLetter]]) -> None:
        """Keep dead letters as (uid, sensor, at, letter)."""
        ...

    # -- decisions and runs -------------------------------------------------------------------------------------
    def lock_run_keys(self, names: Sequence[RunKeyName]) -> Mapping[RunKeyName, RunKeyState]:
        """Insert what is absent, lock all, return their states with the current state of their last run."""
        ...

    def put_run_keys(self, states: Sequence[RunKeyState]) -> None:
        """Write generation and last run of locked keys."""
        ...

    def lock_lanes(self, names: Sequence[LaneName]) -> Mapping[LaneName, LaneState]:
        """Insert what is absent, lock all, return who is active and who waits in each."""
        ...

    def put_definitions(self, definitions: Mapping[str, str]) -> None:
        """Keep definition texts by hash (insert if absent)."""
        ...

    def get_definition(self, hash: str) -> str | None:  # noqa: A002
        """Return a kept definition text, None when there is none."""
        ...

    def insert_decisions(self, decisions: Sequence[Decision]) -> None:
        """Store decisions."""
        ...

    def insert_trigger_events(self, events: Sequence[TriggerEvent]) -> None:
        """Store trigger events and their causes."""
        ...

    def insert_runs(self, runs: Sequence[Run], tasks: Sequence[TaskRun]) -> None:
        """Store runs (assigning `seq` by arrival), their causing events and their task runs."""
        ...

    def add_run_events(self, run: str, events: Sequence[str], params: Mapping[str, Any] | None) -> None:
        """Merge more causing events (and newer parameters) into a queued run (coalesce)."""
        ...

    def add_counts(self, shard: str, counts: Mapping[CountKey, int]) -> None:
        """Add to the exact counters of this replica's shard."""
        ...

    # -- dispatch -------------------------------------------------------------------------------------------------
    def claim_runs(self, asks: Sequence[ClaimAsk], concurrency: Mapping[str, int]) -> Sequence[Sequence[ClaimedRow]]:
        """Claim runs for each ask: queued ones oldest first, at most one per lane and `concurrency` per pipeline
        (16 where a pipeline is not named), and runs whose lease ended. Raises their fence and sets state `running`
        (a `cancelling` run stays so)."""
        ...

    def renew(self, holder: str, runs: Sequence[str], lease: int) -> tuple[Sequence[str], Mapping[str, str]]:
        """Extend leases; return (runs no longer held by `holder`, runs asked to cancel with the reason)."""
        ...

    def fences(self, runs: Sequence[str]) -> Mapping[str, int]:
        """Lock these runs' rows and return their current fences."""
        ...

    def get_runs(self, uids: Sequence[str]) -> Mapping[str, Run]:
        """Return runs by uid."""
        ...

    def get_tasks(self, run: str) -> Sequence[TaskRun]:
        """Return the task runs of a run in insertion order."""
        ...

    def update_runs(self, updates: Sequence[RunUpdate]) -> None:
        """Apply fenced updates (the caller has checked `fences`)."""
        ...

    def upsert_tasks(self, tasks: Sequence[TaskRun]) -> None:
        """Insert or replace task runs by uid."""
        ...

    def request_cancel(self, run: str, reason: str) -> str | None:
        """Ask a run to stop: queued -> cancelled at once, running -> cancelling. Return its new state, None if unknown."""
        ...

    def insert_logs(self, lines: Sequence[LogLine]) -> None:
        """Keep log lines."""
        ...

    def insert_datasets(self, run: str, writes: Sequence[DatasetWrite], checks: Sequence[CheckResult]) -> None:
        """Keep what a run read, wrote and checked."""
        ...

    # -- timers, tokens, settings ---------------------------------------------------------------------------------
    def set_timers(self, timers: Sequence[Timer]) -> None:
        """Insert or move timers."""
        ...

    def drop_timers(self, names: Sequence[tuple[str, str]]) -> None:
        """Delete timers by (kind, key)."""
        ...

    def due_timers(self, limit: int) -> Sequence[Timer]:
        """Take (delete and return) up to `limit` timers that are due, oldest first; skips what others are taking."""
        ...

    def put_setting(self, name: str, value: str | None) -> None:
        """Keep or erase a small named value (paused sensors and triggers, configuration hashes, …)."""
        ...

    def get_settings(self, prefix: str) -> Mapping[str, str]:
        """Return small named values by prefix."""
        ...

    def prune(self, what: str, before: int, limit: int) -> int:
        """Delete up to `limit` rows of `events`, `runs`, `decisions`, `event_ids`, `logs` older than `before` that nothing
        kept refers to; leaves lineage stubs. Returns how many went."""
        ...


class Write(Protocol[I, R]):
    """A named kind of write. See the module's docstring for what it may do."""

    name: str

    def __call__(self, tx: Tx, items: Sequence[I]) -> Sequence[R]:
        """Do all items in one go; return one result per item, in order."""
        ...


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Whether the store accepts writes now, and if not, why (one sentence)."""

    ok: bool
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class Store(Protocol):
    """A durable store: one writer, many readers."""

    name: str  # "sqlite", "postgresql", "memory"

    async def open(self) -> None:
        """Connect, check or migrate the schema. Raises `StoreError` with a sentence that names the remedy."""
        ...

    async def close(self) -> None:
        """Finish what waits, then close."""
        ...

    def submit(self, write: Write[I, R], item: I, weight: int = 0) -> "asyncio.Future[R]":
        """Queue one item (of about `weight` bytes) for the next group commit.

        The future fails with `sensors.ports.Unavailable` when the store cannot accept now (nothing was written), with
        `ItemRefused` when this very item cannot be stored (its neighbours were). Call from the loop's thread.
        """
        ...

    async def read(self, fn: "Callable[[Reader], R]") -> R:
        """Run a read-only function on a reader's thread, in one snapshot."""
        ...

    def health(self) -> StoreHealth:
        """Answer at once from what the last writes showed."""
        ...

    @property
    def backlog(self) -> tuple[int, int]:
        """Items and bytes that wait for a commit."""
        ...


class StoreError(Exception):
    """The store cannot be used as it is; the sentence names the remedy."""


class ItemRefused(Exception):
    """One item cannot be stored whatever happens (a data error); the cause is chained."""


Row = Mapping[str, Any]


class Reader(Protocol):
    """Read-only queries for API, CLI, lineage and recovery. Lists are newest first and page by an opaque cursor:
    each returns (rows, next cursor or None). Rows are plain dicts with uid strings, µs ints and decoded JSON."""

    def cursors(self, sensor: str) -> Sequence[CursorRow]:
        """Return a sensor's positions."""
        ...

    def seen(self, sensor: str, keys: Sequence[str]) -> Mapping[str, SeenObject]:
        """Return remembered objects by key."""
        ...

    def seen_after(self, sensor: str, key: str, limit: int, prefix: str) -> Sequence[SeenObject]:
        """Return present objects after `key` in key order (by UTF-8 bytes)."""
        ...

    def event(self, uid: str) -> Event | None:
        """Return one event with its data (from `blobs` if need be)."""
        ...

    def events_of_run(self, run: str, limit: int) -> Sequence[Event]:
        """Return the causing events of a run in order."""
        ...

    def events(self, *, limit: int, cursor: str | None = None, sensor: str | None = None, id: str | None = None, type: str | None = None, since: int | None = None, until: int | None = None) -> tuple[Sequence[Row], str | None]:  # noqa: A002, E501
        """List events without data."""
        ...

    def decisions(self, *, limit: int, cursor: str | None = None, trigger: str | None = None, event: str | None = None, outcome: str | None = None) -> tuple[Sequence[Row], str | None]:  # noqa: E501
        """List decisions."""
        ...

    def runs(self, *, limit: int, cursor: str | None = None, pipeline: str | None = None, state: str | None = None, trigger: str | None = None, event: str | None = None, partition: str | None = None, since: int | None = None, until: int | None = None) -> tuple[Sequence[Row], str | None]:  # noqa: E501
        """List runs."""
        ...

    def run(self, uid: str) -> Run | None:
        """Return one run."""
        ...

    def tasks(self, run: str) -> Sequence[TaskRun]:
        """Return the task runs of a run."""
        ...

    def logs(self, run: str, *, after: int = 0, limit: int = 1000, task: str | None = None) -> tuple[Sequence[Row], int]:
        """Return log lines after a position, and the position reached."""
        ...

    def dead_letters(self, *, limit: int, cursor: str | None = None, sensor: str | None = None) -> tuple[Sequence[Row], str | None]:
        """List dead letters without payload."""
        ...

    def dead_letter(self, uid: str) -> Row | None:
        """Return one dead letter with its payload."""
        ...

    def datasets(self, *, limit: int, cursor: str | None = None) -> tuple[Sequence[Row], str | None]:
        """List datasets with their last write."""
        ...

    def lineage(self, *, event: str | None = None, run: str | None = None, dataset: str | None = None, up: bool = True, down: bool = True, limit: int = 1000) -> Row:  # noqa: E501
        """Return the graph around one node: {"nodes": [{kind, uid, …}], "edges": [{from, to, kind}]}.

        Kinds: event, decision, trigger_event, run, task, dataset, stub (a pruned row).
        """
        ...

    def counts(self, kind: str) -> Mapping[tuple[str, str], int]:
        """Return exact counters of a kind, summed over replicas: (name, outcome) -> n."""
        ...

    def queue(self) -> Mapping[str, Mapping[str, int]]:
        """Return runs by pipeline and non-final state, and the age of the oldest queued one (µs) as `oldest`."""
        ...

    def settings(self, prefix: str) -> Mapping[str, str]:
        """Return small named values by prefix."""
        ...

    def definition(self, hash: str) -> str | None:  # noqa: A002
        """Return a stored definition's text."""
        ...
