"""The kinds of checks there are: one explicit table of name, help, options, and the function that judges.

Configuration, the command `kinds`, the reference pages and the worker that judges all read this table. Importing it
imports no data library; those come when a check is judged.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from pipelines.checks import columns, custom, options, reconcile, rows, values
from pipelines.checks.data import Data
from pipelines.checks.finding import Around, Verdict
from pipelines.checks.options import CheckModel
from pipelines.checks.spec import CheckSpec


@dataclass(frozen=True, slots=True)
class CheckKind:
    """One kind: how it is written, and who judges. `remembers` says that it compares with earlier writes."""

    name: str
    help: str
    options: type[CheckModel]
    judge: Callable[[Data, Any, Around], Verdict]
    example: str
    remembers: Callable[[Mapping[str, Any]], bool] = lambda _: False


_KINDS = (
    CheckKind(
        "row_count",
        "The number of rows lies in a range, and has not dropped too far below earlier writes.",
        options.RowCount,
        rows.row_count,
        "row_count: {min: 1, max_drop: 0.5}",
        lambda given: given.get("max_drop") is not None,
    ),
    CheckKind(
        "between",
        "All values of a column lie in a range; nulls pass, NaN does not.",
        options.Between,
        values.between,
        "between: {column: amount, min: 0, max: 1000000}",
    ),
    CheckKind(
        "not_null",
        "Columns hold no nulls, or no more than a share of them.",
        options.NotNull,
        values.not_null,
        "not_null: {columns: [id], max_share: 0}",
    ),
    CheckKind(
        "unique",
        "No two rows have the same values in the columns together; a null counts as a value.",
        options.Unique,
        rows.unique,
        "unique: {columns: [id]}",
    ),
    CheckKind(
        "accepted_values",
        "All values of a column are among those listed; nulls pass.",
        options.AcceptedValues,
        values.accepted_values,
        "accepted_values: {column: state, values: [new, paid, sent]}",
    ),
    CheckKind(
        "matches",
        "Each whole value of a text column matches a regular expression (RE2: linear time); nulls pass.",
        options.Matches,
        values.matches,
        "matches: {column: email, pattern: '[^@]+@[^@]+'}",
    ),
    CheckKind(
        "schema",
        "Columns and their types are exactly, or at least, those listed, or have not changed.",
        options.Schema,
        columns.schema,
        "schema: {columns: {id: int, amount: float, day: date}, mode: exact}",
        lambda given: given.get("mode") == "no_drift",
    ),
    CheckKind(
        "columns_match_last",
        "Names and types of the columns are those of the last recorded write.",
        options.ColumnsMatchLast,
        columns.columns_match_last,
        "columns_match_last",
        lambda _: True,
    ),
    CheckKind(
        "freshness",
        "The newest value of a column of times is new enough.",
        options.Freshness,
        rows.freshness,
        "freshness: {column: updated_at, max_age: 26h}",
    ),
    CheckKind(
        "reconcile",
        "Another dataset agrees on the number of rows, the sum of a column, or which keys there are.",
        options.Reconcile,
        reconcile.reconcile,
        "reconcile: {other: 'parquet://in/orders.parquet', on: sum, column: amount, tolerance: 0.01}",
    ),
    CheckKind(
        "custom",
        "A Python function of one's own finds nothing wrong.",
        options.Custom,
        custom.custom,
        "custom: {function: 'shop.rules:totals_add_up'}",
    ),
    CheckKind(
        "sql",
        "A query over the table `data` returns no row.",
        options.Sql,
        custom.sql,
        "sql: {query: 'select * from data where paid > amount'}",
    ),
    CheckKind(
        "pandera",
        "A schema of pandera accepts the data.",
        options.Pandera,
        custom.pandera,
        "pandera: {schema: 'shop.schemas:Orders'}",
    ),
)
KINDS: Final[Mapping[str, CheckKind]] = MappingProxyType({kind.name: kind for kind in _KINDS})


def needs_memory(spec: CheckSpec) -> bool:
    """Say whether a check compares with earlier writes."""
    kind = KINDS.get(spec.kind)
    return kind is not None and kind.remembers(spec.options)


def options_of(spec: CheckSpec) -> CheckModel:
    """Return the validated options of a check. Raises ValueError with a sentence for what is wrong with them."""
    kind = KINDS.get(spec.kind)
    if kind is None:
        raise ValueError(f"there is no check {spec.kind!r}; known are {', '.join(KINDS)}")
    try:
        return kind.options.model_validate(dict(spec.options))
    except ValidationError as error:
        said = "; ".join(_worded(one, kind.options) for one in error.errors())
        raise ValueError(f"{spec.kind}: {said}") from None


def _worded(error: Any, model: type[CheckModel]) -> str:
    where = ".".join(str(step) for step in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(field.alias or name for name, field in model.model_fields.items()) or "none"
        return f"there is no option {where!r}; its options are {known}"
    if error["type"] == "missing":
        return f"the option {where!r} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
