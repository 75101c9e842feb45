"""Triggers grouped by what they listen to: sensor, then type, then the filter index."""

from collections.abc import Mapping, Sequence
from typing import cast

from triggers.index import FilterIndex
from triggers.match import EVERYTHING, Predicate, relax
from triggers.quick import Quick, any_of
from triggers.rule import CompiledRule
from triggers.view import Envelope, EventView

ANY_TYPE = "*"


class Candidates:
    """The triggers of one sensor that a type of event concerns, with the indexes over their filters.

    `name` names them in counters (`SENSOR|TYPE`, `SENSOR|*` for types that no trigger names); `positions` are the
    candidates in configured order; `size` is how many there are. `quick` looks at content alone and says no only when
    no filter matches; None where there is no such look.
    """

    __slots__ = ("_indexes", "name", "positions", "quick", "size")

    def __init__(self, name: str, positions: Sequence[int], indexes: Sequence[FilterIndex]) -> None:
        self.name = name
        self.positions = tuple(positions)
        self.size = len(self.positions)
        self._indexes = tuple(index for index in indexes if index.size)
        looks = [index.quick for index in self._indexes]
        self.quick: Quick | None = None if None in looks else any_of([look for look in looks if look is not None])

    def match(self, view: EventView) -> list[int]:
        """Return the positions of the triggers whose filter matches, ascending, each once. Raises Unreadable."""
        if len(self._indexes) == 1:
            return self._indexes[0].match(view)
        return sorted({position for index in self._indexes for position in index.match(view)})

    def matches(self, view: EventView) -> bool:
        """Say whether the filter of any trigger matches. Raises Unreadable."""
        return any(index.matches(view) for index in self._indexes)

    def probes(self, view: EventView) -> int:
        """Return how many filters the indexes would try on an event."""
        return sum(len(index.probe(view)) for index in self._indexes)


class SensorRules:
    """All triggers of one sensor. `names` are the variables that any of their expressions reads."""

    def __init__(self, sensor: str, rules: Sequence[CompiledRule]) -> None:
        self.sensor = sensor
        self.rules = tuple(rules)
        self.names = frozenset().union(*(rule.names for rule in rules))
        general: list[tuple[int, Predicate]] = []
        typed: dict[str, list[tuple[int, Predicate]]] = {}
        for position, rule in enumerate(self.rules):
            for name, types, predicate, _ in rule.sources:
                if name != sensor:
                    continue
                if types:
                    for one in sorted(types):
                        typed.setdefault(one, []).append((position, predicate))
                else:
                    general.append((position, predicate))
        untyped = FilterIndex(general)
        self._others = Candidates(f"{sensor}|{ANY_TYPE}", _positions(general), [untyped])
        self._by_type: Mapping[str, Candidates] = {
            one: Candidates(f"{sensor}|{one}", _positions([*filters, *general]), [FilterIndex(filters), untyped])
            for one, filters in typed.items()
        }
        self._wanted = _Wanted(general)
        self._wanted_types = {one: _Wanted(filters) for one, filters in typed.items()}

    def candidates(self, type: str) -> Candidates:
        """Return the candidates of a type."""
        return self._by_type.get(type, self._others)

    def wants(self, type: str, subject: str | None) -> bool:
        """Return False only when no filter could match, judged by type and subject."""
        wanted = self._wanted_types.get(type)
        return self._wanted.by(type, subject) or (wanted is not None and wanted.by(type, subject))


class _Wanted:
    """Filters reduced to what type and subject tell."""

    __slots__ = ("_index", "_whatever")

    def __init__(self, filters: Sequence[tuple[int, Predicate]]) -> None:
        relaxed = [(position, relax(predicate)) for position, predicate in filters]
        self._whatever = any(predicate == EVERYTHING for _, predicate in relaxed)
        self._index = FilterIndex([] if self._whatever else relaxed)

    def by(self, type: str, subject: str | None) -> bool:
        if self._whatever:
            return True
        if not self._index.size:
            return False
        return bool(self._index.match(cast("EventView", Envelope(type, subject))))  # reduced filters read nothing else


def _positions(filters: Sequence[tuple[int, Predicate]]) -> list[int]:
    return sorted({position for position, _ in filters})


def group_by_sensor(rules: Sequence[CompiledRule]) -> dict[str, SensorRules]:
    """Group compiled rules by sensor, in configured order."""
    grouped: dict[str, list[CompiledRule]] = {}
    for rule in rules:
        for sensor in dict.fromkeys(sensor for sensor, _, _, _ in rule.sources):
            grouped.setdefault(sensor, []).append(rule)
    return {sensor: SensorRules(sensor, members) for sensor, members in grouped.items()}
