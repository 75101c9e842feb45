"""The ports of the store: transactions for writers, reads for everyone else, and the group commit between them.

A `Write` is a function over an open transaction and *all* its items that wait when the transaction starts; the store
runs the waiting writes of a group in one transaction on its one writer thread and resolves each caller's future after
COMMIT. A write must be a pure function of its items and what it reads through `tx`: it may be run again after a
rollback. Within one group, writes run in the order in which their first item came; items keep their order.

Moments are UTC microseconds. Methods taking several keys lock them in sorted order, so that two writers never
deadlock.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, TaskRun
from sensors.batch import Cursor, DeadLetter, ObjectAction, SeenObject
from tidegate.store.alert_port import AlertTx
from tidegate.store.reader import Reader
from tidegate.store.records import (
    ClaimAsk,
    ClaimedRow,
    CountKey,
    CursorRow,
    HeldEvent,
    NewId,
    RunUpdate,
    StoredEvent,
    Timer,
)
from tidegate.store.watch_port import WatchTx
from triggers.decision import Decision
from triggers.gather import Waiting
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.round import Round, RoundName
from triggers.trigger_event import TriggerEvent

I = TypeVar("I")  # noqa: E741 - the item of a write
R = TypeVar("R")
Item = TypeVar("Item", contravariant=True)  # noqa: PLC0105 - the item of a write, as the protocol sees it
Result = TypeVar("Result", covariant=True)  # noqa: PLC0105


class Tx(AlertTx, WatchTx, Protocol):
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
        """Remember the ids that are new; return (sensor, id) -> uid for all: the first one's uid where it was known."""
        ...

    def insert_events(self, events: Sequence[StoredEvent]) -> None:
        """Store events; data above the inline limit goes to `blobs`."""
        ...

    def put_seen(self, sensor: str, seen: Sequence[SeenObject], forget: Sequence[str]) -> None:
        """Insert or replace remembered objects; erase the forgotten ones."""
        ...

    def insert_actions(self, sensor: str, actions: Sequence[ObjectAction]) -> None:
        """Keep what is to be done to objects, after the runs of this transaction were inserted."""
        ...

    def drop_actions(self, sensor: str, uids: Sequence[str]) -> None:
        """Forget actions that are done."""
        ...

    def insert_dead_letters(self, letters: Sequence[tuple[str, str, int, DeadLetter]]) -> None:
        """Keep dead letters as (uid, sensor, at, letter)."""
        ...

    def drop_dead_letters(self, uids: Sequence[str]) -> int:
        """Delete dead letters that an operator has dealt with; return how many there were."""
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

    def get_definition(self, hash: str) -> str | None:
        """Return a kept definition text, None when there is none."""
        ...

    def insert_decisions(self, decisions: Sequence[Decision]) -> None:
        """Store decisions."""
        ...

    def held(self, trigger: str, limit: int) -> Sequence["HeldEvent"]:
        """Lock and return the oldest `paused` decisions of a trigger with their events, in order of arrival."""
        ...

    def close_decisions(self, uids: Sequence[str]) -> None:
        """Delete open decisions: what followed from them is written instead, in the same transaction."""
        ...

    # -- keys that patterns wait for ----------------------------------------------------------------------------
    def lock_rounds(self, wanted: Sequence[RoundName], *, wait: bool = True) -> Mapping[RoundName, Round]:
        """Insert what is absent, lock all, return them with what they hold; what is new is in phase NEW.

        Without `wait` return only those that exist and that nobody works on now. What is locked must be put.
        """
        ...

    def put_rounds(self, rounds: Sequence[Round], before: Mapping[RoundName, Round]) -> None:
        """Write locked rounds, given how they stood `before`; those in phase NEW are forgotten."""
        ...

    def put_waiting(self, waiting: Sequence[Waiting]) -> None:
        """Insert or replace the open decisions of rounds."""
        ...

    def get_events(self, uids: Sequence[str]) -> Mapping[str, StoredEvent]:
        """Return stored events by uid, with their data."""
        ...

    def get_spans(self, uids: Sequence[str]) -> Mapping[str, str]:
        """Return the contexts of stored events by uid."""
        ...

    # -- what fired ---------------------------------------------------------------------------------------------
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
        """Ask a run to stop: queued -> cancelled at once, running -> cancelling. Return its new state or None."""
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
        """Delete timers by (kind, key), but for those that somebody takes at this moment."""
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
        """Delete up to `limit` rows of `events`, `runs`, `decisions`, `event_ids`, `logs`, `alerts` that are older than
        `before` (of `rounds` those that are done with and forgotten by then), and that nothing kept refers to; leaves
        lineage stubs. Actions go with their events and runs. Returns how many went."""
        ...


class Write(Protocol[Item, Result]):
    """A named kind of write. See the module's docstring for what it may do."""

    name: str

    def __call__(self, tx: Tx, items: Sequence[Item]) -> Sequence[Result]:
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

        Weight 0 is for the house's own small writes (renewals, claims, cancels): a flood of others never refuses them.

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


class StoreInUse(StoreError):
    """Another process has the store, which takes one only: ask that process."""


class ItemRefused(Exception):
    """One item cannot be stored whatever happens (a data error); the cause is chained."""
