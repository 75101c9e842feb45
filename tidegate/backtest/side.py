"""One side of a back-test: rules that are rehearsed over the past, and what they said, for those who ask why.

In flow events and time; out flow firings, exact counts, and, on demand, why there was no firing for some events.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from sensors.event import Event
from tidegate.backtest.diff import Fired, fired_of
from tidegate.backtest.memory import EventCache, ScratchMemory
from tidegate.backtest.rows import RowRecord
from tidegate.backtest.values import Firing, Why
from tidegate.backtest.warmth import waits
from tidegate.store.rows import clause_dict
from triggers.decision import Clause, Decision, Outcome
from triggers.errors import Unreadable
from triggers.evaluator import RuleSet
from triggers.explain import explain
from triggers.rehearsal import Asked, Happened, Rehearsal
from triggers.round import Phase, RoundName
from triggers.sieve import Sieve
from triggers.trigger import Trigger

_TOLD = 5_000  # decisions of patterns that are remembered, to say why
_ASKED = 20  # events of a firing that are explained, at most


class RuleSide:
    """Rules rehearsed. `timed`: the moment at which a trigger fires that waits counts in comparisons."""

    def __init__(self, triggers: Mapping[str, Trigger], name: str, events: EventCache, *, timed: bool) -> None:
        rules = RuleSet(triggers, config_hash=name, concurrency={})
        self.memory = ScratchMemory(events)
        self.rehearsal = Rehearsal(rules, self.memory, busy=False)
        self._triggers = triggers
        self._rules = rules
        self._timed = timed
        self._sieves: dict[str, Sieve] = {}
        self._told: OrderedDict[tuple[str, str], Why] = OrderedDict()

    def sieve(self, sensor: str) -> Sieve:
        """Return the filters of a sensor's triggers."""
        found = self._sieves.get(sensor)
        if found is None:
            found = self._sieves[sensor] = self._rules.sieve(sensor)
        return found

    def wants(self, record: RowRecord) -> bool:
        """Return False only for an event of which every trigger would say that its filter does not match."""
        try:
            return self.sieve(record.sensor).wants(record)
        except Unreadable:
            return True  # to be judged, and found to be dead

    def hear(self, happened: Happened) -> list[Fired]:
        """Return the firings of a step; what was decided otherwise is remembered for a while."""
        found = []
        for asked in happened.asked:
            if asked.decision.outcome is Outcome.FIRED:
                found.append(self._fired(asked, happened))
            else:
                self._tell(asked.decision)
        for decision in happened.decisions:
            self._tell(decision)
        return found

    def why_not(self, fired: Fired) -> Why:
        """Say why this side has no such firing."""
        name, events = fired.trigger, fired.firing.events[:_ASKED]
        rule = self._rules.rules.get(name)
        if rule is None:
            there = name in self._triggers
            return Why(outcome="none", reason=f"trigger {name} is disabled" if there else f"there is no trigger {name}")
        for event in events:
            told = self._told.get((name, event))
            if told is not None and told.outcome not in ("waiting", "filtered"):
                return told
        if (why := self.explained(fired)) is not None:
            return why
        return self._standing(fired) or next(
            (told for event in events if (told := self._told.get((name, event))) is not None),
            Why(outcome="none", reason="it asks for nothing here: with other events, or for another pipeline"),
        )

    def explained(self, fired: Fired) -> Why | None:
        """Say by which clause a rule lets one of the events not through, None when it does."""
        events = fired.firing.events[:_ASKED]
        kept = self.memory.events(events) if fired.trigger in self._rules.rules else {}
        found = (self._explained(fired.trigger, kept[uid]) for uid in events if uid in kept)
        return next((why for why in found if why is not None), None)

    def _explained(self, name: str, event: Event) -> Why | None:
        found = explain(self._rules, name, event)
        if found.outcome in (Outcome.FIRED, Outcome.WAITING):
            return None
        failed = next((clause for clause in found.clauses if clause.passed is False), None)
        return Why(
            outcome="none" if found.outcome is None else found.outcome.value,
            reason=found.reason,
            clause=None
            if failed is None
            else clause_dict(Clause(failed.path, failed.text, failed.expected, failed.actual)),
        )

    def _standing(self, fired: Fired) -> Why | None:
        """Say how the key stands that the other side fired on."""
        rule, group = self._rules.rules[fired.trigger], fired.firing.group
        if rule.pattern is None or group is None:
            return None
        name = RoundName(fired.trigger, group)
        state = self.memory.rounds([name]).get(name)
        if state is None:
            return None
        if state.phase is Phase.OPEN:
            return Why(outcome="waiting", reason=rule.pattern.waiting(state))
        return Why(outcome=state.phase.value, reason=f"key {group!r} stands as {state.phase.value}: by other events")

    def _fired(self, asked: Asked, happened: Happened) -> Fired:
        intent, event = asked.intent, happened.event
        firing = Firing(
            pipeline=intent.pipeline,
            at=happened.at,
            events=intent.events,
            key=intent.key.key if intent.keyed else None,
            partition=intent.partition,
            lane=intent.lane,
            params=intent.params,
            group=asked.key,
            about=None if event is None else " ".join(filter(None, (event.type, event.subject))),
        )
        timed = self._timed and waits(self._rules.rules[intent.trigger].trigger)
        return fired_of(intent.trigger, firing, timed=timed, since=asked.since, overdue=asked.overdue)

    def _tell(self, decision: Decision) -> None:
        why = why_of(decision)
        for event in decision.events[:_ASKED]:
            self._told[decision.trigger, event] = why
            self._told.move_to_end((decision.trigger, event))
        while len(self._told) > _TOLD:
            self._told.popitem(last=False)

    def close(self) -> None:
        """Let go of what is on disk."""
        self.memory.close()


def why_of(decision: Decision) -> Why:
    """Return a decision as a reason."""
    clause = decision.clause
    return Why(
        outcome=decision.outcome.value, reason=decision.reason, clause=None if clause is None else clause_dict(clause)
    )


def only(triggers: Mapping[str, Trigger], names: Sequence[str]) -> Mapping[str, Trigger]:
    """Return the triggers of these names that are there."""
    return {name: triggers[name] for name in names if name in triggers}
