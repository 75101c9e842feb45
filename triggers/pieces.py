"""The list that an expression turns into its result element by element, so that it can be given in pieces."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from triggers.activation import Activation
from triggers.errors import EvaluationError


@dataclass(frozen=True, slots=True)
class Pieces:
    """A list within a variable: the variable's name, and the fields that lead to the list."""

    variable: str
    fields: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join((self.variable, *self.fields))

    def elements(self, activation: Activation) -> Sequence[Any]:
        """Return the list; none for what is no list: the expression itself will say what is wrong with it."""
        try:
            value = activation.value(self.variable)
        except EvaluationError:
            return ()
        for name in self.fields:
            if not isinstance(value, dict) or name not in value:
                return ()
            value = value[name]
        return value if isinstance(value, list) else ()

    def with_only(self, activation: Activation, elements: Sequence[Any]) -> Activation:
        """Return an activation in which the list holds only these elements."""
        whole = _replaced(activation.value(self.variable), self.fields, list(elements))
        return Activation(None, lambda name: whole if name == self.variable else activation.value(name))


def _replaced(value: Any, fields: Sequence[str], elements: list[Any]) -> Any:
    if not fields:
        return elements
    changed: Mapping[str, Any] = {**value, fields[0]: _replaced(value[fields[0]], fields[1:], elements)}
    return changed


def pieces_of(path: Sequence[str], names: frozenset[str]) -> Pieces | None:
    """Return where the list of a path stands: names of variables may be qualified (`event.data`)."""
    for length in range(len(path), 0, -1):
        name = ".".join(path[:length])
        if name in names:
            return Pieces(name, tuple(path[length:]))
    return None
