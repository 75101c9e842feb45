"""A compiled trigger: its filters as predicates, its expressions and templates ready to evaluate.

`compile_rule` collects every problem of one trigger. `CompiledRule.ask` judges one event that the filters let through
and yields, per run rule and element, a `Wish` or an `Objection`: pure, with no uid and no clock.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from triggers.activation import Activation
from triggers.decision import Clause
from triggers.errors import EvaluationError, MissingField, RuleError, Unreadable
from triggers.expression import Expression
from triggers.match import Predicate, parse_filter
from triggers.scope import EVENT_SCOPE, ITEM_SCOPE
from triggers.template import Template, compile_or_template, compile_template, moment_text
from triggers.trigger import RunRule, Trigger

MAX_ITEMS = 5_000
MAX_PARAMS_BYTES = 65_536
MAX_KEY = 1_024  # bytes; an index of PostgreSQL takes 2,700


@dataclass(frozen=True, slots=True)
class CompiledRun:
    """One run rule, ready to render. `path` is where it stands (`run` or `run[1]`)."""

    rule: RunRule
    position: int
    path: str
    params: Template
    key: Expression | None
    partition: Expression | None
    lane: Expression | None


@dataclass(frozen=True, slots=True)
class Wish:
    """A rendered run: `key` None means that the trigger event's own id is the key."""

    run: CompiledRun
    item: int | None
    params: Mapping[str, Any]
    key: str | None
    partition: str | None
    lane: str | None


@dataclass(frozen=True, slots=True)
class Objection:
    """Why there is no run: `error` tells a failed evaluation from a condition that does not hold."""

    clause: Clause
    reason: str
    error: bool
    item: int | None = None


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A trigger ready to judge. `sources` are (sensor, types, predicate) with their paths."""

    trigger: Trigger
    sources: Sequence[tuple[str, frozenset[str], Predicate, str]]
    when: Expression | None
    each: Expression | None
    runs: Sequence[CompiledRun]
    names: frozenset[str]
    constants: Mapping[str, Any]  # what `trigger.…` is in its expressions; empty when none reads it
    refusal: Objection | None  # what a `when` that is plainly false says

    @property
    def judges_items(self) -> bool:
        """Say whether `when` looks at the element, so that it is asked once for each."""
        return self.when is not None and "item" in self.when.names

    def objects(self, activation: Activation) -> Objection | None:
        """Ask `when` about the event; None lets it through (also when `when` is about elements)."""
        if self.when is None or self.judges_items:
            return None
        return self._objects(self.when, activation, None)

    def ask(self, activation: Activation) -> Iterator[Wish | Objection]:
        """Render all runs of an event that `objects` let through, element by element. Raises Unreadable."""
        if self.each is None:
            for run in self.runs:
                yield _render(run, activation, None)
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
                yield _render(run, inner, item)

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


def _render(run: CompiledRun, activation: Activation, item: int | None) -> Wish | Objection:
    where, text = f"{run.path}.params", ""
    try:
        params = run.params.render(activation)
        if not run.params.constant and len(orjson.dumps(params)) > MAX_PARAMS_BYTES:
            raise EvaluationError(
                f"the parameters are larger than {MAX_PARAMS_BYTES} bytes; pass a reference to the data instead"
            )
        key = partition = lane = None
        if run.key is not None:
            where, text = f"{run.path}.key", run.key.text
            key = name_of(run.key.evaluate(activation))
            if key is None:
                raise EvaluationError("the key is null; without a key, leave the field out")
        if run.partition is not None:
            where, text = f"{run.path}.partition", run.partition.text
            partition = name_of(run.partition.evaluate(activation))
        if run.lane is not None:
            where, text = f"{run.path}.lane", run.lane.text
            lane = name_of(run.lane.evaluate(activation))
    except Unreadable:
        raise
    except (EvaluationError, orjson.JSONEncodeError) as error:
        return Objection(Clause(where, text, "a value", str(error)), f"{where} failed: {error}", error=True, item=item)
    return Wish(run, item, params, key, partition, lane)


def name_of(value: Any) -> str | None:
    """Return a key, lane or partition as text, None for null. Raises EvaluationError for what names nothing."""
    if value is None:
        return None
    if isinstance(value, datetime):
        value = moment_text(value)
    elif isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    if not isinstance(value, str):
        raise EvaluationError(f"{show(value)} is no name; string(…) makes text of a number with a fraction")
    if not value:
        raise EvaluationError("the text is empty; null stands for none")
    if len(value) > MAX_KEY // 4 and (size := len(value.encode("utf-8", "replace"))) > MAX_KEY:
        raise EvaluationError(f"the text has {size} bytes; {MAX_KEY} are allowed")
    return value


def show(value: Any, limit: int = 200) -> str:
    """Return a value in words for people, bounded."""
    if isinstance(value, datetime):
        text = moment_text(value)
    else:
        try:
            text = orjson.dumps(value).decode()
        except (TypeError, RecursionError):
            text = str(type(value).__name__) if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def compile_rule(trigger: Trigger) -> tuple[CompiledRule | None, list[RuleError]]:
    """Compile a trigger; returns (None, every problem) when there is any."""
    errors: list[RuleError] = []
    scope = EVENT_SCOPE if trigger.each is None else ITEM_SCOPE

    def expression(
        text: str | None, path: str, expect: str, within: Mapping[str, str], *, varies: bool = False
    ) -> Expression | None:
        if text is None:
            return None
        try:
            found = compile_or_template(text, within, path=path, expect=expect)
        except RuleError as error:
            errors.append(error)
            return None
        if varies and found.constant:
            word = path.rpartition(".")[2]
            hint = f"name a field of the event, or leave {word} out"
            errors.append(RuleError(f"{word} is the same for every event", path, hint))
        return found

    sources = []
    for i, source in enumerate(trigger.on):
        path = "on" if len(trigger.on) == 1 else f"on[{i}]"
        try:
            sources.append(
                (source.sensor, frozenset(source.types), parse_filter(source.filter, f"{path}.filter"), path)
            )
        except RuleError as error:
            errors.append(error)
    if not trigger.on:
        errors.append(RuleError("the trigger listens to nothing", "on", "name a sensor: on: {sensor: …}"))
    when = expression(trigger.when, "when", "bool", scope)
    each = expression(trigger.each, "each", "list", EVENT_SCOPE)
    runs = []
    if not trigger.runs:
        errors.append(RuleError("the trigger starts nothing", "run", "name a pipeline: run: {pipeline: …}"))
    for i, rule in enumerate(trigger.runs):
        path = "run" if len(trigger.runs) == 1 else f"run[{i}]"
        params = compile_template({}, scope)
        try:
            params = compile_template(rule.params, scope, path=f"{path}.params")
        except RuleError as error:
            errors.append(error)
        key = expression(rule.key, f"{path}.key", "string", scope, varies=True)
        partition = expression(rule.partition, f"{path}.partition", "string", scope)
        lane = expression(rule.lane, f"{path}.lane", "string", scope, varies=True)
        runs.append(CompiledRun(rule, i, path, params, key, partition, lane))
    if errors:
        for problem in errors:
            problem.trigger = trigger.name
        return None, errors
    parts = [when, each, *(e for run in runs for e in (run.key, run.partition, run.lane, *run.params.expressions))]
    names = frozenset().union(*(part.names for part in parts if part is not None))
    constants = {"trigger.name": trigger.name, "trigger.version": trigger.version}
    own = {name: value for name, value in constants.items() if name in names}
    compiled = CompiledRule(
        trigger=trigger,
        sources=tuple(sources),
        when=when,
        each=each,
        runs=tuple(runs),
        names=names - {"item"} - constants.keys(),
        constants=own,
        refusal=None if when is None else _refusal(when),
    )
    return compiled, []
