"""Columns that are there, columns that come: what is added, what stays empty, what is refused. Pure.

Types are the target's own words; `fits(there, coming)` says whether values of the one type go into a column of the
other without loss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.datasets.written import Changes, Schema, WriteRefused

Fits = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """What has to happen: columns to add, and columns that are there and get no values."""

    add: Schema = ()
    absent: tuple[str, ...] = ()


def plan_columns(there: Schema, coming: Schema, policy: str, fits: Fits, dataset: str) -> ColumnPlan:
    """Return what the new columns ask for. Raises WriteRefused with what would be right.

    `evolve` adds new columns and leaves missing ones empty; `strict` takes exactly the columns that are there. A column
    never changes its type.
    """
    known, new = dict(there), dict(coming)
    wrong = [
        f"{name} is {known[name]} there and comes as {kind}"
        for name, kind in coming
        if name in known and not fits(known[name], kind)
    ]
    if wrong:
        name = next(name for name, kind in coming if name in known and not fits(known[name], kind))
        raise WriteRefused(
            f"{dataset} keeps the types of its columns: {'; '.join(wrong)}. Cast before returning, such as "
            f"frame.with_columns(pl.col({name!r}).cast(…)), or write a new dataset"
        )
    add = tuple((name, kind) for name, kind in coming if name not in known)
    absent = tuple(name for name, _ in there if name not in new)
    if policy == "strict" and (add or absent):
        more = f"new: {', '.join(name for name, _ in add)}" if add else ""
        less = f"missing: {', '.join(absent)}" if absent else ""
        raise WriteRefused(
            f"{dataset} has `schema: strict` and other columns than what comes "
            f"({'; '.join(filter(None, (more, less)))}). Return exactly its columns, or say `schema: evolve`"
        )
    return ColumnPlan(add, absent)


def changes(before: Schema | None, after: Schema) -> Changes:
    """Return how columns differ; without a before there is nothing to differ from."""
    if before is None:
        return Changes()
    old, new = dict(before), dict(after)
    return Changes(
        added=tuple((name, kind) for name, kind in after if name not in old),
        removed=tuple((name, kind) for name, kind in before if name not in new),
        retyped=tuple((name, old[name], kind) for name, kind in after if name in old and old[name] != kind),
    )


def require(columns: Sequence[str], coming: Schema, what: str, dataset: str) -> None:
    """Raise WriteRefused when columns that the dataset's `key` or `partition_by` names do not come."""
    names = {name for name, _ in coming}
    missing = [column for column in columns if column not in names]
    if missing:
        there = ", ".join(sorted(names)) or "none"
        raise WriteRefused(
            f"{dataset} has `{what}: [{', '.join(columns)}]`, but what comes has no column {', '.join(missing)} "
            f"(it has {there}); return it, or correct `{what}`"
        )
