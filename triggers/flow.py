"""Flow control: intents and the locked state of keys and lanes become runs, coalesced runs, or refusals.

In flow a plan and the rows it named; out flows all that the ingest transaction writes. Intents are admitted in their
order, each seeing what the ones before it did, exactly as if every one had been a transaction of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sensors import uid as uids
from triggers.decision import Clause, Decision, Outcome
from triggers.plan import CountKey, Intent, Plan
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.trigger import Repeat, WhenBusy
from triggers.trigger_event import TriggerEvent

DEFAULT_CONCURRENCY = 16
_NO_SPANS: Mapping[str, str] = MappingProxyType({})
_AGAIN = frozenset({"failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """A run to insert, queued. `key`, `scope` and `generation` name it for ever; `depth` is its deepest cause's."""

    run_uid: str
    trigger_event: TriggerEvent
    pipeline: str
    key: str
    scope: str
    generation: int
    repeat: Repeat
    depth: int
    priority: int = 0
    resumed_from: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """All that follows from a plan, to be written in this order: trigger events, starts, keys, coalesce, cancels,
    decisions.

    `coalesce` are (run uid, event uids, newer params): the run is queued, perhaps since this very call. `cancels` are
    (run uid, reason); such a run may be one of `starts`. `decisions` hold one per intent; those that the plan had
    settled are not repeated. `counts` hold only what was decided here.
    """

    trigger_events: Sequence[TriggerEvent] = ()
    starts: Sequence[RunStart] = ()
    decisions: Sequence[Decision] = ()
    keys: Sequence[RunKeyState] = ()
    coalesce: Sequence[tuple[str, tuple[str, ...], Mapping[str, Any]]] = ()
    cancels: Sequence[tuple[str, str]] = ()
    counts: Mapping[CountKey, int] = field(default_factory=dict)


def admit(
    plan: Plan,
    keys: Mapping[RunKeyName, RunKeyState],
    lanes: Mapping[LaneName, LaneState],
    *,
    now: int,
    uid: Callable[[str], str],
    mint_span: Callable[[str | None], str],
    spans: Mapping[str, str] = _NO_SPANS,
) -> Admitted:
    """Admit the intents of a plan, in order.

    `keys` and `lanes` are the locked rows of `plan.run_keys()` and `plan.lanes()`; `now` is UTC microseconds; `uid`
    makes a uid of a prefix; `mint_span(parent)` makes the traceparent of a span below `parent` (None: of a new
    trace); `spans` maps event uids to the traceparent of their `process` span. A run caused by exactly one event
    continues its trace.
    """
    if not plan.intents:
        return _NOTHING
    desk = _Desk(plan, keys, lanes, now=now, uid=uid, mint_span=mint_span, spans=spans)
    for intent in plan.intents:
        desk.admit(intent)
    return desk.admitted()


_NOTHING = Admitted()


class _Desk:
    """Admits one plan: the state of keys and lanes as it changes, and what is to be written."""

    def __init__(
        self,
        plan: Plan,
        keys: Mapping[RunKeyName, RunKeyState],
        lanes: Mapping[LaneName, LaneState],
        *,
        now: int,
        uid: Callable[[str], str],
        mint_span: Callable[[str | None], str],
        spans: Mapping[str, str],
    ) -> None:
        self._plan = plan
        self._keys = dict(keys)
        self._active = {name: list(state.active) for name, state in lanes.items()}
        self._queued = {name: list(state.queued) for name, state in lanes.items()}
        self._now = now
        self._uid = uid
        self._mint_span = mint_span
        self._spans = spans
        self._written: dict[RunKeyName, RunKeyState] = {}
        self._trigger_events: list[TriggerEvent] = []
        self._starts: list[RunStart] = []
        self._decisions: list[Decision] = []
        self._coalesce: list[tuple[str, tuple[str, ...], Mapping[str, Any]]] = []
        self._cancels: list[tuple[str, str]] = []
        self._counts: dict[CountKey, int] = {}

    def admitted(self) -> Admitted:
        """Return all that is to be written."""
        return Admitted(
            trigger_events=self._trigger_events,
            starts=self._starts,
            decisions=self._decisions,
            keys=[self._written[name] for name in sorted(self._written)],
            coalesce=self._coalesce,
            cancels=self._cancels,
            counts=self._counts,
        )

    def admit(self, intent: Intent) -> None:
        """Admit one intent: first its key, then whether there is room."""
        state = self._keys.get(intent.key, RunKeyState(intent.key)) if intent.keyed else None
        if state is not None and self._is_repeat(intent, state):
            return
        if intent.when_busy is WhenBusy.QUEUE:
            self._start(intent, state, "started")
            return
        busy = self._busy(intent)
        if not busy:
            self._start(intent, state, "started")
        elif intent.when_busy is WhenBusy.SKIP:
            occupants = self._occupants(intent)
            self._decide(
                intent,
                Outcome.SKIPPED_BUSY,
                f"{busy}; when_busy is skip",
                clause=Clause("when_busy", "skip", "room for a run", busy),
                run=occupants[0] if occupants else None,
            )
        elif intent.when_busy is WhenBusy.COALESCE:
            self._merge(intent, state, busy)
        else:
            self._replace(intent, state, busy)

    def _is_repeat(self, intent: Intent, state: RunKeyState) -> bool:
        if state.generation == 0 or intent.repeat is Repeat.ALWAYS:
            return False
        if intent.repeat is Repeat.RETRY_FAILED and state.last_state in _AGAIN:
            return False
        what = f"key {intent.key.key!r} was used before (generation {state.generation})"
        if state.last_run is not None:
            what += f" by run {state.last_run}, {state.last_state or 'no longer kept'}"
        wanted = (
            "a key never used"
            if intent.repeat is Repeat.SKIP
            else "a key never used, or whose last run failed or was cancelled"
        )
        self._decide(
            intent,
            Outcome.DUPLICATE,
            f"{what}; repeat is {intent.repeat.value}",
            clause=Clause("repeat", intent.repeat.value, wanted, what),
            run=state.last_run,
        )
        return True

    # -- room -----------------------------------------------------------------------------------------------------
    def _limit(self, pipeline: str) -> int:
        return self._plan.concurrency.get(pipeline, DEFAULT_CONCURRENCY)

    def _busy(self, intent: Intent) -> str:
        """Say in words why there is no room, "" when there is."""
        if intent.lane:
            lane = LaneName(intent.pipeline, intent.lane)
            if self._active.get(lane) or self._queued.get(lane):
                return f"lane {intent.lane!r} of pipeline {intent.pipeline} is occupied"
        whole = LaneName(intent.pipeline, "")
        under_way = len(self._active.get(whole, ())) + len(self._queued.get(whole, ()))
        limit = self._limit(intent.pipeline)
        if under_way >= limit:
            return f"pipeline {intent.pipeline} has {under_way} runs under way or waiting of {limit} at once"
        return ""

    def _occupants(self, intent: Intent) -> list[str]:
        """Return the runs in the way, oldest first: those of the lane, else those of the pipeline."""
        if intent.lane:
            lane = LaneName(intent.pipeline, intent.lane)
            runs = [*self._active.get(lane, ()), *self._queued.get(lane, ())]
            if runs:
                return runs
        whole = LaneName(intent.pipeline, "")
        return [*self._active.get(whole, ()), *self._queued.get(whole, ())]

    def _merge(self, intent: Intent, state: RunKeyState | None, busy: str) -> None:
        """Merge into the youngest run that waits in the lane (in the pipeline, without one); else wait as the first."""
        waiting = self._queued.get(LaneName(intent.pipeline, intent.lane or ""))
        if not waiting:
            self._start(intent, state, f"waits: {busy}; what arrives meanwhile is merged into it")
            return
        run = waiting[-1]
        self._coalesce.append((run, intent.events, intent.params))
        self._use_key(state, run)
        self._decide(
            intent,
            Outcome.COALESCED,
            f"merged into waiting run {run}: {busy}",
            clause=Clause("when_busy", "coalesce", "room for a run", busy),
            run=run,
        )

    def _replace(self, intent: Intent, state: RunKeyState | None, busy: str) -> None:
        """Cancel what is in the way: all of the lane; without one the oldest of the pipeline until there is room.

        Other lanes are left alone: the newest event of each counts, so in a pipeline that is full this one waits.
        """
        reason = f"replaced by a newer event of trigger {intent.trigger} (when_busy: cancel_running)"
        if intent.lane:
            lane = LaneName(intent.pipeline, intent.lane)
            runs = [*self._active.get(lane, ()), *self._queued.get(lane, ())]
        else:
            whole = LaneName(intent.pipeline, "")
            runs = [*self._active.get(whole, ()), *self._queued.get(whole, ())]
            runs = runs[: max(0, len(runs) - self._limit(intent.pipeline) + 1)]
        for run in runs:
            self._cancel(run, intent.pipeline, reason)
        self._start(intent, state, f"started in place of what ran: {busy}" if runs else f"waits: {busy}")

    def _cancel(self, run: str, pipeline: str, reason: str) -> None:
        was_queued = False
        for name, runs in self._queued.items():
            if name.pipeline == pipeline and run in runs:
                runs.remove(run)
                was_queued = True
        for name, runs in self._active.items():
            if name.pipeline == pipeline and run in runs:
                runs.remove(run)
        self._cancels.append((run, reason))
        after = "cancelled" if was_queued else "cancelling"
        for key, state in self._keys.items():
            if state.last_run == run:
                self._keys[key] = RunKeyState(key, state.generation, run, after)
                if key in self._written:
                    self._written[key] = self._keys[key]

    # -- writing --------------------------------------------------------------------------------------------------
    def _use_key(self, state: RunKeyState | None, run: str) -> int:
        if state is None:
            return 1
        used = RunKeyState(state.name, state.generation + 1, run, "queued")
        self._keys[state.name] = used
        self._written[state.name] = used
        return used.generation

    def _start(self, intent: Intent, state: RunKeyState | None, how: str) -> None:
        run = self._uid(uids.RUN)
        for lane in {LaneName(intent.pipeline, intent.lane or ""), LaneName(intent.pipeline, "")}:
            if lane in self._queued:
                self._queued[lane].append(run)
        generation = self._use_key(state, run)
        span = self._mint_span(self._spans.get(intent.events[0]) if len(intent.events) == 1 else None)
        fired = TriggerEvent(
            uid=intent.trigger_event,
            trigger=intent.trigger,
            version=intent.version,
            at=self._now,
            events=intent.events,
            pipeline=intent.pipeline,
            key=intent.key.key,
            params=intent.params,
            partition=intent.partition,
            lane=intent.lane,
            span=self._mint_span(span),
            config_hash=self._plan.config_hash,
        )
        self._trigger_events.append(fired)
        self._starts.append(
            RunStart(
                run_uid=run,
                trigger_event=fired,
                pipeline=intent.pipeline,
                key=intent.key.key,
                scope=intent.key.scope,
                generation=generation,
                repeat=intent.repeat,
                depth=intent.depth,
                priority=intent.priority,
            )
        )
        again = f", generation {generation} of key {intent.key.key!r}" if generation > 1 else ""
        self._decide(intent, Outcome.FIRED, f"run {run} {how}{again}", run=run, trigger_event=fired.uid, span=span)

    def _decide(
        self,
        intent: Intent,
        outcome: Outcome,
        reason: str,
        *,
        clause: Clause | None = None,
        run: str | None = None,
        trigger_event: str | None = None,
        span: str | None = None,
    ) -> None:
        self._decisions.append(
            Decision(
                uid=self._uid(uids.DECISION),
                trigger=intent.trigger,
                version=intent.version,
                events=intent.events,
                outcome=outcome,
                at=self._now,
                reason=f"{intent.why}; {reason}" if intent.why else reason,
                clause=clause,
                trigger_event=trigger_event,
                run=run,
                item=intent.item,
                span=span,
                details={"rule": intent.rule, "pipeline": intent.pipeline} if intent.rule else {},
            )
        )
        count = ("trigger", intent.trigger, outcome.value)
        self._counts[count] = self._counts.get(count, 0) + 1
