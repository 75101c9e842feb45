"""A rule set on a bench: rehearsed over plain maps, with one verdict per trigger that has something to say.

In flow events one at a time, and moments; out flow verdicts. The code that decides is the one that decides in the
service.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensors import uid as uids
from sensors.event import OWN_SENSOR, Event
from triggers.decision import Clause, Decision, Outcome
from triggers.evaluator import RuleSet
from triggers.explain import explain
from triggers.flow import Admitted
from triggers.rehearsal import Happened, PlainMemory, Rehearsal
from triggers.tell import ClauseResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one trigger did about one event (and element, with `each`), or about time that passed.

    Time that passed is an `event` of sensor `tidegate` and type `time.passed`; `received_at` is the moment.
    `run` is the uid of the run that was started, merged into, or stood in the way; `params`, `key`, `partition` and
    `lane` are those of a run that was started. `events` are the uids of all events concerned; `missing` names the
    parts that had not come. `clause` is the one that decided, where one did: what it expected and what it found.
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
    clause: Clause | None = None


class Bench:
    """Judges events and lets time pass."""

    def __init__(self, rules: RuleSet) -> None:
        self._rules = rules
        paused = {name: rule.trigger.paused for name, rule in rules.rules.items() if rule.trigger.paused is not None}
        self._rehearsal = Rehearsal(rules, PlainMemory(), paused=paused)

    def begin(self, now: int) -> None:
        """Set calendars going and begin silences, if that was not done; the first event does it otherwise."""
        self._rehearsal.begin(now)

    def judge(self, one: Event, now: int) -> list[Verdict]:
        """Judge one event."""
        decided: dict[str, list[Verdict]] = {}
        for verdict in _verdicts(self._rehearsal.judge(one, now), one):
            decided.setdefault(verdict.trigger, []).append(verdict)
        verdicts: list[Verdict] = []
        for name in self._rules.rules:
            verdicts += decided.get(name) or self._unmentioned(name, one, now)
        return verdicts

    def pass_time(self, now: int) -> list[Verdict]:
        """Let everything come about that is due by a moment, in the order of its time."""
        self._rehearsal.begin(now)
        verdicts: list[Verdict] = []
        while self._rehearsal.due(now) is not None:
            happened = self._rehearsal.ring()
            verdicts += _verdicts(happened, _passed(happened.at))
        return verdicts

    def _unmentioned(self, name: str, one: Event, now: int) -> Sequence[Verdict]:
        """Tell why a trigger is silent: its decision was filtered or alike, and no sample of it was kept."""
        paused = self._rules.rules[name].trigger.paused
        explanation = explain(self._rules, name, one, now=now, paused=paused)
        if explanation.outcome is None:
            return ()
        failed = next((clause for clause in explanation.clauses if clause.passed is False), None)
        return (
            Verdict(
                trigger=name,
                event=one,
                outcome=explanation.outcome,
                reason=explanation.reason,
                clause=None if failed is None else _plain(failed),
            ),
        )


def _plain(result: ClauseResult) -> Clause:
    return Clause(result.path, result.text, result.expected, result.actual)


def _verdicts(happened: Happened, about: Event) -> list[Verdict]:
    admitted = happened.admitted
    told = [
        _verdict(about, decision, None, admitted, decision.details.get("missing", ()))
        for decision in happened.decisions
    ]
    return told + [
        _verdict(about, asked.decision, asked.intent.pipeline, admitted, asked.missing) for asked in happened.asked
    ]


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
        clause=decision.clause,
    )
