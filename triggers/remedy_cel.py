"""What would have to be otherwise in an event for a condition to turn out the other way; conditions told part by part.

In flow a condition taken apart (`triggers.celtree`) and an event; out flow clauses with changes. As with filters every
proposal is tried before it is named. Proposals come from what a comparison compares: the value of the other side, and
what lies beside it; for anything else from the literals that stand there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sensors.event import Event
from triggers.activation import Activation
from triggers.celtree import Condition, Node, nodes, operands
from triggers.change import Change, Step, changed, current
from triggers.errors import EvaluationError
from triggers.expression import Expression
from triggers.remedy import Changes, combined, first_that
from triggers.tell import ClauseResult
from triggers.wish import show

_TRIES = 80  # proposals for one comparison
_EVALUATIONS = 3_000  # for one explanation of a small event
_SMALL = 16_384  # bytes
_FEWEST = 40
_FLIPPED = {"_<_": "_>_", "_>_": "_<_", "_<=_": "_>=_", "_>=_": "_<=_", "_==_": "_==_", "_!=_": "_!=_"}
_NEGATED = {"_<_": "_>=_", "_>_": "_<=_", "_<=_": "_>_", "_>=_": "_<_", "_==_": "_!=_", "_!=_": "_==_"}
_THROUGH = ("string", "int", "uint", "double", "timestamp", "size", "lowerAscii", "upperAscii", "trim", "dyn")
_SECOND = timedelta(seconds=1)


@dataclass(slots=True)
class Budget:
    """How many evaluations an explanation may still take: what it cannot find within is not named."""

    left: int


def budget_for(event: Event) -> Budget:
    """Return the budget for an event: evaluations of large ones take longer, so they get fewer."""
    size = len(event.data or b"")
    return Budget(max(_FEWEST, _EVALUATIONS * _SMALL // max(_SMALL, size)))


@dataclass(frozen=True, slots=True)
class Ground:
    """What conditions of one rule are judged over: `activate` gives an event's variables; `items` as in
    `conditions_of`; `item` is the place of the element, None when it has none."""

    activate: Callable[[Event], Activation]
    items: bool = False
    item: tuple[Step, ...] | None = None
    budget: "Budget" = field(default_factory=lambda: Budget(_EVALUATIONS))

    def truth(self, expression: Expression, event: Event) -> bool | None:
        """Return what a condition gives, None when it fails, or when the budget is spent."""
        if self.budget.left <= 0:
            return None
        self.budget.left -= 1
        try:
            return expression.holds(self.activate(event))
        except EvaluationError:
            return None

    def value(self, expression: Expression, event: Event) -> Any:
        """Return what an expression gives. Raises EvaluationError."""
        return expression.evaluate(self.activate(event))


def tell_condition(
    ground: Ground, condition: Condition, event: Event, path: str, *, wanted: bool | None = True
) -> tuple[ClauseResult, ...]:
    """Tell the parts of a condition that ought to give `wanted` (None: it does not matter); () for one without parts.

    Where the whole gives what it ought to, what a part does not give is no reason for anything.
    """
    if condition.op == "if":
        wanted = None
    elif condition.op == "not" and wanted is not None:
        wanted = not wanted
    settled = condition.op in ("and", "or") and _gives(ground, condition, event) is wanted
    return tuple(
        _told(ground, part, event, f"{path}[{index}]", wanted, settled=settled)
        for index, part in enumerate(condition.parts)
    )


def _gives(ground: Ground, condition: Condition, event: Event) -> bool | None:
    try:
        return condition.expression.holds(ground.activate(event))
    except EvaluationError:
        return None


def _told(
    ground: Ground, part: Condition, event: Event, path: str, wanted: bool | None, *, settled: bool
) -> ClauseResult:
    given: bool | None = None
    try:
        given = part.expression.holds(ground.activate(event))
        found = "true" if given else "false"
    except EvaluationError as error:
        found = str(error)
    if part.op == "leaf" and (seen := _seen(ground, part, event)):
        found = f"{found}, with {seen}"
    if wanted is None:
        inner = tell_condition(ground, part, event, path, wanted=None)
        return ClauseResult(path, part.text, "its turn", found, None, inner)
    failed = given is not wanted and not settled
    return ClauseResult(
        path,
        part.text,
        "true" if wanted else "false",
        found,
        True if given is wanted else False if failed else None,
        tell_condition(ground, part, event, path, wanted=wanted if failed or given is wanted else None),
        (reach_condition(ground, part, wanted, event) or ()) if failed else (),
    )


def _seen(ground: Ground, part: Condition, event: Event) -> str:
    """Say what stood at the places that a comparison looks at."""
    places = _places(part.node, ground.item)
    longest = [one for one in places if not any(other[: len(one)] == one and other != one for other in places)]
    words = []
    for place in longest:
        found = current(event, place)
        name = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)[1:]
        words.append(f"{name} = {show(found)}" if found is not None else f"{name} absent or null")
    return ", ".join(words)


def reach_condition(ground: Ground, condition: Condition, wanted: bool, event: Event) -> Changes | None:
    """Return changes after which a condition gives `wanted`, as few as were found; () when it does already."""

    def holds(candidate: Event) -> bool | None:
        return ground.truth(condition.expression, candidate)

    if holds(event) is wanted:
        return ()
    match condition.op:
        case "not":
            way = reach_condition(ground, condition.parts[0], not wanted, event)
        case "and" | "or":
            several = (condition.op == "and") is wanted
            way = combined(
                condition.parts,
                lambda part, at: reach_condition(ground, part, wanted, at),
                holds,
                wanted,
                event,
                several=several,
            )
        case "if":
            way = _reach_branch(ground, condition, wanted, event)
        case _:
            way = None
    if way is not None and holds(changed(event, way)) is wanted:
        return way
    return first_that(islice(_proposals(ground, condition, wanted, event), _TRIES), holds, wanted, event)


def _reach_branch(ground: Ground, condition: Condition, wanted: bool, event: Event) -> Changes | None:
    """Reach a ternary through the branch that is taken, else through the other."""
    asked, then, otherwise = condition.parts
    taken = ground.truth(asked.expression, event)
    for turn in (taken is not False, taken is False):
        first = reach_condition(ground, asked, turn, event)
        if first is None:
            continue
        second = reach_condition(ground, then if turn else otherwise, wanted, changed(event, first))
        if second is not None and ground.truth(condition.expression, changed(event, (*first, *second))) is wanted:
            return (*first, *second)
    return None


# -- proposals ---------------------------------------------------------------------------------------------------------
def _proposals(ground: Ground, leaf: Condition, wanted: bool, event: Event) -> Iterator[Changes]:
    for place, value in _fitting(ground, leaf, wanted, event):
        yield (Change(place, value),)
        if isinstance(value, datetime):
            yield (Change(place, _moment_text(value)),)
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 10_000:
            yield (Change(place, "x" * value),)  # behind size()
            yield (Change(place, [0] * value),)
            yield (Change(place, str(value)),)
    places = _places(leaf.node, ground.item)
    for place in places:
        yield (Change(place, remove=True),)
        yield from ((Change((*place, one.value), remove=True),) for one in leaf.node.args if isinstance(one.value, str))
    if leaf.node.name in _FLIPPED:
        both = [_through(side, ground.item) for side in leaf.node.args]
        for one, other in ((1, 1), (0, 1), (1, 0)):
            yield tuple(Change(place, value) for place, value in zip(both, (one, other), strict=True) if place)
    literals = [node.value for node in nodes(leaf.node) if node.kind == "const"]
    palette = [*literals, *(beside for one in literals for beside in _beside(one)), True, False, "x", 0, 1, "", [], {}]
    palette += [[literal] for literal in literals]
    for value in palette:
        for place in places:
            yield (Change(place, value),)


def _fitting(ground: Ground, leaf: Condition, wanted: bool, event: Event) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Yield (place, value) that a comparison asks for."""
    node = leaf.node
    named = place_of(node, ground.item)
    if named is not None:
        yield named, wanted
        return
    if node.kind == "has" and (field := _select(node, ground.item)) is not None:
        yield field, "x"
    elif node.kind != "call":
        return
    elif node.name in _FLIPPED:
        yield from _compared(ground, leaf, wanted, event)
    elif node.name == "@in":
        yield from _contained(ground, leaf, wanted, event)
    elif node.name in _TEXTS and len(node.args) == 2 and (shown := _through(node.args[0], ground.item)) is not None:
        found, value = current(event, shown), node.args[1].value
        if isinstance(value, str):
            yield from ((shown, text) for text in _TEXTS[node.name](found if isinstance(found, str) else "", value))


def _compared(ground: Ground, leaf: Condition, wanted: bool, event: Event) -> Iterator[tuple[tuple[Step, ...], Any]]:
    sides = operands(leaf, items=ground.items)
    if sides is None:
        return
    op = leaf.node.name if wanted else _NEGATED[leaf.node.name]
    for mine, other, comparison in ((0, 1, op), (1, 0, _FLIPPED[op])):
        place = _through(leaf.node.args[mine], ground.item)
        if place is None:
            continue
        try:
            value = ground.value(sides[other], event)
        except EvaluationError:
            continue
        for fitting in _meeting(comparison, value):
            yield place, fitting


def _contained(ground: Ground, leaf: Condition, wanted: bool, event: Event) -> Iterator[tuple[tuple[Step, ...], Any]]:
    sides = operands(leaf, items=ground.items)
    element, box = leaf.node.args
    place, around = _through(element, ground.item), place_of(box, ground.item)
    try:
        held = None if sides is None else ground.value(sides[1], event)
    except EvaluationError:
        held = None
    try:
        mine = None if sides is None else ground.value(sides[0], event)
    except EvaluationError:
        mine = None
    if place is not None and isinstance(held, list | dict):
        if wanted:
            yield from ((place, one) for one in islice(held, 5))
        else:
            yield from ((place, one) for value in islice(held, 3) for one in _beside(value))
    if around is not None and mine is not None:
        if wanted:
            yield around, [*held, mine] if isinstance(held, list) else [mine]
            if isinstance(mine, str):
                yield (*around, mine), "x"
        elif isinstance(held, list):
            yield around, [one for one in held if one != mine]


def _meeting(op: str, value: Any) -> Iterator[Any]:
    """Yield values that stand in a relation to another: `found OP value`."""
    below, above = _neighbours(value)
    if op in ("_==_", "_<=_", "_>=_"):
        yield value
    if op in ("_<_", "_<=_") and below is not None:
        yield below
    if op in ("_>_", "_>=_") and above is not None:
        yield above
    if op == "_!=_":
        yield from _beside(value)


def _neighbours(value: Any) -> tuple[Any, Any]:
    if isinstance(value, bool) or value is None:
        return None, None
    if isinstance(value, int | float):
        return value - 1, value + 1
    if isinstance(value, str):
        return (value[:-1] if value else None), f"{value}x"
    if isinstance(value, datetime):
        try:
            return value - _SECOND, value + _SECOND
        except OverflowError:
            return None, None
    return None, None


def _beside(value: Any) -> Iterator[Any]:
    """Yield values near another, and unlike it."""
    if isinstance(value, bool):
        yield not value
    elif value is None:
        yield from ("x", 0, "2000-01-01T00:00:00Z")
    else:
        if isinstance(value, str):
            yield f"other {value}"
        yield from (one for one in _neighbours(value) if one is not None)


_TEXTS: Mapping[str, Callable[[str, str], tuple[str, ...]]] = {
    "startsWith": lambda found, value: (value + found, value, f"~{found}", ""),
    "endsWith": lambda found, value: (found + value, value, f"{found}~", ""),
    "contains": lambda found, value: (found + value, value, found.replace(value, ""), ""),
    "matches": lambda found, value: (value, "", f"{found}~", "0", "a", "A"),
}


# -- places ------------------------------------------------------------------------------------------------------------
def place_of(node: Node, item: tuple[Step, ...] | None = None) -> tuple[Step, ...] | None:
    """Return the place in an event that an expression names, None for one that names none."""
    if node.kind == "ident":
        if node.name == "item":
            return item
        head, _, rest = node.name.partition(".")
        return (rest,) if head == "event" and rest not in ("", "uid") else None
    if node.kind == "select":
        return _select(node, item)
    if node.kind == "call" and node.name == "_[_]" and node.args[1].kind == "const":
        below, step = place_of(node.args[0], item), node.args[1].value
        return (*below, step) if below is not None and isinstance(step, str | int) else None
    return None


def _places(root: Node, item: tuple[Step, ...] | None) -> list[tuple[Step, ...]]:
    """Return all places that an expression looks at, in order, each once."""
    found = (place_of(node, item) for node in nodes(root))
    return [*dict.fromkeys(place for place in found if place is not None)]


def _select(node: Node, item: tuple[Step, ...] | None) -> tuple[Step, ...] | None:
    below = place_of(node.args[0], item)
    return None if below is None else (*below, node.name)


def _through(node: Node, item: tuple[Step, ...] | None) -> tuple[Step, ...] | None:
    """Return the place whose value an expression shows, perhaps as another type."""
    if node.kind == "call" and node.name in _THROUGH and len(node.args) == 1:
        return _through(node.args[0], item)
    return place_of(node, item)


def _moment_text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
