"""A rule set with its memory on a bench: keys, lanes and what waits are kept as the store keeps them, in plain maps.

In flow events one at a time, and moments; out flow verdicts. The code that decides is the one that decides in the
service.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from sensors import uid as uids
from sensors.event import OWN_SENSOR, Event
from triggers.absence import Silence, armed
from triggers.calendar import next_tick
from triggers.decision import Decision, Outcome
from triggers.evaluator import RuleSet
from triggers.explain import explain
from triggers.firing import intents_of
from triggers.flow import Admitted, admit
from triggers.gather import Gathering
from triggers.lines import Lines
from triggers.passed import Passed
from triggers.pattern import Join
from triggers.pattern_rule import EVERYTHING
from triggers.plan import Intent, Plan
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.round import Phase, Round, RoundName


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one trigger did about one event (and element, with `each`), or about time that passed.

    Time that passed is an `event` of sensor `tidegate` and type `time.passed`; `received_at` is the moment.
    `run` is the uid of the run that was started, merged into, or stood in the way; `params`, `key`, `partition` and
    `lane` are those of a run that was started. `events` are the uids of all events concerned; `missing` names the
    parts that had not come.
    """

    trigger: str
    event: Event
    outcome: Outcome
    reason: str
    item: int | None = None
    pipeline: str | None = None
    run: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    partition: str | None = None
    lane: str | None = None
    events: Sequence[str] = ()
    missing: Sequence[str] = ()


class Bench:
    """Judges events and lets time pass."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        self._keys: dict[RunKeyName, RunKeyState] = {}
        self._lanes: dict[LaneName, list[str]] = {}
        self._rounds: dict[RoundName, Round] = {}
        self._lines = Lines()
        self._events: dict[str, Event] = {}
        self._ticks: dict[str, int] = {}
        self._begun = False
        self._numbers = count(1)

    def judge(self, one: Event, now: int) -> list[Verdict]:
        """Judge one event."""
        paused = {
            name: rule.trigger.paused for name, rule in self._rules.rules.items() if rule.trigger.paused is not None
        }
        self._begin(now)
        self._events[one.uid] = one
        plan = self._rules.plan([one], now, paused, self._uid(now))

        def come(desk: Gathering) -> None:
            for offer in plan.offers:
                desk.offer(offer)

        decided: dict[str, list[Verdict]] = {}
        for verdict in self._settle(one, now, plan, come):
            decided.setdefault(verdict.trigger, []).append(verdict)
        verdicts: list[Verdict] = []
        for name in self._rules.rules:
            verdicts += decided.get(name) or self._unmentioned(name, one, now)
        return verdicts

    def pass_time(self, now: int) -> list[Verdict]:
        """Let everything come about that is due by a moment, in the order of its time."""
        self._begin(now)
        verdicts: list[Verdict] = []
        while True:
            due = [(state.due, 1, state.name) for state in self._rounds.values() if state.phase is Phase.OPEN]
            due += [(tick, 0, RoundName(name, "")) for name, tick in self._ticks.items()]
            due += [(at, 2, name) for at, name in self._lines.due()[:1]]
            if not due or min(due)[0] > now:
                return verdicts
            at, kind, name = min(due)
            if kind == 2:
                passed = self._lines.ring(self._rules.rules, name, at, self._uid(at))
                verdicts += self._settle(None, at, self._nothing(), lambda _: None, passed)
            elif kind == 1:
                uid = self._rounds[name].uid
                verdicts += self._settle(None, at, self._nothing(), lambda desk: desk.ring(name, uid, _heard))  # noqa: B023
            else:
                verdicts += self._open(name.trigger, at)

    def _open(self, trigger: str, tick: int) -> list[Verdict]:
        pattern = self._rules.rules[trigger].pattern
        if pattern is None or not isinstance(pattern.pattern, Join) or pattern.pattern.opens is None:
            return []
        self._ticks[trigger] = next_tick(pattern.pattern.opens.cron, pattern.pattern.timezone, tick)
        name = RoundName(trigger, pattern.key_at(tick))
        return self._settle(None, tick, self._nothing(), lambda desk: desk.open_at(name, tick))

    def _begin(self, now: int) -> None:
        """Set calendars going and begin silences, once."""
        if self._begun:
            return
        self._begun = True
        for trigger, rule in self._rules.rules.items():
            pattern = rule.pattern
            if pattern is None:
                continue
            if isinstance(pattern.pattern, Join) and pattern.pattern.opens is not None:
                self._ticks[trigger] = next_tick(pattern.pattern.opens.cron, pattern.pattern.timezone, now - 1)
            elif pattern.silent_at_start and isinstance(pattern.machine, Silence):
                name = RoundName(trigger, EVERYTHING)
                new = self._uid(now)
                self._rounds[name] = armed(pattern.machine, Round(name=name), now, lambda new=new: new(uids.DECISION))  # type: ignore[misc]

    def _nothing(self) -> Plan:
        return Plan(config_hash=self._rules.config_hash)

    def _settle(
        self,
        one: Event | None,
        now: int,
        plan: Plan,
        act: Callable[[Gathering], None],
        passed: Passed | None = None,
    ) -> list[Verdict]:
        """Do what a transaction does: rounds, then run keys and lanes."""
        uid = self._uid(now)
        desk = Gathering(self._rules.rules, self._rounds, now=now, uid=uid, config_hash=self._rules.config_hash)
        act(desk)
        met = desk.gathered()
        if passed is None:
            passed = self._lines.enter(self._rules.rules, plan.passes, now, uid)
        self._rounds.update({state.name: state for state in met.rounds})
        intents: list[Intent] = [*plan.intents, *passed.intents]
        decisions = [*plan.decisions, *met.decisions, *(waits.decision for waits in met.waiting)]
        decisions += [*passed.decisions, *(waits.decision for waits in passed.waiting)]
        missing: dict[str, Sequence[str]] = {}
        for firing in (*met.firings, *passed.firings):
            asked, errors = intents_of(firing, self._events, now, uid)
            intents += asked
            decisions += errors
            missing.update({intent.trigger_event: firing.verdict.missing for intent in asked})
        whole = Plan(config_hash=plan.config_hash, intents=intents, concurrency=plan.concurrency)
        lanes = {name: LaneState(name, queued=tuple(self._lanes.get(name, ()))) for name in whole.lanes()}
        admitted = admit(
            whole, self._keys, lanes, now=now, uid=uid, mint_span=lambda _: f"00-{'0' * 31}1-{'0' * 15}1-01"
        )
        self._remember(admitted)
        about = one if one is not None else _passed(now)
        told = [
            _verdict(about, decision, None, admitted, decision.details.get("missing", ())) for decision in decisions
        ]
        for decision, intent in zip(admitted.decisions, intents, strict=True):
            lacked = missing.get(intent.trigger_event, ())
            told.append(_verdict(about, decision, intent.pipeline, admitted, lacked))
        return told

    def _unmentioned(self, name: str, one: Event, now: int) -> Sequence[Verdict]:
        """Tell why a trigger is silent: its decision was filtered or alike, and no sample of it was kept."""
        paused = self._rules.rules[name].trigger.paused
        explanation = explain(self._rules, name, one, now=now, paused=paused)
        if explanation.outcome is None:
            return ()
        return (Verdict(trigger=name, event=one, outcome=explanation.outcome, reason=explanation.reason),)

    def _remember(self, admitted: Admitted) -> None:
        self._keys.update({state.name: state for state in admitted.keys})
        for start in admitted.starts:
            for lane in {start.trigger_event.lane or "", ""}:
                self._lanes.setdefault(LaneName(start.pipeline, lane), []).append(start.run_uid)
        for run, _ in admitted.cancels:
            for runs in self._lanes.values():
                if run in runs:
                    runs.remove(run)

    def _uid(self, now: int) -> Callable[[str], str]:
        return lambda prefix: uids.make_uid(prefix, now, next(self._numbers).to_bytes(10, "big"))


def _passed(now: int) -> Event:
    """Return what stands for the time that has passed."""
    return Event(
        sensor=OWN_SENSOR,
        id=str(now),
        uid=uids.make_uid(uids.EVENT, now, bytes(10)),
        source="/time",
        type="time.passed",
        received_at=now,
    )


def _heard(since: int, until: int) -> int:
    return until - since


def _verdict(
    one: Event, decision: Decision, pipeline: str | None, admitted: Admitted, missing: Sequence[str]
) -> Verdict:
    started = next((fired for fired in admitted.trigger_events if fired.uid == decision.trigger_event), None)
    return Verdict(
        trigger=decision.trigger,
        event=one,
        outcome=decision.outcome,
        reason=decision.reason,
        item=decision.item,
        pipeline=pipeline,
        run=decision.run,
        params=started.params if started else {},
        key=started.key if started else None,
        partition=started.partition if started else None,
        lane=started.lane if started else None,
        events=tuple(decision.events),
        missing=tuple(missing),
    )
