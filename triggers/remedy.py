"""What would have to be otherwise in an event for a clause of a filter to turn out the other way. Pure.

In flow a predicate and an event; out flow changes. Every proposal is tried before it is named: the changed event is
judged by the very predicate, so what is named does what it says. None: no change of the event was found.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sensors.event import Event
from triggers.change import Change, Impossible, changed, current
from triggers.errors import EvaluationError
from triggers.match import All, AnyOf, Atom, Not, Predicate, compile_predicate
from triggers.tell import ClauseResult
from triggers.view import EventView

Changes = tuple[Change, ...]
Holds = Callable[[Event], bool | None]  # None: it cannot be said, because it fails
_Part = TypeVar("_Part")
_KEEP = 200  # characters of what is there that a proposal keeps
_MOMENT = "2000-01-01T00:00:00.000000Z"


def reach_predicate(predicate: Predicate, wanted: bool, event: Event) -> Changes | None:
    """Return changes after which a predicate gives `wanted`, as few as were found; () when it does already."""
    test = compile_predicate(predicate)

    def holds(candidate: Event) -> bool | None:
        view = EventView(candidate, candidate.received_at)
        try:
            view.check()
            return test(view)
        except EvaluationError:
            return None

    if holds(event) is wanted:
        return ()
    match predicate:
        case Atom():
            return first_that(_proposals(predicate, wanted, event), holds, wanted, event)
        case Not(part):
            return reach_predicate(part, not wanted, event)
        case All(parts) | AnyOf(parts):
            several = isinstance(predicate, All) is wanted
            return combined(
                parts, lambda part, at: reach_predicate(part, wanted, at), holds, wanted, event, several=several
            )


def with_remedies(clauses: Sequence[ClauseResult], predicate: Predicate, event: Event) -> list[ClauseResult]:
    """Name at each clause of a filter that failed what would turn it."""
    by_path = {part.path: part for part in _told(predicate)}
    return [
        replace(clause, changes=reach_predicate(by_path[clause.path], True, event) or ())
        if clause.passed is False and clause.path in by_path
        else clause
        for clause in clauses
    ]


def first_that(proposals: Iterator[Changes], holds: Holds, wanted: bool, event: Event) -> Changes | None:
    """Return the first proposal after which `holds` gives what is wanted."""
    for proposal in proposals:
        try:
            if holds(changed(event, proposal)) is wanted:
                return proposal
        except Impossible:
            continue
    return None


def combined(
    parts: Sequence[_Part],
    reach: Callable[[_Part, Event], Changes | None],
    holds: Holds,
    wanted: bool,
    event: Event,
    *,
    several: bool,
) -> Changes | None:
    """Combine what parts need: all of them (`several`), each seeing the changes before it, else the one that takes
    the least."""
    if not several:
        ways = [way for way in (reach(part, event) for part in parts) if way is not None]
        sure = (way for way in sorted(ways, key=len) if holds(changed(event, way)) is wanted)
        return next(sure, None)
    for order in (parts, [*reversed(parts)]):
        at, found = event, list[Change]()
        for part in order:
            way = reach(part, at)
            if way is None:
                break
            found += way
            at = changed(at, way)
        if holds(at) is wanted:
            return tuple(found)
    return None


def _told(predicate: Predicate) -> Iterator[Predicate]:
    """Yield the predicates that have a clause of their own."""
    match predicate:
        case Atom() | Not():
            yield predicate
        case All(parts):
            for part in parts:
                yield from _told(part)
        case AnyOf(parts):
            yield predicate
            for part in parts:
                yield from _told(part)


def steps_of(field: str) -> tuple[str, ...]:
    """Return the steps of what a filter looks at."""
    head, dot, rest = field.partition(".")
    if head == "data":
        return (head, *rest.split(".")) if dot else (head,)
    return (head, rest) if dot else (head,)


def _proposals(atom: Atom, wanted: bool, event: Event) -> Iterator[Changes]:
    steps = steps_of(atom.field.text)
    found = current(event, steps)
    for value in _values(atom, found) if wanted else _others(atom.value, found):
        yield (Change(steps, value),)
    if not wanted:
        yield (Change(steps, remove=True),)


def _values(atom: Atom, found: Any) -> Iterator[Any]:
    """Yield values that may match."""
    value = atom.value
    kept = found if isinstance(found, str) and 0 < len(found) <= _KEEP else ""
    if atom.op == "exact":
        yield value
    elif atom.field.text == "time":
        yield from (value + _MOMENT[len(value) :], _MOMENT[: max(0, len(_MOMENT) - len(value))] + value)
        yield from (_MOMENT[:20] + value[-7:], _MOMENT[:19] + value[-1:], value)
    elif atom.op == "prefix":
        yield from (value + kept, value)
    else:
        yield from (kept + value, value)


def _others(value: Any, found: Any) -> Iterator[Any]:
    """Yield values that are something else."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield from (value + 1, 0, 1)
    else:
        yield from (f"other-{value}-other", "other", "2000-01-01T00:00:00Z", "2000-06-06T06:06:06.5Z", f"{found}~")
