"""Explanations: why a trigger fired on an event, or did not, clause by clause, on demand.

In flow a compiled rule and a (stored) event; out flow every clause with what it expected and what it found, and what
the trigger would do. It judges with the very code that plans, so the two cannot differ; what a transaction knows
besides (keys, lanes) is left to the stored decision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sensors.event import MAX_DEPTH, Event
from triggers.activation import Activation
from triggers.compiler import CompiledSource
from triggers.decision import Outcome
from triggers.errors import EvaluationError, Unreadable
from triggers.evaluator import RuleSet
from triggers.explain_control import tell_control
from triggers.expression import Expression
from triggers.match import compile_predicate
from triggers.pattern_rule import CompiledPattern
from triggers.remedy import with_remedies
from triggers.round import Offer
from triggers.rule import CompiledRule, Objection, Wish, show
from triggers.tell import ClauseResult, concerns, tell
from triggers.told_conditions import Conditions, values_of
from triggers.trigger import Paused
from triggers.view import EventView

MAX_SHOWN = 20


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run that would be asked for; `key` None means the trigger event's own id."""

    pipeline: str
    item: int | None
    params: Mapping[str, Any]
    key: str | None
    partition: str | None
    lane: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What one trigger makes of one event today. `outcome` None: it is no candidate (other sensor or type).

    `outcome` is fired when a run would be asked for; its key and lane may still stand in the way.
    """

    trigger: str
    version: str
    event: str
    outcome: Outcome | None
    reason: str
    clauses: Sequence[ClauseResult] = ()
    runs: Sequence[RunResult] = field(default_factory=tuple)


def explain(
    ruleset: RuleSet, trigger_name: str, event: Event, *, now: int | None = None, paused: Paused | None = None
) -> Explanation:
    """Judge one event by one trigger and tell every clause. `now` is the recorded ingest time (the event's, if not
    given).

    Raises KeyError when no enabled trigger has that name. Never raises for what the event holds.
    """
    rule = ruleset.rules[trigger_name]
    trigger = rule.trigger
    view = EventView(event, event.received_at if now is None else now)
    clauses: list[ClauseResult] = []

    def told(outcome: Outcome | None, reason: str, runs: Sequence[RunResult] = ()) -> Explanation:
        return Explanation(
            trigger=trigger.name,
            version=trigger.version,
            event=event.uid,
            outcome=outcome,
            reason=reason,
            clauses=clauses,
            runs=runs,
        )

    sources = [source for source in rule.sources if concerns(source[0], source[1], event)]
    if not sources:
        clauses.extend(_other_sources(rule, event))
        return told(None, f"the trigger does not listen to type {event.type} of sensor {event.sensor}")
    try:
        view.check()
        through = _filters(sources, view, clauses)
        if not through:
            failed = next((clause for clause in clauses if clause.passed is False), None)
            return told(
                Outcome.FILTERED, f"the filter does not match: {failed.path}" if failed else "the filter does not match"
            )
        conditions = Conditions(rule, view)
        activation = view.activation(rule.names)
        activation = activation.extended(rule.constants) if rule.constants else activation
        objection = rule.objects(activation)
        if rule.when is not None and not rule.judges_items:
            clauses.append(conditions.when(rule.when, objection, activation))
        if objection is not None:
            return told(Outcome.ERROR if objection.error else Outcome.FILTERED, objection.reason)
        if paused is not None:
            clauses.append(ClauseResult("paused", paused.value, "a trigger that is not paused", "paused", passed=False))
        if paused is Paused.DROP:
            return told(Outcome.FILTERED, "the trigger is paused")
        if event.depth >= MAX_DEPTH:
            clauses.append(
                ClauseResult("on", f"depth < {MAX_DEPTH}", f"fewer than {MAX_DEPTH}", str(event.depth), passed=False)
            )
            return told(Outcome.ERROR, f"the chain of runs that led to this event is {event.depth} long: a loop?")
        if paused is Paused.HOLD:
            return told(Outcome.PAUSED, "held until the trigger goes on")
        if rule.pattern is not None:
            return _offers(conditions, rule.pattern, view, activation, clauses, told)
        if rule.control is not None:
            entered = tell_control(rule.control, trigger.name, view, activation)
            clauses.extend(entered.clauses)
            if entered.outcome is not None:
                return told(entered.outcome, entered.reason)
        return _answers(conditions, rule, activation, clauses, told)
    except Unreadable as error:
        clauses.append(ClauseResult("on", "", "an event that can be read truthfully", str(error), passed=False))
        return told(Outcome.ERROR, str(error))


def _filters(sources: Sequence[CompiledSource], view: EventView, clauses: list[ClauseResult]) -> bool:
    """Tell what the filters of all sources wanted; say whether one lets the event through."""
    matched = [compile_predicate(predicate)(view) for _, _, predicate, _ in sources]
    through = any(matched)
    for (_, _, predicate, _), passed in zip(sources, matched, strict=True):
        told = tell(predicate, view)
        if not passed and through:  # where another source lets the event through, what this one wanted is no reason
            told = [replace(clause, passed=clause.passed or None) for clause in told]
        clauses.extend(told if passed or through else with_remedies(told, predicate, view.event))
    return through


def _offers(
    conditions: Conditions,
    pattern: CompiledPattern,
    view: EventView,
    activation: Activation,
    clauses: list[ClauseResult],
    told: Callable[..., Explanation],
) -> Explanation:
    """Tell which parts an event is, under which keys. What the keys hold is known to the stored decision alone."""
    words: list[str] = []
    outcome, why = Outcome.FILTERED, "the event is no part"
    for answer in pattern.ask(view, activation):
        if isinstance(answer, Offer):
            part = next(one for one in pattern.parts if one.part.name == answer.part)
            place = part.source[3]
            if part.when is not None:
                values = values_of(part.when, activation)
                clauses.append(
                    ClauseResult(f"{place}.when", part.when.text, "true", f"true, with {values}", passed=True)
                )
            if part.by is not None:
                found = show(answer.name.key)
                clauses.append(ClauseResult(f"{place}.by", part.by.text, "a key", found, passed=True))
            if answer.quiet:
                why = f"it ends the silence of {answer.part}, key {answer.name.key!r}: the clock begins anew"
            else:
                words.append(f"part {answer.part} of key {answer.name.key!r}")
        else:
            clause = _objection(answer)
            when = next((one.when for one in pattern.parts if f"{one.source[3]}.when" == clause.path), None)
            clauses.append(clause if when is None else conditions.taken_apart(clause, when))
            if answer.error:
                outcome, why = Outcome.ERROR, answer.reason
            elif outcome is not Outcome.ERROR and not words:
                why = answer.reason
    if words:
        return told(Outcome.WAITING, f"it is {' and '.join(words)}")
    return told(outcome, why)


def _answers(
    conditions: Conditions,
    rule: CompiledRule,
    activation: Activation,
    clauses: list[ClauseResult],
    told: Callable[..., Explanation],
) -> Explanation:
    runs: list[RunResult] = []
    errors = refused = 0
    why: dict[bool, str] = {}  # the first reason of an error, of a refusal
    if rule.each is not None:
        clauses.append(_each(rule.each, activation))
    for answer in rule.ask(activation):
        if isinstance(answer, Wish):
            wish = answer
            runs.append(RunResult(wish.run.rule.pipeline, wish.item, wish.params, wish.key, wish.partition, wish.lane))
            continue
        errors += answer.error
        refused += not answer.error
        why.setdefault(answer.error, answer.reason)
        if answer.clause.path != "each" and errors + refused <= MAX_SHOWN:
            clause = _objection(answer)
            if rule.when is not None and answer.clause.path == "when":
                clause = conditions.taken_apart(clause, rule.when, answer.item)
            clauses.append(clause)
    outcome = Outcome.FIRED if runs else Outcome.ERROR if errors else Outcome.FILTERED
    parts = [f"{len(runs)} run{'s' if len(runs) != 1 else ''} asked for"] if runs else []
    parts += [f"{errors} failed: {why[True]}"] if errors else []
    parts += [f"{refused} filtered"] if refused and (runs or errors) else []
    return told(outcome, "; ".join(parts) or why.get(False, "nothing was asked for"), tuple(runs))


def try_event(ruleset: RuleSet, event: Event, now: int) -> list[Explanation]:
    """Explain an event by every trigger that listens to its sensor and type, in configured order, offline."""
    found = (explain(ruleset, name, event, now=now, paused=rule.trigger.paused) for name, rule in ruleset.rules.items())
    return [explanation for explanation in found if explanation.outcome is not None]


def _other_sources(rule: CompiledRule, event: Event) -> list[ClauseResult]:
    clauses = []
    for sensor, types, _, path in rule.sources:
        if sensor != event.sensor:
            clauses.append(ClauseResult(f"{path}.sensor", sensor, f"sensor {sensor}", event.sensor, passed=False))
        else:
            wanted = " or ".join(sorted(types))
            clauses.append(ClauseResult(f"{path}.types", wanted, f"type {wanted}", event.type, passed=False))
    return clauses


def _each(each: Expression, activation: Activation) -> ClauseResult:
    try:
        elements = each.evaluate(activation)
    except Unreadable:
        raise
    except EvaluationError as error:
        return ClauseResult("each", each.text, "a list", str(error), passed=False)
    found = f"{len(elements)} elements" if isinstance(elements, list) else show(elements)
    return ClauseResult(
        "each", each.text, "a list with elements", found, passed=isinstance(elements, list) and bool(elements)
    )


def _objection(objection: Objection) -> ClauseResult:
    clause = objection.clause
    path = clause.path if objection.item is None else f"{clause.path} (element {objection.item})"
    return ClauseResult(path, clause.text, clause.expected, clause.actual, passed=False)
