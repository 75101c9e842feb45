"""A first look at content: does it hold any of the values without which no filter of an index matches?

In flow the hash tables of an index, out flows one closure over parsed content, for records of which few are let
through by any filter. It says no only where the index finds no filter to try; where it says yes, the filters are asked.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from triggers.match import content_path, step_into

Quick = Callable[[Any], bool]  # parsed content -> whether some filter may match

NOTHING: Final[Quick] = lambda _: False  # noqa: E731 - a value, as the others are


def hashed(value: Any) -> Any:
    """Return what stands for a value in a hash table: true is not 1, and what cannot be compared is nothing."""
    kind = value.__class__
    if kind is str or kind is int or kind is float:
        return value
    return (value,) if kind is bool else None


def quick_look(
    exact: Mapping[str, Collection[Any]], prefix: Mapping[str, Collection[str]], suffix: Mapping[str, Collection[str]]
) -> Quick | None:
    """Return the look at values (`hashed`) and affixes by field; None when some field is no path into the data."""
    looks: list[Quick] = []
    for tables, make in ((exact, _exact), (prefix, _prefix), (suffix, _suffix)):
        for field, values in tables.items():
            path = content_path(field)
            if path is None:
                return None
            looks.append(make(path, values))
    return any_of(looks)


def any_of(looks: Sequence[Quick]) -> Quick:
    """Return one look for several."""
    if not looks:
        return NOTHING
    if len(looks) == 1:
        return looks[0]
    if len(looks) == 2:
        one, two = looks
        return lambda content: one(content) or two(content)
    several = tuple(looks)
    return lambda content: any(look(content) for look in several)


def _exact(path: Sequence[str], values: Collection[Any]) -> Quick:
    table = frozenset(values)
    if len(path) == 1:
        only = path[0]

        def field(content: Any) -> bool:
            value = content.get(only) if content.__class__ is dict else step_into(content, only)
            return value in table if value.__class__ is str else value is not None and hashed(value) in table

        return field

    def deep(content: Any) -> bool:
        for segment in path:
            content = content.get(segment) if content.__class__ is dict else step_into(content, segment)
        return content is not None and hashed(content) in table

    return deep


def _prefix(path: Sequence[str], values: Collection[str]) -> Quick:
    starts = tuple(sorted(values))

    def look(content: Any) -> bool:
        value = _at(content, path)
        return value.__class__ is str and value.startswith(starts)

    return look if len(starts) <= _FEW else _sliced(path, values, ends=False)


def _suffix(path: Sequence[str], values: Collection[str]) -> Quick:
    ends = tuple(sorted(values))

    def look(content: Any) -> bool:
        value = _at(content, path)
        return value.__class__ is str and value.endswith(ends)

    return look if len(ends) <= _FEW else _sliced(path, values, ends=True)


_FEW = 8  # affixes that are tried one by one faster than looked up by length


def _sliced(path: Sequence[str], values: Collection[str], *, ends: bool) -> Quick:
    """Look affixes up in a table, length by length: many of one length cost one look-up."""
    lengths = tuple(sorted({len(value) for value in values}))
    table = frozenset(values)

    def look(content: Any) -> bool:
        value = _at(content, path)
        if value.__class__ is not str:
            return False
        size = len(value)
        for length in lengths:
            if length > size:
                return False
            if (value[size - length :] if ends else value[:length]) in table:
                return True
        return False

    return look


def _at(content: Any, path: Sequence[str]) -> Any:
    for segment in path:
        content = content.get(segment) if content.__class__ is dict else step_into(content, segment)
    return content
