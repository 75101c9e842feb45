"""A compiled trigger: its filters as predicates, its expressions and templates ready to evaluate.

`compile_rule` collects every problem of one trigger. `CompiledRule.ask` judges one event that the filters let through
and yields, per run rule and element, a `Wish` or an `Objection`: pure, with no uid and no clock.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triggers.activation import Activation
from triggers.compiler import CompiledSource, Compiler
from triggers.control_rule import CompiledControl, Pass, Stopped, compile_control, compile_gathered_runs
from triggers.decision import Clause
from triggers.errors import EvaluationError, MissingField, RuleError, Unreadable
from triggers.expression import Expression
from triggers.pattern import Pattern
from triggers.pattern_rule import CompiledPattern, compile_pattern
from triggers.round import Offer
from triggers.scope import EVENT_SCOPE, ITEM_SCOPE, JOIN_SCOPE
from triggers.trigger import Trigger
from triggers.view import EventView
from triggers.wish import CompiledRun, Objection, Wish, name_of, render, show

__all__ = ["CompiledRule", "CompiledRun", "Objection", "Wish", "compile_rule", "constants_of", "name_of", "show"]

MAX_ITEMS = 5_000
Answer = Wish | Objection | Offer | Pass | Stopped


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A trigger ready to judge. `sources` are (sensor, types, predicate) with their paths."""

    trigger: Trigger
    sources: Sequence[CompiledSource]
    when: Expression | None
    each: Expression | None
    runs: Sequence[CompiledRun]
    names: frozenset[str]
    constants: Mapping[str, Any]  # what `trigger.…` is in its expressions; empty when none reads it
    refusal: Objection | None  # what a `when` that is plainly false says
    pattern: CompiledPattern | None = None  # with one, events are offered to it; `runs` are for when it is fulfilled
    control: CompiledControl | None = None  # with one, events have to pass it; `runs` are for when they have

    @property
    def judges_items(self) -> bool:
        """Say whether `when` looks at the element, so that it is asked once for each."""
        return self.when is not None and "item" in self.when.names

    def objects(self, activation: Activation) -> Objection | None:
        """Ask `when` about the event; None lets it through (also when `when` is about elements)."""
        if self.when is None or self.judges_items:
            return None
        return self._objects(self.when, activation, None)

    def answers(self, view: EventView, activation: Activation) -> Iterator[Answer]:
        """Say what becomes of an event that `objects` let through. Raises Unreadable."""
        if self.pattern is not None:
            return self.pattern.ask(view, activation)
        if self.control is not None:
            entered = self.control.ask(self.trigger.name, view, activation)
            if entered is not None:
                return iter((entered,))
        return self.ask(activation)

    def ask(self, activation: Activation) -> Iterator[Wish | Objection]:
        """Render all runs of an event that `objects` let through, element by element. Raises Unreadable."""
        if self.each is None:
            for run in self.runs:
                yield render(run, activation, None)
            return
        elements = self._elements(self.each, activation)
        if isinstance(elements, Objection):
            yield elements
            return
        for item, element in enumerate(elements):
            inner = activation.extended({"item": element})
            if self.judges_items and self.when is not None:
                objection = self._objects(self.when, inner, item)
                if objection is not None:
                    yield objection
                    continue
            for run in self.runs:
                yield render(run, inner, item)

    def _elements(self, each: Expression, activation: Activation) -> list[Any] | Objection:
        try:
            elements = each.evaluate(activation)
        except Unreadable:
            raise
        except EvaluationError as error:
            return Objection(Clause("each", each.text, "a list", str(error)), f"each failed: {error}", error=True)
        if not isinstance(elements, list):
            clause = Clause("each", each.text, "a list", show(elements))
            return Objection(clause, f"each gave {show(elements)}, which is no list", error=True)
        if not elements:
            return Objection(
                Clause("each", each.text, "at least one element", "none"), "each gave no element", error=False
            )
        if len(elements) > MAX_ITEMS:
            clause = Clause("each", each.text, f"at most {MAX_ITEMS} elements", str(len(elements)))
            return Objection(clause, f"each gave {len(elements)} elements; {MAX_ITEMS} are allowed", error=True)
        return elements

    def _objects(self, when: Expression, activation: Activation, item: int | None) -> Objection | None:
        try:
            if when.holds(activation):
                return None
        except Unreadable:
            raise
        except EvaluationError as error:
            failed = not (isinstance(error, MissingField) and not self.trigger.missing_field_is_error)
            reason = f"when failed: {error}" if failed else f"when does not hold: {error} (missing_field: false)"
            return Objection(Clause("when", when.text, "true", str(error)), reason, error=failed, item=item)
        return self.refusal if item is None else _refusal(when, item)


def _refusal(when: Expression, item: int | None = None) -> Objection:
    return Objection(Clause("when", when.text, "true", "false"), "when does not hold", error=False, item=item)


def compile_rule(trigger: Trigger) -> tuple[CompiledRule | None, list[RuleError]]:
    """Compile a trigger; returns (None, every problem) when there is any."""
    compiler = Compiler()
    if trigger.pattern is None:
        compiled = _compile_plain(trigger, compiler)
    else:
        compiled = _compile_patterned(trigger, trigger.pattern, compiler)
    if compiler.errors:
        for problem in compiler.errors:
            problem.trigger = trigger.name
        return None, compiler.errors
    return compiled, []


def _compile_plain(trigger: Trigger, compiler: Compiler) -> CompiledRule:
    scope = EVENT_SCOPE if trigger.each is None else ITEM_SCOPE
    places = ["on"] if len(trigger.on) == 1 else [f"on[{i}]" for i in range(len(trigger.on))]
    sources = [compiler.source(source, place) for source, place in zip(trigger.on, places, strict=True)]
    if not trigger.on:
        compiler.refuse("the trigger listens to nothing", "on", "name a sensor: on: {sensor: …}")
    when = compiler.expression(trigger.when, "when", "bool", scope)
    each = compiler.expression(trigger.each, "each", "list", EVENT_SCOPE)
    if not trigger.runs:
        compiler.refuse("the trigger starts nothing", "run", "name a pipeline: run: {pipeline: …}")
    control = None if trigger.control is None else compile_control(trigger, trigger.control, compiler)
    gathers = control is not None and control.gathers is not None
    runs = compile_gathered_runs(trigger, compiler) if gathers else compiler.runs(trigger.runs, scope)
    parts = [when, each]
    if not gathers:  # else the runs are rendered over several events
        parts += [e for run in runs for e in (run.key, run.partition, run.lane, *run.params.expressions)]
    names = frozenset().union(*(part.names for part in parts if part is not None))
    names |= frozenset() if control is None else control.names
    constants = constants_of(trigger)
    return CompiledRule(
        trigger=trigger,
        sources=tuple(source for source in sources if source is not None),
        when=when,
        each=each,
        runs=tuple(runs),
        names=names - {"item"} - constants.keys(),
        constants={name: value for name, value in constants.items() if name in names},
        refusal=None if when is None else _refusal(when),
        control=control,
    )


def _compile_patterned(trigger: Trigger, pattern: Pattern, compiler: Compiler) -> CompiledRule:
    """Compile a trigger that waits for more than one event; its runs are rendered when the pattern is fulfilled."""
    if trigger.when is not None or trigger.each is not None:
        word = "when" if trigger.when is not None else "each"
        compiler.refuse(f"`{word}` stands beside a pattern", word, "give each part its own `when`")
    if not trigger.runs:
        compiler.refuse("the trigger starts nothing", "run", "name a pipeline: run: {pipeline: …}")
    compiled = compile_pattern(trigger, pattern, compiler)
    names = frozenset().union(*(part.names for part in compiled.parts))
    constants = constants_of(trigger)
    return CompiledRule(
        trigger=trigger,
        sources=tuple(part.source for part in compiled.parts),
        when=None,
        each=None,
        runs=tuple(compiler.runs(trigger.runs, JOIN_SCOPE)),
        names=names - constants.keys(),
        constants={name: value for name, value in constants.items() if name in names},
        refusal=None,
        pattern=compiled,
    )


def constants_of(trigger: Trigger) -> Mapping[str, Any]:
    """Return what `trigger.…` is in expressions."""
    return {"trigger.name": trigger.name, "trigger.version": trigger.version}
