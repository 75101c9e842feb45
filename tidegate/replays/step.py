"""One step of a replay: a page of causes becomes runs, and the replay moves on, in one transaction.

In flow a page that was read without a lock; out flow decisions, trigger events and runs, the note of which run stands
for what, exact counts, and the new position: all of it or nothing, so that a death between two steps loses and doubles
nothing. A step is refused when the replay does not stand where the page begins (another replica was there first), has
ended, is somebody else's, or is not due yet.

A replay adds a generation to the key of what it replays, whatever `repeat` says, and its runs always wait in line,
whatever `when_busy` says: a person asked for them, so none is merged away or skipped, and none cancels another. Events,
open decisions, and what joins and flows hold are not touched. A replayed run starts a trace of its own, with links to
the events and to the run that it replays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.executor import plan_tasks
from pipelines.run import Run, RunState, TaskRun
from sensors.uid import TRIGGER_EVENT
from tidegate.absorb import Facts, MintRoot, Sheet
from tidegate.failpoints import FailPoint
from tidegate.replays.position import Position, read_position
from tidegate.replays.selecting import PAGE, Page
from tidegate.replays.tally import Tally
from tidegate.replays.wanting import Wanted, Wants, want
from tidegate.rules import Rules, RulesInForce
from tidegate.store.replay_records import Replay, ReplayedRun, ReplayState
from tidegate.store.tx import Tx
from triggers.decision import Decision
from triggers.flow import RunStart, admit
from triggers.plan import Intent, Plan
from triggers.ports import RunKeyName, RunKeyState

_EVERYTHING = 2**31
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class StepAsk:
    """A page for a replay that stood at `position`. `lease` µs from now nobody else works at it.

    `refused` says why the store cannot hold what the (one) cause of the page asks for: it is counted and passed over.
    """

    replay: str
    position: str
    page: Page
    holder: str
    lease: int
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Stepped:
    """The answer: the replay as it stands now (None: it is gone), whether this step moved it, and the facts."""

    replay: Replay | None
    moved: bool
    facts: Facts


def room_of(rate: float | None, *, dry_run: bool) -> int:
    """Return how many runs one step may start: a tenth of a second's worth, at least one."""
    if dry_run:
        return _EVERYTHING
    return PAGE if rate is None else max(1, min(PAGE, int(rate / 10)))


class StepReplay:
    """The write that moves replays on. One instance per process; `shard` names its counters."""

    name = "replay"

    def __init__(self, rules: RulesInForce, shard: str, fail_point: FailPoint, mint_root: MintRoot) -> None:
        self._rules = rules
        self._shard = shard
        self._fail_point = fail_point
        self._mint_root = mint_root

    def __call__(self, tx: Tx, items: Sequence[StepAsk]) -> Sequence[Stepped]:
        """Move the replays of all asks, one by one."""
        return [self._step(tx, item) for item in items]

    def _step(self, tx: Tx, ask: StepAsk) -> Stepped:
        replay = tx.lock_replay(ask.replay)
        facts = Facts()
        now = tx.now()
        if replay is None or not _may(replay, ask, now):
            return Stepped(replay, moved=False, facts=facts)
        self._fail_point("replay.begun")
        rules = self._rules.current
        tally = Tally(replay.counts, replay.samples)
        if ask.refused:
            cause = ask.page.causes[0]
            if read_position(replay.position).within != cause.uid:
                tally.look()
            tally.add("error", cause.uid, f"the store cannot hold it: {ask.refused}")
            wants = Wants(position=Position(cause.place), done=ask.page.done)
        else:
            room = room_of(replay.spec.rate, dry_run=replay.spec.dry_run)
            wants = want(tx, rules, replay, ask.page, room, tally)
        if replay.spec.dry_run:
            for one in wants.runs:
                _tell(tally, one)
        elif wants.runs:
            tally.counts["started"] = tally.counts.get("started", 0) + len(wants.runs)
            sheet = Sheet(tx, rules, facts, self._fail_point, self._mint_root)
            _Starting(sheet, replay, self._shard).start(wants.runs)
            self._fail_point("replay.started")
        if wants.judged and not replay.spec.dry_run:
            tx.mark_letters(dict.fromkeys(wants.judged, replay.uid))
        moved = replace(
            replay,
            state=ReplayState.SUCCEEDED if wants.done else ReplayState.RUNNING,
            position=wants.position.text(),
            counts=tally.counts,
            samples=tally.samples,
            next_at=_next(replay, len(wants.runs), now),
            holder="" if wants.done else ask.holder,
            lease_until=0 if wants.done else now + ask.lease,
            finished_at=now if wants.done else None,
            reason="",
        )
        tx.put_replay(moved)
        self._fail_point("replay.moved")
        return Stepped(moved, moved=True, facts=facts)


def _may(replay: Replay, ask: StepAsk, now: int) -> bool:
    """Say whether a step may be made: the replay stands where the page begins, is due, and is nobody else's."""
    if replay.state.final or replay.position != ask.position or replay.next_at > now:
        return False
    return replay.holder in ("", ask.holder) or replay.lease_until <= now


def _next(replay: Replay, started: int, now: int) -> int:
    """Return when the next step is due, so that no more runs are started than the rate allows.

    The time of a step that came late is not made up for, but for a second: a service that stood still does not burst.
    """
    rate = replay.spec.rate
    if rate is None or replay.spec.dry_run or not started:
        return replay.next_at
    begin = max(replay.next_at, now - _SECOND) if replay.next_at else now
    return begin + round(started * _SECOND / rate)


def _tell(tally: Tally, one: Wanted) -> None:
    """Count a run that a dry run would start, and show a few."""
    intent = one.intent
    cause, trigger, _, item = one.stands_for
    origin = "" if one.origin is None else f", again after run {one.origin.uid} ({one.origin.state})"
    key = f" for key {intent.key.key!r}" if intent.key.key else ""
    tally.add(
        "started",
        cause,
        f"would start pipeline {intent.pipeline}{key}{origin}",
        trigger=trigger,
        item=None if item < 0 else item,
        pipeline=intent.pipeline,
        partition=intent.partition,
        origin=None if one.origin is None else one.origin.uid,
    )


class _Starting:
    """Writes the runs of one step."""

    def __init__(self, sheet: Sheet, replay: Replay, shard: str) -> None:
        self._sheet = sheet
        self._replay = replay
        self._shard = shard

    def start(self, wanted: Sequence[Wanted]) -> None:
        """Admit and write them in order."""
        sheet, tx = self._sheet, self._sheet.tx
        intents = [self._intent(one) for one in wanted]
        plan = Plan(config_hash=sheet.rules.config_hash, intents=intents, concurrency=dict(sheet.rules.concurrency))
        keys = self._keys(plan, wanted)
        lanes = plan.lanes()
        admitted = admit(
            plan, keys, tx.lock_lanes(lanes) if lanes else {}, now=sheet.now, uid=sheet.uid, mint_span=sheet.mint
        )
        if len(admitted.starts) != len(wanted):
            raise AssertionError("a run of a replay was not admitted")
        starts = [_as_then(start, one) for start, one in zip(admitted.starts, wanted, strict=True)]
        tx.put_run_keys(admitted.keys)
        fired = [start.trigger_event for start in starts]
        tx.insert_trigger_events(fired)
        sheet.facts.trigger_events.extend(fired)
        self._insert(starts)
        decisions = [self._told(decision, one) for decision, one in zip(admitted.decisions, wanted, strict=True)]
        tx.insert_decisions(decisions)
        sheet.facts.decisions.extend(decisions)
        tx.insert_replayed(
            [
                ReplayedRun(
                    self._replay.uid, *one.stands_for, start.run_uid, None if one.origin is None else one.origin.uid
                )
                for one, start in zip(wanted, starts, strict=True)
            ]
        )
        tx.add_counts(self._shard, admitted.counts)
        causes = list(dict.fromkeys(uid for one in wanted for uid in one.intent.events))
        sheet.facts.known = tx.get_spans(causes)
        sheet.facts.replays = {
            start.trigger_event.uid: one.origin.run_span
            for one, start in zip(wanted, starts, strict=True)
            if one.origin is not None and one.origin.run_span is not None
        }

    def _intent(self, one: Wanted) -> Intent:
        uid = self._sheet.uid(TRIGGER_EVENT)
        name = one.intent.key
        why = f"replay {self._replay.uid}" + ("" if one.origin is None else f" of run {one.origin.uid}")
        key = name if name.key else RunKeyName(name.scope, name.pipeline, uid)
        return replace(one.intent, trigger_event=uid, key=key, why=why)

    def _keys(self, plan: Plan, wanted: Sequence[Wanted]) -> dict[RunKeyName, RunKeyState]:
        """Lock the keys. One that names a trigger event has no row yet: what it stands for was its first generation."""
        keys = dict(self._sheet.tx.lock_run_keys(plan.run_keys()))
        for intent, one in zip(plan.intents, wanted, strict=True):
            origin, state = one.origin, keys[intent.key]
            if origin is not None and origin.pipeline == intent.pipeline and state.generation < origin.generation:
                keys[intent.key] = RunKeyState(intent.key, origin.generation, origin.uid, str(origin.state))
        return keys

    def _insert(self, starts: Sequence[RunStart]) -> None:
        sheet, rules = self._sheet, self._sheet.rules
        runs: list[Run] = []
        tasks: list[TaskRun] = []
        for start in starts:
            run = _run(start, sheet.rules, sheet)
            runs.append(run)
            tasks.extend(plan_tasks(rules.pipelines[start.pipeline].definition, run.uid, sheet.uid))
        used = {start.pipeline for start in starts}
        sheet.tx.put_definitions({rules.pipelines[name].hash: rules.pipelines[name].text for name in used})
        sheet.tx.insert_runs(runs, tasks)
        sheet.facts.runs.extend(runs)

    def _told(self, decision: Decision, one: Wanted) -> Decision:
        origin = {} if one.origin is None else {"replayed_from": one.origin.uid}
        return replace(decision, details={**decision.details, "replay": self._replay.uid, **origin})


def _as_then(start: RunStart, one: Wanted) -> RunStart:
    """Let a trigger event that is repeated name the configuration by which it fired."""
    if one.fired is None:
        return start
    return replace(start, trigger_event=replace(start.trigger_event, config_hash=one.fired.config_hash))


def _run(start: RunStart, rules: Rules, sheet: Sheet) -> Run:
    """Build the queued run of one start, with a RUN span that is the root of its own trace."""
    cause = start.trigger_event
    return Run(
        uid=start.run_uid,
        pipeline=start.pipeline,
        definition=rules.pipelines[start.pipeline].hash,
        state=RunState.QUEUED,
        key=start.key,
        key_scope=start.scope,
        created_at=sheet.now,
        generation=start.generation,
        trigger=cause.trigger,
        trigger_event=cause.uid,
        params=cause.params,
        partition=cause.partition,
        lane=cause.lane,
        depth=start.depth,
        span=cause.span,
        run_span=sheet.mint_root(),
        config_hash=rules.config_hash,
        events=cause.events,
    )
