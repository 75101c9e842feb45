"""Gathering: offers and moments meet the rounds of their keys; out flows all that a transaction has to write. Pure.

In flow the locked rounds and, one at a time, offers, looks of timers and ticks of calendars; each sees what the ones
before it did, as if every one had been a transaction of its own. Out flow the rounds that changed, decisions, the open
decisions to write anew or to close, firings to render, timers, and what is to be told as own events.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensors import uid as uids
from triggers.calendar import told
from triggers.carry import carried, offer_again
from triggers.decision import Clause, Decision, Outcome
from triggers.pattern import Join, Pattern, parts_of
from triggers.pattern_rule import CompiledPattern
from triggers.plan import CountKey
from triggers.round import Occurrence, Offer, Phase, Round, RoundName, Step, Verdict, forget
from triggers.rule import CompiledRule

LOST = "the part changed, or is gone, while the key waited; its events are given up, the others were carried over"
CHANGED = "the pattern of the trigger changed while the key waited; what it had gathered is given up"
GONE = "the trigger is gone or disabled while the key waited; what it had gathered is given up"


@dataclass(frozen=True, slots=True)
class Waiting:
    """An open decision to insert or replace; its events change by these. `first` is the position of the first added."""

    decision: Decision
    added: tuple[str, ...]
    removed: tuple[str, ...]
    first: int
    new: bool


@dataclass(frozen=True, slots=True)
class Firing:
    """Runs to start: `overdue` says that they are those for that case. `verdict.held` are the events, in order."""

    rule: CompiledRule
    name: RoundName
    verdict: Verdict
    overdue: bool


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something to tell as an own event: `change` is `overdue` or `late`."""

    rule: CompiledRule
    name: RoundName
    verdict: Verdict
    change: str


@dataclass(slots=True)
class Gathered:
    """What is to be written. Of `rounds`, those in phase NEW are to be forgotten; `before` is how all of them stood."""

    rounds: list[Round] = field(default_factory=list)
    before: dict[RoundName, Round] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    waiting: list[Waiting] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    firings: list[Firing] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    timers: list[Round] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)  # uids of rounds whose timer is not needed any more
    counts: dict[CountKey, int] = field(default_factory=dict)
    carried: int = 0  # keys that go on under a changed pattern
    given_up: int = 0  # keys that were given up because of one


class Gathering:
    """Collects what happens to the rounds of one transaction.

    `rules` are the compiled triggers by name, `rounds` the locked rows; `uid` makes a uid of a prefix; `keeps_error`
    says whether one more `error` decision of a trigger about an event is kept; `former` returns the pattern of a
    trigger as it was in a version, None when that is not known.
    """

    def __init__(
        self,
        rules: Mapping[str, CompiledRule],
        rounds: Mapping[RoundName, Round],
        *,
        now: int,
        uid: Callable[[str], str],
        config_hash: str,
        keeps_error: Callable[[str, str, int], bool] = lambda _trigger, _event, _at: True,
        former: Callable[[str, str], Pattern | None] = lambda _trigger, _version: None,
    ) -> None:
        self._rules = rules
        self._before = dict(rounds)
        self._rounds = dict(rounds)
        self._now = now
        self._uid = uid
        self._config_hash = config_hash
        self._keeps_error = keeps_error
        self._former = former
        self._rung: set[RoundName] = set()
        self._out = Gathered()

    def offer(self, offer: Offer) -> None:
        """Let an event come to its key."""
        rule = self._rules[offer.name.trigger]
        if rule.pattern is None:
            raise ValueError(f"trigger {offer.name.trigger} waits for nothing")
        state = self._state(rule, offer.name)
        step = rule.pattern.step(state, offer, self._round_uid)
        self._take(rule, step, quiet=offer.quiet)

    def ring(self, name: RoundName, uid: str, watched: Callable[[int, int], int]) -> None:
        """Look at a round whose timer rang; one that is over already is left alone. `watched` as in `expire`."""
        state = self._rounds.get(name)
        if state is None or state.uid != uid or state.phase is not Phase.OPEN:
            return
        rule = self._rules.get(name.trigger)
        if rule is None or rule.pattern is None:
            self._give_up(name, state, GONE)
            return
        state = self._state(rule, name)
        self._rung.add(name)
        self._take(rule, rule.pattern.expire(state, self._now, watched))

    def open_at(self, name: RoundName, tick: int) -> None:
        """Open a key by the calendar."""
        rule = self._rules[name.trigger]
        if rule.pattern is not None:
            self._take(rule, rule.pattern.open_at(self._state(rule, name), tick, self._round_uid))

    def settle(self, name: RoundName) -> None:
        """Let a key go on under the pattern in force, or give it up, without waiting for somebody to touch it."""
        rule = self._rules.get(name.trigger)
        if rule is not None and rule.pattern is not None:
            self._state(rule, name)

    def put(self, state: Round) -> None:
        """Set a round as it shall be (a silence that begins with the service)."""
        self._rounds[state.name] = state

    def gathered(self) -> Gathered:
        """Return all that is to be written."""
        out = self._out
        for name in sorted(self._rounds):
            before, after = self._before.get(name, Round(name=name)), self._rounds[name]
            if after == before and name not in self._rung:
                if after.phase is Phase.NEW:  # the row that was made to be locked
                    out.rounds.append(after)
                    out.before[name] = before
                continue
            out.rounds.append(after)
            out.before[name] = before
            self._tell_waiting(before, after)
            was_open = before.phase is Phase.OPEN
            same = was_open and after.phase is Phase.OPEN and after.uid == before.uid
            if was_open and not same:
                out.closed.append(before.uid)
                out.ended.append(before.uid)
            if after.phase is Phase.OPEN and (not same or after.due < before.due or name in self._rung):
                out.timers.append(after)
        return out

    # -- rounds -------------------------------------------------------------------------------------------------------
    def _round_uid(self) -> str:
        return self._uid(uids.DECISION)

    def _state(self, rule: CompiledRule, name: RoundName) -> Round:
        """Return a round as the rule may go on with it: what was gathered under another meaning is given up."""
        state = self._rounds.get(name, Round(name=name))
        pattern = rule.pattern
        if state.phase is Phase.OPEN and pattern is not None and state.meaning != pattern.meaning:
            former = self._former(name.trigger, state.version)
            kept = None if former is None else carried(former, pattern.pattern, state)
            if kept is None:
                self._out.given_up += 1
                self._give_up(name, state, CHANGED, told=pattern.tells_waiting)
                self._rounds[name] = pattern.opened_anew(state, self._now, self._round_uid)
            else:
                self._carry(rule, pattern, state, kept)
            state = self._rounds[name]
        return state

    def _carry(self, rule: CompiledRule, pattern: CompiledPattern, state: Round, kept: Sequence[Occurrence]) -> None:
        """Go on with what still counts: it comes again, in its order, under the pattern in force."""
        name = state.name
        lost = _events([one for one in state.held if one not in set(kept)])
        if lost:
            clause = Clause("pattern", state.meaning, "parts as they were when the key was opened", "others")
            self._decide(name, state.version, Outcome.ERROR, lost, LOST, clause=clause)
            self._count("trigger", name.trigger, Outcome.ERROR.value)
        self._out.carried += 1
        self._rounds[name] = pattern.opened_anew(state, self._now, self._round_uid)
        waiting = ("trigger", name.trigger, Outcome.WAITING.value)
        counted = self._out.counts.get(waiting)
        for one in kept:
            offer = offer_again(state, one)
            self._take(rule, pattern.step(self._rounds[name], offer, self._round_uid))
        if counted is None:  # they were counted when they came
            self._out.counts.pop(waiting, None)
        else:
            self._out.counts[waiting] = counted

    def _give_up(self, name: RoundName, state: Round, reason: str, *, told: bool = False) -> None:
        """End a key before its time. `told` says that an open decision told of it even if it holds nothing."""
        events = tuple(dict.fromkeys(one.event for one in state.held))
        clause = Clause("pattern", state.meaning, "the pattern under which the key was opened", "another, or none")
        if events or told:
            self._decide(name, state.version, Outcome.ERROR, events, reason, clause=clause)
            self._count("trigger", name.trigger, Outcome.ERROR.value)
        self._rounds[name] = forget(state)

    def _take(self, rule: CompiledRule, step: Step, *, quiet: bool = False) -> None:
        name = step.round.name
        self._rounds[name] = step.round
        for verdict in step.verdicts:
            self._hear(rule, name, verdict)
            if quiet and not verdict.whole:
                self._count("matched", name.trigger, self._config_hash)

    def _hear(self, rule: CompiledRule, name: RoundName, verdict: Verdict) -> None:
        outcome = verdict.outcome
        if outcome is not Outcome.FIRED:  # fired ones are counted when they are admitted
            self._count("trigger", name.trigger, outcome.value, max(1, len(verdict.events)) if verdict.whole else 1)
        if verdict.alert:
            change = "overdue" if outcome is Outcome.OVERDUE else "late"
            self._out.alarms.append(Alarm(rule, name, verdict, change))
        if verdict.fires and (outcome is Outcome.FIRED or (rule.pattern is not None and rule.pattern.overdue)):
            self._out.firings.append(Firing(rule, name, verdict, overdue=outcome is Outcome.OVERDUE))
        if outcome in (Outcome.FIRED, Outcome.WAITING):
            return
        if outcome is Outcome.ERROR and not self._keeps_error(name.trigger, verdict.events[0], self._now):
            return
        details = {"missing": list(verdict.missing)} if verdict.missing else {}
        self._decide(name, rule.trigger.version, outcome, verdict.events, verdict.reason, details=details)

    # -- decisions ----------------------------------------------------------------------------------------------------
    def _tell_waiting(self, before: Round, after: Round) -> None:
        """Write the open decision of a round anew: what is there, what is missing, until when."""
        rule = self._rules.get(after.name.trigger)
        if after.phase is not Phase.OPEN or rule is None or rule.pattern is None or not rule.pattern.tells_waiting:
            return
        same = before.phase is Phase.OPEN and before.uid == after.uid
        old = _events(before.held) if same else ()
        new = _events(after.held)
        added = tuple(event for event in new if event not in set(old))
        pattern = rule.pattern
        missing = pattern.missing(after)
        decision = Decision(
            uid=after.uid,
            trigger=after.name.trigger,
            version=after.version,
            events=new,
            outcome=Outcome.WAITING,
            at=self._now,
            reason=pattern.waiting(after),
            details={
                "key": after.name.key,
                "there": dict(Counter(one.part for one in after.held)),
                "missing": list(missing),
                "until": told(after.due, _zone(pattern.pattern)),
            },
        )
        removed = tuple(event for event in old if event not in set(new))
        first = after.taken - len(added)
        self._out.waiting.append(Waiting(decision, added, removed, max(0, first), new=not same))

    def _decide(
        self,
        name: RoundName,
        version: str,
        outcome: Outcome,
        events: Sequence[str],
        reason: str,
        *,
        clause: Clause | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self._out.decisions.append(
            Decision(
                uid=self._uid(uids.DECISION),
                trigger=name.trigger,
                version=version,
                events=tuple(events),
                outcome=outcome,
                at=self._now,
                reason=reason,
                clause=clause,
                details={"key": name.key, **(details or {})},
            )
        )

    def _count(self, kind: str, name: str, outcome: str, n: int = 1) -> None:
        key = (kind, name, outcome)
        self._out.counts[key] = self._out.counts.get(key, 0) + n


def part_names(rule: CompiledRule) -> tuple[str, ...]:
    """Return the names of the parts of a rule, in order."""
    return () if rule.pattern is None else tuple(part.name for part in parts_of(rule.pattern.pattern))


def _events(held: Sequence[Occurrence]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.event for one in held))


def _zone(pattern: Pattern) -> str:
    return pattern.timezone if isinstance(pattern, Join) else "UTC"
