"""Checks of which columns there are, and of what type: schema, columns_match_last."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.checks.data import Data
from pipelines.checks.finding import Around, Unfit, Verdict
from pipelines.checks.options import ColumnsMatchLast, Schema
from sensors.adapters.column_types import accepts

_WORDS: Mapping[str, str] = {"Boolean": "bool", "Categorical": "string", "Enum": "string"}


def schema(data: Data, options: Schema, around: Around) -> Verdict:
    """Judge columns against those that are expected, or those of the last write."""
    if options.mode == "no_drift":
        return drift(data, options.allow, around)
    found = {name: type_word(kind) for name, kind in data.schema.items()}
    missing = [name for name in options.columns if name not in found]
    extra = [name for name in found if name not in options.columns] if options.mode == "exact" else []
    parts = [f"missing {_typed(options.columns, missing)}"] if missing else []
    if extra:
        parts.append(f"unexpected {_typed(found, extra)}")
    parts.extend(
        f"{name} is {found[name]}, expected {kind}"
        for name, kind in options.columns.items()
        if name in found and not accepts(kind, found[name], "declared")
    )
    how = "exactly" if options.mode == "exact" else "at least"
    expected = f"{how} {_typed(options.columns, list(options.columns))}"
    actual = _typed(found, list(found)) or "no columns"
    if parts:
        return Verdict(False, f"columns are not as expected: {'; '.join(parts)}", expected, actual)
    return Verdict(True, f"the columns are {expected}", expected, actual)


def columns_match_last(data: Data, _options: ColumnsMatchLast, around: Around) -> Verdict:
    """Judge whether names and types are those of the last recorded write."""
    return drift(data, (), around)


def drift(data: Data, allowed: Sequence[str], around: Around) -> Verdict:
    """Judge whether columns changed since the last write in a way that is not allowed."""
    if not around.remembers:
        raise Unfit(
            "the columns are compared with those of the last write, and this dataset keeps no record of writes; "
            "use `schema` with the columns written out"
        )
    now = data.types
    if around.last is None:
        return Verdict(True, f"first recorded write, with {len(now)} columns", "no change", "the first write")
    before = dict(around.last.schema)
    gone = [] if "removed" in allowed else [name for name in before if name not in now]
    new = [] if "added" in allowed else [name for name in now if name not in before]
    parts = [f"missing {', '.join(gone)}"] if gone else []
    if new:
        parts.append(f"new {', '.join(new)}")
    if "retyped" not in allowed:
        parts.extend(
            f"{name} was {before[name]} and is {kind}" for name, kind in now.items() if before.get(name, kind) != kind
        )
    expected, actual = _typed(before, list(before)), _typed(now, list(now))
    if parts:
        return Verdict(False, f"columns differ from the last write: {'; '.join(parts)}", expected, actual)
    return Verdict(True, f"the same {len(now)} columns as in the last write", expected, actual)


def type_word(kind: Any) -> str:
    """Return the name of a narwhals type in the words that people write (`sensors.adapters.column_types`)."""
    import narwhals as nw

    name = type(kind).__name__ if not isinstance(kind, type) else kind.__name__
    if kind == nw.Datetime:
        zone = getattr(kind, "time_zone", None)
        return f"timestamp[{getattr(kind, 'time_unit', 'us')}{f',{zone}' if zone else ''}]"
    if kind == nw.Duration:
        return f"duration[{getattr(kind, 'time_unit', 'us')}]"
    if kind == nw.List:
        return f"list<{type_word(kind.inner)}>"
    if kind == nw.Array:
        return f"list<{type_word(kind.inner)}>"
    if kind == nw.Struct:
        return f"struct<{','.join(f'{field.name}:{type_word(field.dtype)}' for field in kind.fields)}>"
    return _WORDS.get(name, "null" if name == "Unknown" else name.lower())


def _typed(kinds: Mapping[str, str], names: Sequence[str]) -> str:
    shown = [f"{name} {kinds[name]}" for name in names[:30]]
    return ", ".join([*shown, f"and {len(names) - 30} more"] if len(names) > 30 else shown)
