"""Explanations of the flow control: what can be told of it from one event, stage by stage. Pure.

What the keys hold at the moment is known to the stored decision alone: an event that enters a throttle may be stopped
there, one that enters a batch goes on with the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from triggers.activation import Activation
from triggers.calendar import told
from triggers.control import Batch, Debounce, Over, Sample
from triggers.control_rule import CompiledControl, Pass
from triggers.decision import Outcome
from triggers.rate import goes_on
from triggers.stage import Place
from triggers.tell import ClauseResult
from triggers.view import EventView
from triggers.windows import is_open
from triggers.wish import Objection, show


@dataclass(frozen=True, slots=True)
class Entered:
    """The clauses, and where the event stops. `outcome` None: it goes on to the runs, unless a key is in its way."""

    clauses: Sequence[ClauseResult]
    outcome: Outcome | None = None
    reason: str = ""


def tell_control(control: CompiledControl, trigger: str, view: EventView, activation: Activation) -> Entered:
    """Tell what the flow control makes of an event that matched. Raises Unreadable."""
    event, rules = view.event, control.control
    clauses: list[ClauseResult] = []
    if rules.sample is not None:
        inside = goes_on(rules.sample, event.sensor, event.id)
        found = "it is" if inside else "it is not"
        clauses.append(ClauseResult("sample", _share(rules.sample), "an event of the sample", found, passed=inside))
    entered = control.ask(trigger, view, activation)
    if isinstance(entered, Objection):
        clause = entered.clause
        clauses.append(ClauseResult(clause.path, clause.text, clause.expected, clause.actual, passed=False))
        return Entered(clauses, Outcome.ERROR if entered.error else Outcome.FILTERED, entered.reason)
    hours = rules.active
    inside = hours is None or is_open(hours, event.received_at)
    if hours is not None:
        at = told(event.received_at, hours.timezone)
        expected = "a moment within the active windows"
        clauses.append(ClauseResult("active", hours.outside.value, expected, at, passed=inside))
    if entered is not None and not isinstance(entered, Pass):
        return Entered(clauses, entered.outcome, entered.reason)
    keys = entered.keys if entered is not None else {}
    for place, expression in control.by.items():
        found = show(keys.get(place, ""))
        clauses.append(ClauseResult(f"{place}.by", expression.text, "a key", found, passed=True))
    if hours is not None and not inside and rules.throttle is None:
        outcome = Outcome.HELD if hours.outside is Over.HOLD else Outcome.OUT_OF_WINDOW
        return Entered(clauses, outcome, "it came outside of the active windows")
    match rules.gather:
        case Batch():
            return Entered(clauses, Outcome.BUFFERED, f"it gathers under key {keys[Place.BATCH]!r}")
        case Debounce():
            return Entered(clauses, Outcome.BUFFERED, f"key {keys[Place.DEBOUNCE]!r} is waited for until it is quiet")
    return Entered(clauses)


def _share(sample: Sample) -> str:
    return f"one of {sample.every}" if sample.every is not None else f"{sample.rate:g} of all"
