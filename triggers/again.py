"""Judging a stored event anew: what the rules in force would start of it, and why not what they would not.

In flow compiled rules and an event that was stored; out flow wishes for runs and the reasons of those triggers that let
it pass, in configured order. Pure: nothing is counted or sampled, no key and no lane is looked at, and patterns (joins,
counts, absences) are named but offered nothing, so that what they hold stays as it is. It judges with the very code
that judged when the event came.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sensors.event import MAX_DEPTH, Event
from triggers.errors import Unreadable
from triggers.evaluator import RuleSet
from triggers.rule import CompiledRule, Objection, Wish
from triggers.tell import deciding_clause
from triggers.trigger import Paused, Trigger
from triggers.view import EventView


@dataclass(frozen=True, slots=True)
class NotRun:
    """Why a trigger starts nothing. `outcome` is `filtered`, `error`, `paused`, `pattern` or `unmatched`.

    `unmatched` is said once, without a trigger, of an event that no trigger's filter lets through; `error` without a
    trigger of one that no rule can read.
    """

    outcome: str
    reason: str
    trigger: str = ""
    item: int | None = None


@dataclass(slots=True)
class Judged:
    """What the rules say. `readable` is False for an event that no rule can judge."""

    wishes: list[tuple[Trigger, Wish]] = field(default_factory=list)
    refused: list[NotRun] = field(default_factory=list)
    readable: bool = True


def judge_again(rules: RuleSet, event: Event, paused: Mapping[str, Paused], only: str | None = None) -> Judged:
    """Judge an event by all triggers, or by `only` one. `now` in expressions is when the event was received.

    Never raises for what the event holds.
    """
    judged = Judged()
    group = rules.groups.get(event.sensor)
    candidates = None if group is None else group.candidates(event.type)
    view = EventView(event, event.received_at)
    try:
        view.check()
        if group is not None and candidates is not None:
            shared = None
            for position in candidates.match(view):
                rule = group.rules[position]
                if only not in (None, rule.trigger.name):
                    continue
                if shared is None:
                    shared = view.activation(group.names)
                activation = shared.extended(rule.constants) if rule.constants else shared
                objection = rule.objects(activation)
                if objection is not None:
                    judged.refused.append(_refusal(rule.trigger, objection))
                elif (bar := _bar(rule, event, paused)) is not None:
                    judged.refused.append(bar)
                else:
                    for answer in rule.ask(activation):
                        if isinstance(answer, Wish):
                            judged.wishes.append((rule.trigger, answer))
                        else:
                            judged.refused.append(_refusal(rule.trigger, answer))
        if not judged.wishes and not judged.refused:
            judged.refused.append(_unmatched(rules, view, only))
    except Unreadable as error:
        return Judged(refused=[NotRun("error", str(error))], readable=False)
    return judged


def _bar(rule: CompiledRule, event: Event, paused: Mapping[str, Paused]) -> NotRun | None:
    """Return what keeps an event that matches from being asked any further."""
    name = rule.trigger.name
    if name in paused:
        return NotRun("paused", "the trigger is paused; let it go on, then replay again", name)
    if event.depth >= MAX_DEPTH:
        return NotRun("error", f"the chain of runs that led to this event is {event.depth} long: a loop?", name)
    if rule.pattern is not None or (rule.control is not None and rule.control.gathers is not None):
        reason = (
            "the trigger waits for several events, one alone decides nothing: what it fired with is replayed as_was"
        )
        return NotRun("pattern", reason, name)
    return None


def _refusal(trigger: Trigger, objection: Objection) -> NotRun:
    return NotRun("error" if objection.error else "filtered", objection.reason, trigger.name, objection.item)


def _unmatched(rules: RuleSet, view: EventView, only: str | None) -> NotRun:
    event = view.event
    if only is None:
        return NotRun("unmatched", f"no trigger's filter lets through type {event.type} of sensor {event.sensor}")
    rule = rules.rules.get(only)
    clause = None if rule is None else deciding_clause(rule, view)
    if clause is None:
        return NotRun("unmatched", f"the trigger does not listen to type {event.type} of sensor {event.sensor}", only)
    return NotRun("filtered", f"the filter does not match: {clause.path}: {clause.actual}", only)
