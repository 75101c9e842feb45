"""From new events to everything they cause, inside an open transaction.

In flow events that are new; out flow their rows, decisions, join keys, run keys, trigger events, runs with their task
runs, cancel requests, dead letters and exact counters, all through `tx`. The order of locks is that of the design:
event ids (taken by the caller), join keys, run keys, lanes. Nothing here waits or talks to anyone but the transaction;
it may be run again after a rollback.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipelines.executor import plan_tasks
from pipelines.run import CheckResult, Run, RunState, TaskRun
from sensors.batch import DeadLetter
from sensors.event import EMPTY, Event
from sensors.uid import ALERT, DEAD_LETTER, make_uid
from sensors.w3c import child_of, new_root
from tidegate.alerts.raising import raise_alerts
from tidegate.alerts.sources import letter_alerts, trigger_alerts
from tidegate.deadlines import set_deadlines
from tidegate.failpoints import FailPoint
from tidegate.joins import Met, meet
from tidegate.rules import Rules
from tidegate.store.records import CountKey, StoredEvent
from tidegate.store.tx import Tx
from triggers.decision import Decision
from triggers.evaluator import RuleSet
from triggers.flow import Admitted, RunStart, admit
from triggers.gather import Alarm, Gathering
from triggers.plan import Plan
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
    cancelled: list[str] = field(default_factory=list)  # runs that ended while they waited, still to be told of
    alarms: list[Alarm] = field(default_factory=list)  # keys that are overdue, still to be told of
    duplicates: int = 0
    alerts: int = 0  # rows of the outbox
    checks: list[CheckResult] = field(default_factory=list)
    told: bool = False  # to those who project them
    known: Mapping[str, str] = field(default_factory=lambda: EMPTY)  # contexts of events that were stored before


MintRoot = Callable[[], str]


class Sheet:
    """What all writing of one transaction shares: the transaction, the rules that judge, its moment, and fresh names.

    Uids of one sheet rise, so that decisions of one transaction sort in the order in which they were made.
    """

    __slots__ = ("_entropy", "facts", "fail_point", "mint_root", "now", "rules", "tx")

    def __init__(self, tx: Tx, rules: Rules, facts: Facts, fail_point: FailPoint, mint_root: MintRoot) -> None:
        self.tx = tx
        self.rules = rules
        self.facts = facts
        self.fail_point = fail_point
        self.mint_root = mint_root
        self.now = tx.now()
        self._entropy = int.from_bytes(os.urandom(10), "big") >> 1

    def uid(self, prefix: str) -> str:
        """Make a uid, greater than those made before."""
        self._entropy += 1
        return make_uid(prefix, self.now, self._entropy.to_bytes(10, "big"))

    def mint(self, parent: str | None) -> str:
        """Mint the context of a span below `parent`, or of a new trace."""
        return child_of(parent) if parent is not None else self.mint_root()


def absorb(
    tx: Tx,
    rules: Rules,
    incoming: Sequence[Incoming],
    shard: str,
    facts: Facts,
    fail_point: FailPoint,
    mint_root: MintRoot = new_root,
) -> None:
    """Judge new events and write all that follows. Fills `facts`."""
    if not incoming:
        return
    sheet = Sheet(tx, rules, facts, fail_point, mint_root)
    now, uid, mint = sheet.now, sheet.uid, sheet.mint
    spans = {item.event.uid: mint(item.parent) for item in incoming}
    events = [item.event for item in incoming]
    plan = rules.rules.plan(events, now, rules.paused, uid)
    dead = dict(plan.dead)
    stored = [StoredEvent(event, spans[event.uid], "dead" if event.uid in dead else "stored") for event in events]
    tx.insert_events(stored)
    fail_point("ingest.events")
    facts.events.extend(stored)
    for item in incoming:
        facts.parents[item.event.uid] = item.parent
    letters = [
        (uid(DEAD_LETTER), event.sensor, now, _dead_letter(event, dead[event.uid]))
        for event in events
        if event.uid in dead
    ]
    if letters:
        tx.insert_dead_letters(letters)
    counts: dict[CountKey, int] = dict(plan.counts)
    decisions = [*plan.decisions, *follow(sheet, rules.rules, plan, spans, counts)]
    if decisions:
        tx.insert_decisions(decisions)
        facts.decisions.extend(decisions)
    if rules.alerts.active:
        tell_judged(sheet, counts, decisions)
        tell_letters(tx, rules, letters, facts)
    fail_point("ingest.decided")
    if counts:
        tx.add_counts(shard, counts)


def follow(
    sheet: Sheet, ruleset: RuleSet, plan: Plan, spans: Mapping[str, str], counts: dict[CountKey, int]
) -> Sequence[Decision]:
    """Let the offers of a plan come to their keys, then carry out what it asks for and what that asks for.

    Returns the decisions that the caller stores. `spans` and `counts` as in `carry_out`.
    """

    def come(desk: Gathering) -> None:
        for offer in plan.offers:
            desk.offer(offer)

    if not plan.offers:
        return carry_out(sheet, plan, spans, counts)
    met = meet(sheet.tx, ruleset, plan.rounds(), come, sheet.uid)
    sheet.fail_point("join.met")
    return () if met is None else conclude(sheet, plan, met, spans, counts)


def conclude(
    sheet: Sheet, plan: Plan, met: Met, spans: Mapping[str, str], counts: dict[CountKey, int]
) -> Sequence[Decision]:
    """Carry out a plan together with what keys that met ask for; note what is to be told."""
    facts = sheet.facts
    for key, n in met.counts.items():
        counts[key] = counts.get(key, 0) + n
    facts.decisions.extend(met.opened)
    facts.alarms.extend(met.alarms)
    if met.spans:
        facts.known = {**facts.known, **met.spans}
    whole = replace(plan, intents=[*plan.intents, *met.intents])
    return [*met.decisions, *carry_out(sheet, whole, {**met.spans, **spans}, counts)]


def tell_judged(sheet: Sheet, counts: Mapping[CountKey, int], decisions: Sequence[Decision]) -> None:
    """Raise alerts of triggers that failed on events. Called while somebody is to be told."""
    rules = sheet.rules.alerts
    alerts = trigger_alerts(rules, counts, decisions, sheet.uid(ALERT), sheet.now)
    sheet.facts.alerts += raise_alerts(sheet.tx, rules, alerts)


def tell_letters(tx: Tx, rules: Rules, letters: Sequence[tuple[str, str, int, DeadLetter]], facts: Facts) -> None:
    """Raise alerts of dead letters. Called while somebody is to be told."""
    together: dict[str, list[tuple[str, DeadLetter]]] = {}
    for uid, sensor, _, letter in letters:
        together.setdefault(sensor, []).append((uid, letter))
    for sensor, mine in together.items():
        facts.alerts += raise_alerts(tx, rules.alerts, letter_alerts(rules.alerts, sensor, mine, tx.now()))


def carry_out(sheet: Sheet, plan: Plan, spans: Mapping[str, str], counts: dict[CountKey, int]) -> Sequence[Decision]:
    """Admit the intents of a plan and write the runs that follow; return their decisions, which the caller stores.

    `spans` maps event uids to the contexts of their `process` spans. What was decided is added to `counts`.
    """
    if not plan.intents:
        return ()
    tx = sheet.tx
    names, lane_names = plan.run_keys(), plan.lanes()
    keys = tx.lock_run_keys(names) if names else {}
    lanes = tx.lock_lanes(lane_names) if lane_names else {}
    admitted = admit(plan, keys, lanes, now=sheet.now, uid=sheet.uid, mint_span=sheet.mint, spans=spans)
    for key, n in admitted.counts.items():
        counts[key] = counts.get(key, 0) + n
    _write_runs(sheet, admitted)
    return admitted.decisions


def _write_runs(sheet: Sheet, admitted: Admitted) -> None:
    """Write what the admitted intents start, merge and stop."""
    tx, rules, facts = sheet.tx, sheet.rules, sheet.facts
    tx.put_run_keys(admitted.keys)
    tx.insert_trigger_events(admitted.trigger_events)
    facts.trigger_events.extend(admitted.trigger_events)
    runs: list[Run] = []
    tasks: list[TaskRun] = []
    definitions: dict[str, str] = {}
    for start in admitted.starts:
        pipeline = rules.pipelines[start.pipeline]
        definitions[pipeline.hash] = pipeline.text
        run = _new_run(start, pipeline.hash, rules.config_hash, sheet.now, sheet.mint_root)
        runs.append(run)
        tasks.extend(plan_tasks(pipeline.definition, run.uid, sheet.uid))
    if runs:
        tx.put_definitions(definitions)
        tx.insert_runs(runs, tasks)
        if rules.deadlines:
            set_deadlines(tx, rules.deadlines, runs)
        facts.runs.extend(runs)
    for run_uid, events, params in admitted.coalesce:
        tx.add_run_events(run_uid, events, params)
    for run_uid, reason in admitted.cancels:
        if tx.request_cancel(run_uid, reason) == RunState.CANCELLED:
            facts.cancelled.append(run_uid)
        facts.cancels.append((run_uid, reason))
    sheet.fail_point("ingest.runs")


def _new_run(start: RunStart, definition: str, config_hash: str, now: int, mint_root: MintRoot) -> Run:
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
        run_span=child_of(cause.span) if single and cause.span is not None else mint_root(),
        config_hash=config_hash,
        events=cause.events,
    )


def _dead_letter(event: Event, reason: str) -> DeadLetter:
    """Name an event that could not be judged; its bytes stay with the event."""
    return DeadLetter("unjudgeable", reason, f"{event.sensor}/{event.id}", event_uid=event.uid)
