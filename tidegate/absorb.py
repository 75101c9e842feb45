"""From new events to everything they cause, inside an open transaction.

In flow events that are new; out flow their rows, decisions, run keys, trigger events, runs with their task runs, cancel
requests, dead letters and exact counters, all through `tx`. The order of locks is that of the design: event ids (taken by
the caller), run keys, lanes. Nothing here waits or talks to anyone but the transaction; it may be run again after a rollback.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipelines.executor import plan_tasks
from pipelines.run import Run, RunState, TaskRun
from sensors.batch import DeadLetter
from sensors.event import Event
from sensors.uid import DEAD_LETTER, new_uid
from sensors.w3c import child_of, new_root
from tidegate.failpoints import FailPoint
from tidegate.rules import Rules
from tidegate.store.tx import CountKey, StoredEvent, Tx
from triggers.decision import Decision
from triggers.flow import Admitted, RunStart, admit
from triggers.trigger_event import TriggerEvent


@dataclass(frozen=True, slots=True)
class Incoming:
    """A new event with the context of the span above its `process` span (None: start a trace of its own)."""

    event: Event
    parent: str | None = None


@dataclass(slots=True)
class Facts:
    """What one transaction made durable, for the projections that are built after it."""

    events: list[StoredEvent] = field(default_factory=list)
    parents: dict[str, str | None] = field(default_factory=dict)  # event uid -> context above it
    decisions: list[Decision] = field(default_factory=list)
    trigger_events: list[TriggerEvent] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    cancels: list[tuple[str, str]] = field(default_factory=list)
    duplicates: int = 0


MintRoot = Callable[[], str]


def absorb(
    tx: Tx, rules: Rules, incoming: Sequence[Incoming], shard: str, facts: Facts, fail_point: FailPoint, mint_root: MintRoot = new_root
) -> None:
    """Judge new events and write all that follows. Fills `facts`."""
    if not incoming:
        return
    now = tx.now()

    def uid(prefix: str) -> str:
        return new_uid(prefix, now)

    def mint(parent: str | None) -> str:
        return child_of(parent) if parent is not None else mint_root()

    spans = {item.event.uid: mint(item.parent) for item in incoming}
    events = [item.event for item in incoming]
    plan = rules.rules.plan(events, now, rules.paused, uid)
    dead = dict(plan.dead)
    stored = [StoredEvent(event, spans[event.uid], "dead" if event.uid in dead else "stored") for event in events]
    tx.insert_events(stored)
    fail_point("ingest.events")
    counts: dict[CountKey, int] = dict(plan.counts)
    decisions = list(plan.decisions)
    facts.events.extend(stored)
    for item in incoming:
        facts.parents[item.event.uid] = item.parent
    if dead:
        tx.insert_dead_letters(
            [(uid(DEAD_LETTER), event.sensor, now, _dead_letter(event, dead[event.uid])) for event in events if event.uid in dead]
        )
    if plan.intents:
        names, lane_names = plan.run_keys(), plan.lanes()
        keys = tx.lock_run_keys(names) if names else {}
        lanes = tx.lock_lanes(lane_names) if lane_names else {}
        admitted = admit(plan, keys, lanes, now=now, uid=uid, mint_span=mint, spans=spans)
        decisions.extend(admitted.decisions)
        for key, n in admitted.counts.items():
            counts[key] = counts.get(key, 0) + n
        _write_runs(tx, rules, admitted, now, uid, facts, fail_point)
    if decisions:
        tx.insert_decisions(decisions)
        facts.decisions.extend(decisions)
    fail_point("ingest.decided")
    if counts:
        tx.add_counts(shard, counts)


def _write_runs(
    tx: Tx, rules: Rules, admitted: Admitted, now: int, uid: Callable[[str], str], facts: Facts, fail_point: FailPoint
) -> None:
    """Write what the admitted intents start, merge and stop."""
    tx.put_run_keys(admitted.keys)
    tx.insert_trigger_events(admitted.trigger_events)
    facts.trigger_events.extend(admitted.trigger_events)
    runs: list[Run] = []
    tasks: list[TaskRun] = []
    definitions: dict[str, str] = {}
    for start in admitted.starts:
        pipeline = rules.pipelines[start.pipeline]
        definitions[pipeline.hash] = pipeline.text
        run = _new_run(start, pipeline.hash, rules.config_hash, now)
        runs.append(run)
        tasks.extend(plan_tasks(pipeline.definition, run.uid, uid))
    if runs:
        tx.put_definitions(definitions)
        tx.insert_runs(runs, tasks)
        facts.runs.extend(runs)
    for run_uid, events, params in admitted.coalesce:
        tx.add_run_events(run_uid, events, params)
    for run_uid, reason in admitted.cancels:
        tx.request_cancel(run_uid, reason)
        facts.cancels.append((run_uid, reason))
    fail_point("ingest.runs")


def _new_run(start: RunStart, definition: str, config_hash: str, now: int) -> Run:
    """Build the queued run of one start. The RUN span's context is minted here so that a restart keeps it."""
    cause = start.trigger_event
    single = len(cause.events) == 1 and cause.span is not None
    return Run(
        uid=start.run_uid,
        pipeline=start.pipeline,
        definition=definition,
        state=RunState.QUEUED,
        key=start.key,
        key_scope=start.scope,
        created_at=now,
        generation=start.generation,
        trigger=cause.trigger,
        trigger_event=cause.uid,
        params=cause.params,
        partition=cause.partition,
        lane=cause.lane,
        depth=start.depth,
        span=cause.span,
        run_span=child_of(cause.span) if single and cause.span is not None else new_root(),
        config_hash=config_hash,
        events=cause.events,
    )


def _dead_letter(event: Event, reason: str) -> DeadLetter:
    """Name an event that could not be judged; its bytes stay with the event."""
    return DeadLetter("unjudgeable", reason, f"{event.sensor}/{event.id}", event_uid=event.uid)
