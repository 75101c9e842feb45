"""Rows to store and small writes to store them with."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pipelines.run import Run, RunState, TaskRun
from sensors.event import Event
from tidegate.store.records import ClaimAsk, ClaimedRow, NewId, StoredEvent
from tidegate.store.tx import Store, Tx
from triggers.decision import Decision, Outcome
from triggers.trigger_event import TriggerEvent

R = TypeVar("R")
T0 = 1_750_000_000_000_000  # a moment in the past of every clock in use
_NUMBERS = itertools.count(1)


class Each:
    """A write that calls `fn(tx, item)` for every item of its group."""

    def __init__(self, fn: Callable[[Tx, Any], Any], name: str = "each") -> None:
        self.name = name
        self._fn = fn

    def __call__(self, tx: Tx, items: Sequence[Any]) -> Sequence[Any]:
        """Do the items one by one."""
        return [self._fn(tx, item) for item in items]


async def do(store: Store, fn: Callable[[Tx], R]) -> R:
    """Run `fn` in a transaction of its own kind."""
    answer: R = await store.submit(Each(lambda tx, _: fn(tx), f"do-{next(_NUMBERS)}"), None)
    return answer


def event(uid: str, **fields: Any) -> Event:
    """Make an event; its id is its uid unless given."""
    base: dict[str, Any] = {"sensor": "hook", "id": uid, "source": "test", "type": "t", "received_at": T0}
    return Event(uid=uid, **{**base, **fields})


def ingest(tx: Tx, item: Event) -> str:
    """Store an event unless its id is known; return the uid that stands for it."""
    uid = tx.new_event_ids([NewId(item.sensor, item.id, item.uid)])[item.sensor, item.id]
    if uid == item.uid:
        tx.insert_events([StoredEvent(item)])
    return uid


def run(uid: str, **fields: Any) -> Run:
    """Make a queued run of pipeline `p`."""
    base: dict[str, Any] = {
        "pipeline": "p",
        "definition": "hash",
        "state": RunState.QUEUED,
        "key": uid,
        "key_scope": "trigger/t",
        "created_at": T0,
    }
    return Run(uid=uid, **{**base, **fields})


def task(uid: str, run_uid: str, **fields: Any) -> TaskRun:
    """Make a pending task run."""
    return TaskRun(uid=uid, run=run_uid, **{"task": uid, **fields})


def fired(uid: str, events: Sequence[str], **fields: Any) -> Decision:
    """Make a decision of trigger `t`."""
    base: dict[str, Any] = {
        "trigger": "t",
        "version": "v1",
        "outcome": Outcome.FIRED,
        "at": T0,
        "reason": "it matched",
    }
    return Decision(uid=uid, events=events, **{**base, **fields})


def trigger_event(uid: str, events: Sequence[str], **fields: Any) -> TriggerEvent:
    """Make a trigger event of trigger `t` for pipeline `p`."""
    base: dict[str, Any] = {"trigger": "t", "version": "v1", "at": T0, "pipeline": "p", "key": uid}
    return TriggerEvent(uid=uid, events=events, **{**base, **fields})


async def add_runs(store: Store, *runs: Run) -> None:
    """Insert runs with one task each."""

    def insert(tx: Tx) -> None:
        tx.put_definitions({item.definition: "{}" for item in runs})
        tx.insert_runs(runs, [task(f"tsk_{item.uid}", item.uid) for item in runs])

    await do(store, insert)


async def claim(
    store: Store,
    limit: int = 100,
    *,
    holder: str = "me",
    lease: int = 60_000_000,
    grace: int = 0,
    concurrency: dict[str, int] | None = None,
) -> list[ClaimedRow]:
    """Claim for one holder."""
    rows = await do(store, lambda tx: tx.claim_runs([ClaimAsk(holder, limit, lease, grace)], concurrency or {}))
    return list(rows[0])


def uids(rows: Sequence[ClaimedRow]) -> list[str]:
    """Return the uids of claimed runs."""
    return [row.run.uid for row in rows]
