"""Telling a filter's clauses: what each wanted and what the event had."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sensors.event import Event
from triggers.change import Change
from triggers.decision import Clause
from triggers.match import All, AnyOf, Atom, Not, Predicate, compile_predicate
from triggers.rule import CompiledRule, show
from triggers.view import EventView


@dataclass(frozen=True, slots=True)
class ClauseResult:
    """One clause: where it stands, its text, what it wanted, what it found. `passed` None: it was not asked.

    `parts` are those of a condition that is put together; `changes` of the event, taken together, would turn a clause
    that failed.
    """

    path: str
    text: str
    expected: str
    actual: str
    passed: bool | None
    parts: "Sequence[ClauseResult]" = ()
    changes: Sequence[Change] = ()


def deciding_clause(rule: CompiledRule, view: EventView) -> Clause | None:
    """Return the first clause of a rule's filters that does not hold, None when one of its sources matches."""
    deciding: ClauseResult | None = None
    for sensor, types, predicate, _ in rule.sources:
        if not concerns(sensor, types, view.event):
            continue
        if compile_predicate(predicate)(view):
            return None
        deciding = deciding or next((clause for clause in tell(predicate, view) if clause.passed is False), None)
    return None if deciding is None else Clause(deciding.path, deciding.text, deciding.expected, deciding.actual)


def concerns(sensor: str, types: frozenset[str], event: Event) -> bool:
    """Say whether a source listens to an event's sensor and type."""
    return sensor == event.sensor and (not types or event.type in types)


def tell(predicate: Predicate, view: EventView) -> list[ClauseResult]:
    """Tell a filter's clauses so that the first failed one is why it failed."""
    match predicate:
        case Atom(op, what, value, path):
            actual = what.get(view)
            found = f"{what.text} is absent" if actual is None else show(actual)
            passed = compile_predicate(predicate)(view)
            return [
                ClauseResult(
                    path, f"{op} {what.text}: {show(value)}", f"{_WORDS[op]} {show(value)}", found, passed=passed
                )
            ]
        case All(parts):
            return [clause for part in parts for clause in tell(part, view)]
        case AnyOf(parts, path):
            passed = compile_predicate(predicate)(view)
            inner = [clause for part in parts for clause in tell(part, view)]
            if passed:  # what did not hold within is no reason for anything
                inner = [ClauseResult(c.path, c.text, c.expected, c.actual, c.passed or None) for c in inner]
            actual = "one matches" if passed else "; ".join(f"{clause.path}: {clause.actual}" for clause in inner[:5])
            return [ClauseResult(path, f"any of {len(parts)}", "at least one matches", actual, passed=passed), *inner]
        case Not(part, path):
            passed = compile_predicate(predicate)(view)
            inner = tell(part, view)
            actual = "; ".join(f"{clause.text}: {clause.actual}" for clause in inner[:5])
            return [ClauseResult(path, "not", "no match", actual, passed=passed)]


_WORDS: Mapping[str, str] = {"exact": "equals", "prefix": "starts with", "suffix": "ends with"}
