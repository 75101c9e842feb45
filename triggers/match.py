"""Filters: the CloudEvents Subscriptions dialect (`exact prefix suffix all any not`), compiled to closures.

In flows the nested mapping as written; out flow predicates over an EventView. Several attributes in one `exact` must
all match, several dialects in one mapping too. What an event does not have never matches (and its `not` does). Text
matches text only, numbers numbers, true and false themselves; nothing is converted.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triggers.errors import RuleError
from triggers.view import EventView

Test = Callable[[EventView], bool]
Getter = Callable[[EventView], Any]

_ENVELOPE: Mapping[str, Getter] = {
    "type": lambda view: view.type,
    "subject": lambda view: view.subject,
    "source": lambda view: view.event.source,
    "id": lambda view: view.event.id,
    "sensor": lambda view: view.event.sensor,
    "time": lambda view: view.time_text(),
}
_DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not")


@dataclass(frozen=True, slots=True)
class Field:
    """What a filter looks at: an envelope attribute, `attributes.NAME`, `match.NAME`, or a path into the data."""

    text: str
    get: Getter = field(compare=False)


@dataclass(frozen=True, slots=True)
class Atom:
    """One comparison. `op` is exact, prefix or suffix; `path` is where it stands in the trigger."""

    op: str
    field: Field
    value: Any
    path: str


@dataclass(frozen=True, slots=True)
class All:
    """Every part matches; none at all does too."""

    parts: "tuple[Predicate, ...]"
    path: str


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part matches."""

    parts: "tuple[Predicate, ...]"
    path: str


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not match."""

    part: "Predicate"
    path: str


Predicate = Atom | All | AnyOf | Not


def parse_filter(raw: Any, path: str = "on.filter") -> Predicate:
    """Read a filter as written, None for one that every event matches. Raises RuleError with the path and a remedy."""
    if raw is None:
        return All((), path)
    if not isinstance(raw, Mapping) or not raw:
        raise RuleError(
            "a filter is a mapping of a dialect to what it takes", path, "for example exact: {type: object.created}"
        )
    parts: list[Predicate] = []
    for dialect, value in raw.items():
        where = f"{path}.{dialect}"
        if dialect in ("exact", "prefix", "suffix"):
            parts.extend(_atoms(dialect, value, where))
        elif dialect in ("all", "any"):
            if not isinstance(value, Sequence) or isinstance(value, str) or not value:
                raise RuleError(
                    f"{dialect} takes a list of filters", where, f"for example {dialect}: [{{exact: {{type: a}}}}]"
                )
            children = tuple(parse_filter(child, f"{where}[{i}]") for i, child in enumerate(value))
            parts.append(All(children, where) if dialect == "all" else AnyOf(children, where))
        elif dialect == "not":
            parts.append(Not(parse_filter(value, where), where))
        else:
            near = difflib.get_close_matches(str(dialect), _DIALECTS, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_DIALECTS)}"
            raise RuleError(f"there is no filter dialect {dialect}", where, hint)
    return parts[0] if len(parts) == 1 else All(tuple(parts), path)


def _atoms(op: str, raw: Any, path: str) -> Iterator[Atom]:
    if not isinstance(raw, Mapping) or not raw:
        raise RuleError(f"{op} takes a mapping of attributes to values", path, f"for example {op}: {{subject: orders}}")
    for name, value in raw.items():
        where = f"{path}.{name}"
        found = parse_field(str(name), where)
        text_only = op != "exact" or not found.text.startswith("data")
        if text_only and not isinstance(value, str):
            hint = f'quote it: {name}: "{value}"' if isinstance(value, str | int | float | bool) else "give a text"
            raise RuleError(f"{found.text} is compared with text, not {_kind(value)}", where, hint)
        if not isinstance(value, str | int | float | bool):
            raise RuleError(
                f"{op} compares with a text, a number or true/false, not {_kind(value)}", where, "use `when` for more"
            )
        if op != "exact" and value == "":
            raise RuleError(f"an empty {op} matches everything", where, "leave it out, or say what is meant")
        yield Atom(op, found, value, where)


def _kind(value: Any) -> str:
    kinds = (
        (type(None), "nothing"),
        (bool, "true/false"),
        (int, "a number"),
        (float, "a number"),
        (Mapping, "a mapping"),
    )
    return next((word for kind, word in kinds if isinstance(value, kind)), "a list")


def parse_field(name: str, path: str = "") -> Field:
    """Read the name of what a filter looks at. Raises RuleError for one that is close to an envelope attribute's."""
    if name in _ENVELOPE:
        return Field(name, _ENVELOPE[name])
    head, dot, rest = name.partition(".")
    if head in ("attributes", "match") and dot:
        if not rest:
            raise RuleError(f"{name} names no attribute", path, f"write {head}.NAME")
        return Field(name, _attribute(rest) if head == "attributes" else _capture(rest))
    if head == "data":
        segments = tuple(rest.split(".")) if dot else ()
        if "" in segments:
            raise RuleError(
                f"{name} is not a path into the data", path, "write data.a.b; use `when` for names with dots"
            )
        return Field(name, _data(segments))
    if dot:
        hint = f"did you mean data.{name} or attributes.{name}?"
        raise RuleError(f"events have no {head}", path, hint)
    near = difflib.get_close_matches(name, [*_ENVELOPE, "data", "attributes", "match"], 1, 0.75)
    if near:
        raise RuleError(
            f"events have no {name}", path, f"did you mean {near[0]}? (an attribute of that name: attributes.{name})"
        )
    return Field(f"attributes.{name}", _attribute(name))


def _attribute(name: str) -> Getter:
    return lambda view: view.event.attributes.get(name)


def _capture(name: str) -> Getter:
    return lambda view: view.event.match.get(name)


def _data(segments: tuple[str, ...]) -> Getter:
    if len(segments) == 1:
        only = segments[0]

        def field(view: EventView) -> Any:
            data = view.data()
            return data.get(only) if data.__class__ is dict else step_into(data, only)

        return field

    def path(view: EventView) -> Any:
        value = view.data()
        for segment in segments:
            value = value.get(segment) if value.__class__ is dict else step_into(value, segment)
        return value

    return path


def content_path(field: str) -> tuple[str, ...] | None:
    """Return the path into the data that a field's text names (the data itself: none); None when it names another."""
    head, _, rest = field.partition(".")
    if head != "data":
        return None
    return tuple(rest.split(".")) if rest else ()


def step_into(value: Any, segment: str) -> Any:
    """Return what stands at one segment of a path in a value that is no mapping: a list's element, else None."""
    if (
        value.__class__ is list
        and segment.isascii()
        and segment.isdigit()
        and len(segment) < 10
        and int(segment) < len(value)
    ):
        return value[int(segment)]
    return None


# -- evaluation ------------------------------------------------------------------------------------------------------
def compile_predicate(predicate: Predicate) -> Test:
    """Compile a predicate into one closure."""
    match predicate:
        case Atom():
            return _compile_atom(predicate)
        case All(parts):
            tests = tuple(compile_predicate(part) for part in parts)
            if not tests:
                return _always
            if len(tests) == 1:
                return tests[0]
            if len(tests) == 2:
                one, two = tests
                return lambda view: one(view) and two(view)
            return lambda view: all(test(view) for test in tests)
        case AnyOf(parts):
            tests = tuple(compile_predicate(part) for part in parts)
            return lambda view: any(test(view) for test in tests)
        case Not(part):
            inner = compile_predicate(part)
            return lambda view: not inner(view)


def _always(_: EventView) -> bool:
    return True


def _compile_atom(atom: Atom) -> Test:
    get, value = atom.field.get, atom.value
    if atom.op == "exact":
        if isinstance(value, str):
            return lambda view: bool(get(view) == value)
        if isinstance(value, bool):
            return lambda view: get(view) is value

        def number(view: EventView) -> bool:
            actual = get(view)
            return actual.__class__ is not bool and bool(actual == value)

        return number
    if atom.op == "prefix":

        def prefix(view: EventView) -> bool:
            actual = get(view)
            return actual.__class__ is str and actual.startswith(value)

        return prefix

    def suffix(view: EventView) -> bool:
        actual = get(view)
        return actual.__class__ is str and actual.endswith(value)

    return suffix


EVERYTHING = All((), "")


def relax(predicate: Predicate) -> Predicate:
    """Return a predicate over type and subject alone that holds wherever `predicate` does, maybe EVERYTHING."""
    match predicate:
        case Atom(_, what, _):
            return predicate if what.text in ("type", "subject") else EVERYTHING
        case All(parts, path):
            kept = tuple(part for part in (relax(part) for part in parts) if part != EVERYTHING)
            return All(kept, path) if kept else EVERYTHING
        case AnyOf(parts, path):
            relaxed = tuple(relax(part) for part in parts)
            return EVERYTHING if EVERYTHING in relaxed else AnyOf(relaxed, path)
        case Not(part):
            return predicate if all(atom.field.text in ("type", "subject") for atom in atoms_of(part)) else EVERYTHING


def atoms_of(predicate: Predicate) -> Iterator[Atom]:
    """Yield every comparison, in the order written."""
    match predicate:
        case Atom():
            yield predicate
        case Not(part):
            yield from atoms_of(part)
        case All(parts) | AnyOf(parts):
            for part in parts:
                yield from atoms_of(part)
