"""The index: from an event to the few filters that can match it.

For each filter one condition is chosen that it cannot match without: an `exact`, else a `prefix` or `suffix`, the one
whose field tells most filters apart. Those conditions are hashed, so that ten thousand filters with distinct `exact`
values on one field cost one look-up. Filters without such a condition (`not`, none at all) are tried for every event.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from triggers.match import All, AnyOf, Atom, Getter, Not, Predicate, Test, compile_predicate
from triggers.quick import Quick, hashed, quick_look
from triggers.view import EventView

_Key = tuple[str, str]  # (op, field)


@dataclass(frozen=True, slots=True)
class Entry:
    """A filter in the index: `position` orders the answers, `sure` says that its condition alone decides."""

    position: int
    test: Test
    sure: bool


class FilterIndex:
    """An immutable index over (position, predicate). Positions may repeat (several sources of one trigger)."""

    __slots__ = ("_always", "_exact", "_prefix", "_suffix", "quick", "size")

    def __init__(self, filters: Sequence[tuple[int, Predicate]]) -> None:
        self.size = len(filters)
        distinct: dict[_Key, set[Any]] = {}
        for _, predicate in filters:
            _gather(predicate, distinct)
        scores = {key: (len(values), _RANK[key[0]]) for key, values in distinct.items()}
        self._always: list[Entry] = []
        exact: dict[str, tuple[Getter, dict[Any, list[Entry]]]] = {}
        affixes: dict[str, dict[str, tuple[Getter, dict[str, list[Entry]]]]] = {"prefix": {}, "suffix": {}}
        for position, predicate in filters:
            conditions = _conditions(predicate, scores)
            sure = isinstance(predicate, Atom) or (
                isinstance(predicate, AnyOf) and all(isinstance(p, Atom) for p in predicate.parts)
            )
            entry = Entry(position, compile_predicate(predicate), sure)
            if conditions is None:
                self._always.append(entry)
                continue
            for atom in conditions:
                tables = exact if atom.op == "exact" else affixes[atom.op]
                _, table = tables.setdefault(atom.field.text, (atom.field.get, {}))
                table.setdefault(hashed(atom.value) if atom.op == "exact" else atom.value, []).append(entry)
        self._exact = tuple(exact.values())
        self._prefix = _by_length(affixes["prefix"])
        self._suffix = _by_length(affixes["suffix"])
        # A look at content alone that says no only when no filter matches; None: there is no such look.
        self.quick: Quick | None = None
        if not self._always:
            self.quick = quick_look(
                *(
                    {field: table for field, (_, table) in tables.items()}
                    for tables in (exact, affixes["prefix"], affixes["suffix"])
                )
            )

    def probe(self, view: EventView) -> list[Entry]:
        """Return the entries that could match, perhaps one twice. Raises Unreadable when the data cannot be read."""
        found = self._always.copy()
        for get, table in self._exact:
            value = get(view)
            if value is not None:
                entries = table.get(hashed(value))
                if entries is not None:
                    found += entries
        for get, lengths, texts in self._prefix:
            value = get(view)
            if value.__class__ is str:
                for length in lengths:
                    if length > len(value):
                        break
                    found += texts.get(value[:length], ())
        for get, lengths, texts in self._suffix:
            value = get(view)
            if value.__class__ is str:
                for length in lengths:
                    if length > len(value):
                        break
                    found += texts.get(value[len(value) - length :], ())
        return found

    def match(self, view: EventView) -> list[int]:
        """Return the positions of the filters that match, ascending, each once. Raises Unreadable."""
        found = self.probe(view)
        if not found:
            return []
        if len(found) == 1:
            entry = found[0]
            return [entry.position] if entry.sure or entry.test(view) else []
        return sorted({entry.position for entry in found if entry.sure or entry.test(view)})

    def matches(self, view: EventView) -> bool:
        """Say whether any filter matches, as soon as one does. Raises Unreadable."""
        for get, table in self._exact:
            value = get(view)
            if value is not None:
                for entry in table.get(hashed(value), ()):
                    if entry.sure or entry.test(view):
                        return True
        if self._prefix or self._suffix:
            return bool(self.match(view))
        return any(entry.sure or entry.test(view) for entry in self._always)


_RANK = {"exact": 1, "prefix": 0, "suffix": 0}


def _by_length(
    tables: dict[str, tuple[Getter, dict[str, list[Entry]]]],
) -> tuple[tuple[Getter, tuple[int, ...], dict[str, list[Entry]]], ...]:
    return tuple((get, tuple(sorted({len(text) for text in table})), table) for get, table in tables.values())


def _gather(predicate: Predicate, distinct: dict[_Key, set[Any]]) -> None:
    """Collect the distinct values that conditions compare a field with."""
    match predicate:
        case Atom(op, what, value):
            distinct.setdefault((op, what.text), set()).add(hashed(value))
        case All(parts) | AnyOf(parts):
            for part in parts:
                _gather(part, distinct)
        case Not():
            pass


def _conditions(predicate: Predicate, scores: dict[_Key, tuple[int, int]]) -> list[Atom] | None:
    """Return comparisons one of which must hold for the predicate to match; None when there are no such."""
    match predicate:
        case Atom():
            return [predicate]
        case All(parts):
            choices = [choice for choice in (_conditions(part, scores) for part in parts) if choice is not None]
            return max(choices, key=lambda choice: _worth(choice, scores)) if choices else None
        case AnyOf(parts):
            union: list[Atom] = []
            for part in parts:
                choice = _conditions(part, scores)
                if choice is None:
                    return None
                union += choice
            return union
        case Not():
            return None


def _worth(conditions: list[Atom], scores: dict[_Key, tuple[int, int]]) -> tuple[int, int, int]:
    """Order choices: by the weakest of the conditions, then by how few there are."""
    weakest = min(scores[atom.op, atom.field.text] for atom in conditions)
    return (*weakest, -len(conditions))
