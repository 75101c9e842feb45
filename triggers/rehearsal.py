"""A rule set rehearsed: the code that decides in the service, over a memory that stands in for the store.

In flow events one at a time, in the order in which they came, and time between them; out flow what was decided and
which runs were asked for. It begins nothing and writes nothing: rounds, run keys and events are kept by a `Memory`,
which may be plain maps or spill to disk. Sensors count as heard all the time.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sensors import uid as uids
from sensors.event import Event
from triggers.absence import Silence, armed
from triggers.calendar import next_tick, told
from triggers.decision import Clause, Decision, Outcome
from triggers.errors import EvaluationError
from triggers.evaluator import RuleSet
from triggers.firing import intents_of, reads_events
from triggers.flow import Admitted, admit
from triggers.gather import Firing, Gathering
from triggers.lines import Lines
from triggers.passed import Passed
from triggers.pattern import Join
from triggers.pattern_rule import EVERYTHING, CompiledPattern
from triggers.plan import CountKey, Intent, Plan
from triggers.ports import LaneName, LaneState, RunKeyName, RunKeyState
from triggers.round import Phase, Round, RoundName
from triggers.trigger import Paused

_ROUND, _LINE = 1, 2  # what a round belongs to: a pattern, or flow control
_SPAN = f"00-{'0' * 31}1-{'0' * 15}1-01"


class Memory(Protocol):
    """What a rehearsal remembers between steps. One rehearsal owns it; one thread uses it at a time."""

    def rounds(self, names: Sequence[RoundName]) -> Mapping[RoundName, Round]:
        """Return the rounds of these keys, as far as something is kept of them."""
        ...

    def put_rounds(self, rounds: Sequence[Round]) -> None:
        """Keep rounds as they stand now; those in phase NEW are forgotten."""
        ...

    def keys(self, names: Sequence[RunKeyName]) -> Mapping[RunKeyName, RunKeyState]:
        """Return the run keys of these that were used."""
        ...

    def put_keys(self, states: Sequence[RunKeyState]) -> None:
        """Keep run keys as they stand now."""
        ...

    def events(self, names: Sequence[str]) -> Mapping[str, Event]:
        """Return events that came before, by uid, as far as they are kept."""
        ...

    def put_event(self, event: Event) -> None:
        """Keep an event; called for those that some key holds, or may hold."""
        ...


class PlainMemory:
    """A memory of plain maps, for few events."""

    def __init__(self) -> None:
        self._rounds: dict[RoundName, Round] = {}
        self._keys: dict[RunKeyName, RunKeyState] = {}
        self._events: dict[str, Event] = {}

    def rounds(self, names: Sequence[RoundName]) -> Mapping[RoundName, Round]:
        """Return rounds."""
        return {name: self._rounds[name] for name in names if name in self._rounds}

    def put_rounds(self, rounds: Sequence[Round]) -> None:
        """Keep rounds."""
        for state in rounds:
            if state.phase is Phase.NEW:
                self._rounds.pop(state.name, None)
            else:
                self._rounds[state.name] = state

    def keys(self, names: Sequence[RunKeyName]) -> Mapping[RunKeyName, RunKeyState]:
        """Return run keys."""
        return {name: self._keys[name] for name in names if name in self._keys}

    def put_keys(self, states: Sequence[RunKeyState]) -> None:
        """Keep run keys."""
        self._keys.update({state.name: state for state in states})

    def events(self, names: Sequence[str]) -> Mapping[str, Event]:
        """Return events."""
        return {name: self._events[name] for name in names if name in self._events}

    def put_event(self, event: Event) -> None:
        """Keep an event."""
        self._events[event.uid] = event


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that was asked for, and the decision about it.

    Of a pattern: under which key, since when, what was missing, and whether because it is overdue.
    """

    intent: Intent
    decision: Decision
    key: str | None = None
    since: int = 0
    missing: Sequence[str] = ()
    overdue: bool = False


@dataclass(slots=True)
class Happened:
    """One step. `decisions` are all but those of `asked`; `counts` are exact, as the service counts."""

    at: int
    event: Event | None = None
    decisions: list[Decision] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    admitted: Admitted = field(default_factory=Admitted)
    counts: Mapping[CountKey, int] = field(default_factory=dict)


class Rehearsal:
    """Judges events and lets time pass.

    With `busy` every run that was started goes on for ever, so that lanes stay occupied; without it every run has ended
    well by the time of the next step. `paused` names the triggers that are paused, and how.
    """

    def __init__(
        self, rules: RuleSet, memory: Memory, *, busy: bool = True, paused: Mapping[str, Paused] | None = None
    ) -> None:
        self.rules = rules
        self.memory = memory
        self._busy = busy
        self._paused = dict(paused or {})
        self._lanes: dict[LaneName, list[str]] = {}
        self._lines = Lines(events=_Recalled(memory))
        self._alarms: dict[str, int] = {}  # of open rounds by uid: when they are looked at
        self._due: list[tuple[int, int, RoundName, str]] = []  # a heap; of a round only the entry that `_alarms` knows
        self._begun = False
        self._number = 0
        holding = (rule for rule in rules.rules.values() if rule.pattern is not None or rule.control is not None)
        self._holds = any(True for _ in holding)

    def begin(self, now: int) -> None:
        """Set calendars going and begin silences, once; the first step does it if nobody did."""
        if self._begun:
            return
        self._begun = True
        for trigger, rule in self.rules.rules.items():
            pattern = rule.pattern
            if pattern is None:
                continue
            if isinstance(pattern.pattern, Join) and pattern.pattern.opens is not None:
                self._expect_tick(trigger, pattern.pattern, now - 1)
            elif pattern.silent_at_start and isinstance(pattern.machine, Silence):
                state = armed(pattern.machine, Round(name=RoundName(trigger, EVERYTHING)), now, self._round_uid)
                self.memory.put_rounds([state])
                self._set_alarm(state)

    def judge(self, event: Event, now: int) -> Happened:
        """Judge one event. What is due before it has to come about first: see `due` and `ring`."""
        self.begin(now)
        plan = self.rules.plan((event,), now, self._paused, self.uid)
        if plan.offers or self._holds:
            self.memory.put_event(event)

        def come(desk: Gathering) -> None:
            for offer in plan.offers:
                desk.offer(offer)

        passed = self._lines.enter(self.rules.rules, plan.passes, now, self.uid) if plan.passes else None
        return self._settle(event, now, plan, plan.rounds() if plan.offers else (), come, passed)

    def due(self, until: int | None = None) -> int | None:
        """Return when something comes about next without an event, None when nothing does by then."""
        due = self._due
        while due:
            at, kind, name, uid = due[0]
            if until is not None and at > until:
                return None
            if not kind:
                return at
            if self._alarms.get(uid) == at:
                state = self._lines.rounds.get(name) if kind == _LINE else self.memory.rounds((name,)).get(name)
                if state is None or state.due <= at:
                    return at
                self._alarms[uid] = state.due  # a later event has moved it
                heapq.heapreplace(due, (state.due, kind, name, uid))
            else:
                heapq.heappop(due)
        return None

    def ring(self) -> Happened:
        """Let the next thing come about that is due, at its own time."""
        at = self.due()
        if at is None:
            raise LookupError("nothing is due")
        _, kind, name, uid = heapq.heappop(self._due)
        if kind == _LINE:
            passed = self._lines.ring(self.rules.rules, name, at, self.uid)
            return self._settle(None, at, self._nothing(), (), lambda _: None, passed)
        if kind == _ROUND:
            return self._settle(None, at, self._nothing(), (name,), lambda desk: desk.ring(name, uid, _heard))
        return self._open(name.trigger, at)

    def uid(self, prefix: str) -> str:
        """Make a name that is new in this rehearsal; later ones sort behind."""
        self._number += 1
        return f"{prefix}{self._number:026}"

    # -- what a transaction does --------------------------------------------------------------------------------------
    def _settle(
        self,
        event: Event | None,
        now: int,
        plan: Plan,
        names: Sequence[RoundName],
        act: Callable[[Gathering], None],
        passed: Passed | None = None,
    ) -> Happened:
        """Do what a transaction does: rounds and queues, then run keys and lanes."""
        made = Happened(now, event, list(plan.decisions), counts=plan.counts)
        asked: list[tuple[Intent, Firing | None]] = [(intent, None) for intent in plan.intents]
        if names:
            self._meet(now, names, act, made, asked)
        if passed is not None:
            self._pass(now, passed, made, asked)
        if not asked:
            return made
        whole = Plan(
            config_hash=plan.config_hash, intents=[intent for intent, _ in asked], concurrency=plan.concurrency
        )
        admitted = admit(
            whole,
            self.memory.keys(whole.run_keys()),
            {name: LaneState(name, queued=tuple(self._lanes.get(name, ()))) for name in whole.lanes()},
            now=now,
            uid=self.uid,
            mint_span=lambda _: _SPAN,
        )
        made.admitted = admitted
        made.counts = _sum(made.counts, admitted.counts)
        made.asked = [
            _asked(intent, firing, decision)
            for (intent, firing), decision in zip(asked, admitted.decisions, strict=True)
        ]
        if admitted.keys:
            self.memory.put_keys(admitted.keys)
        if self._busy:
            self._occupy(admitted)
        return made

    def _meet(
        self,
        now: int,
        names: Sequence[RoundName],
        act: Callable[[Gathering], None],
        made: Happened,
        asked: list[tuple[Intent, Firing | None]],
    ) -> None:
        """Let something happen to rounds."""
        rules, memory = self.rules, self.memory
        desk = Gathering(rules.rules, memory.rounds(names), now=now, uid=self.uid, config_hash=rules.config_hash)
        act(desk)
        met = desk.gathered()
        memory.put_rounds(met.rounds)
        for uid in met.ended:
            self._alarms.pop(uid, None)
        for state in met.timers:
            self._set_alarm(state)
        made.decisions += [*met.decisions, *(waits.decision for waits in met.waiting)]
        made.counts = _sum(made.counts, met.counts)
        self._fire(now, met.firings, made, asked)

    def _pass(self, now: int, passed: Passed, made: Happened, asked: list[tuple[Intent, Firing | None]]) -> None:
        """Take in what followed when events passed the flow control."""
        for uid in passed.ended:
            self._alarms.pop(uid, None)
        for state in passed.timers:
            self._set_alarm(state, _LINE)
        made.decisions += [*passed.decisions, *(waits.decision for waits in passed.waiting)]
        made.counts = _sum(made.counts, passed.counts)
        asked += [(intent, None) for intent in passed.intents]
        self._fire(now, passed.firings, made, asked)

    def _fire(
        self, now: int, firings: Sequence[Firing], made: Happened, asked: list[tuple[Intent, Firing | None]]
    ) -> None:
        """Turn firings of several events into the runs that they ask for."""
        for firing in firings:
            wanted = firing.verdict.events if reads_events(firing) else ()
            intents, errors = intents_of(firing, self.memory.events(wanted) if wanted else {}, now, self.uid)
            asked += [(intent, firing) for intent in intents]
            made.decisions += errors

    def _open(self, trigger: str, tick: int) -> Happened:
        """Open the key of a calendar."""
        pattern = self.rules.rules[trigger].pattern
        if pattern is None or not isinstance(pattern.pattern, Join):
            raise TypeError("only joins have a calendar")
        self._expect_tick(trigger, pattern.pattern, tick)
        try:
            name = RoundName(trigger, pattern.key_at(tick))
        except EvaluationError as error:
            return Happened(tick, None, [self._no_key(trigger, pattern, tick, error)])
        return self._settle(None, tick, self._nothing(), (name,), lambda desk: desk.open_at(name, tick))

    def _no_key(self, trigger: str, pattern: CompiledPattern, tick: int, error: EvaluationError) -> Decision:
        text = "" if pattern.opens is None else pattern.opens.text
        return Decision(
            uid=self.uid(uids.DECISION),
            trigger=trigger,
            version=pattern.machine.version,
            events=(),
            outcome=Outcome.ERROR,
            at=tick,
            reason=f"the calendar opens nothing at {told(tick, 'UTC')}: opens.key failed: {error}",
            clause=Clause("join.opens.key", text, "a key", str(error)),
        )

    def _nothing(self) -> Plan:
        return Plan(config_hash=self.rules.config_hash)

    # -- time ---------------------------------------------------------------------------------------------------------
    def _expect_tick(self, trigger: str, join: Join, after: int) -> None:
        if join.opens is not None:
            tick = next_tick(join.opens.cron, join.timezone, after)
            heapq.heappush(self._due, (tick, 0, RoundName(trigger, ""), ""))

    def _set_alarm(self, state: Round, kind: int = _ROUND) -> None:
        self._alarms[state.uid] = state.due
        heapq.heappush(self._due, (state.due, kind, state.name, state.uid))

    def _round_uid(self) -> str:
        return self.uid(uids.DECISION)

    def _occupy(self, admitted: Admitted) -> None:
        for start in admitted.starts:
            for lane in {start.trigger_event.lane or "", ""}:
                self._lanes.setdefault(LaneName(start.pipeline, lane), []).append(start.run_uid)
        for run, _ in admitted.cancels:
            for runs in self._lanes.values():
                if run in runs:
                    runs.remove(run)


class _Recalled:
    """A rehearsal's memory as the flow control asks it; what matched is kept there already."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def get(self, uid: str) -> Event | None:
        return self._memory.events((uid,)).get(uid)

    def update(self, events: Mapping[str, Event]) -> None:
        return None


def _heard(since: int, until: int) -> int:
    return until - since


def _sum(some: Mapping[CountKey, int], more: Mapping[CountKey, int]) -> Mapping[CountKey, int]:
    if not more:
        return some
    found = dict(some)
    for key, n in more.items():
        found[key] = found.get(key, 0) + n
    return found


def _asked(intent: Intent, firing: Firing | None, decision: Decision) -> Asked:
    if firing is None:
        return Asked(intent, decision)
    verdict = firing.verdict
    return Asked(intent, decision, firing.name.key, verdict.since, verdict.missing, firing.overdue)
