"""Conditions of one rule over one event, told for an explanation: their parts, and what would turn those that failed.

In flow a compiled rule and the event under judgement; out flow clauses. All that is tried for one explanation shares
one budget, so that a large event with many elements is explained in bounded time.
"""

from dataclasses import replace

from sensors.event import Event
from triggers.activation import Activation
from triggers.celtree import conditions_of, node_of
from triggers.errors import EvaluationError
from triggers.expression import Expression
from triggers.remedy_cel import Ground, budget_for, place_of, reach_condition, tell_condition
from triggers.rule import CompiledRule, Objection, show
from triggers.tell import ClauseResult
from triggers.view import EventView


class Conditions:
    """Tells the conditions of a rule over an event."""

    def __init__(self, rule: CompiledRule, view: EventView) -> None:
        self._rule = rule
        self._view = view
        self._budget = budget_for(view.event)

    def when(self, when: Expression, objection: Objection | None, activation: Activation) -> ClauseResult:
        """Tell the condition of the rule, which `objection` came of (None: it holds)."""
        if objection is not None and objection.clause.actual != "false":
            found = objection.clause.actual
        else:
            values = values_of(when, activation)
            found = "true" if objection is None else "false"
            found = f"{found}, with {values}" if values else found
        clause = ClauseResult("when", when.text, "true", found, passed=objection is None)
        return self.taken_apart(clause, when)

    def taken_apart(self, clause: ClauseResult, when: Expression, item: int | None = None) -> ClauseResult:
        """Add to the clause of a condition its parts and, if it failed, what would turn it (`item`: its element)."""
        ground, event = self._ground(item), self._view.event
        condition = conditions_of(when.text, items=ground.items)
        parts = tell_condition(ground, condition, event, clause.path)
        changes = () if clause.passed else reach_condition(ground, condition, True, event) or ()
        return replace(clause, parts=parts, changes=changes)

    def _ground(self, item: int | None) -> Ground:
        rule, original = self._rule, self._view.event
        known: list[Activation] = []  # that of the event as it is, which is asked again and again

        def activate(event: Event) -> Activation:
            if event is not original:
                return self._activation(event, item)
            if not known:
                known.append(self._activation(event, item))
            return known[0]

        place = None if item is None or rule.each is None else place_of(node_of(rule.each.text))
        element = None if place is None or item is None else (*place, item)
        return Ground(activate, rule.each is not None, element, self._budget)

    def _activation(self, event: Event, item: int | None) -> Activation:
        """Return the variables of an event, and of one of its elements. Raises EvaluationError."""
        rule, view = self._rule, EventView(event, self._view.now)
        view.check()
        activation = view.activation(rule.names).extended(rule.constants)
        if item is None or rule.each is None:
            return activation
        elements = rule.each.evaluate(activation)
        if not isinstance(elements, list) or item >= len(elements):
            raise EvaluationError(f"there is no element {item}")
        return activation.extended({"item": elements[item]})


def values_of(expression: Expression, activation: Activation) -> str:
    """Tell what the variables of an expression held."""
    told = []
    for name in sorted(expression.names):
        try:
            told.append(f"{name} = {show(activation.value(name))}")
        except EvaluationError as error:
            told.append(f"{name}: {error}")
    return ", ".join(told)
