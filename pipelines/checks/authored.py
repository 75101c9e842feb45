"""Checks as people write them in Python: functions that make CheckSpecs. Public through `pipelines.authoring`.

Each takes `severity` (`fail`: nothing is published; `warn`: it is only told), `name` (what it is called in results) and
`redact` (True, or columns: their values appear in no message and no sample). Nothing is computed here, and no library
of data or validation is loaded; what is wrong with options is found where the pipeline is loaded, or here where that is
a matter of looking.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from pipelines.checks.spec import CheckSpec, Severity
from pipelines.errors import DefinitionError


class Beside(TypedDict, total=False):
    """What every check takes."""

    severity: Severity
    name: str
    redact: bool | Sequence[str]


def row_count(
    *,
    min: int | None = None,
    max: int | None = None,
    max_drop: float | None = None,
    of_last: int = 1,
    **beside: Unpack[Beside],
) -> CheckSpec:
    """Check the number of rows: from `min` to `max`, at most the share `max_drop` (0..1) below earlier writes.

    Earlier writes are the last one, or with `of_last` the median of so many.
    """
    if min is None and max is None and max_drop is None:
        raise DefinitionError("row_count checks nothing", "checks", "give min, max or max_drop")
    if max_drop is not None and not 0 <= max_drop <= 1:
        raise DefinitionError(
            f"max_drop is a share from 0 to 1, not {max_drop}", "checks", "0.5 means half may be missing"
        )
    return _check("row_count", beside, min=min, max=max, max_drop=max_drop, of_last=None if of_last == 1 else of_last)


def between(column: str, min: Any = None, max: Any = None, **beside: Unpack[Beside]) -> CheckSpec:
    """Check that all values of a column lie between `min` and `max`, both allowed; nulls pass, NaN does not."""
    if min is None and max is None:
        raise DefinitionError(f"between({column!r}) checks nothing", "checks", "give min, max or both")
    return _check("between", beside, column=column, min=_plain(min), max=_plain(max))


def not_null(*columns: str, max_share: float = 0.0, **beside: Unpack[Beside]) -> CheckSpec:
    """Check that the columns hold no nulls, or no more than the share `max_share` (0..1) of each."""
    return _check("not_null", beside, columns=_some("not_null", columns), max_share=max_share or None)


def unique(*columns: str, **beside: Unpack[Beside]) -> CheckSpec:
    """Check that no two rows have the same values in the columns together; a null counts as a value."""
    return _check("unique", beside, columns=_some("unique", columns))


def accepted_values(column: str, values: Sequence[Any], **beside: Unpack[Beside]) -> CheckSpec:
    """Check that all values of a column are among `values`; nulls pass."""
    if isinstance(values, str) or not values:
        raise DefinitionError(
            f"accepted_values({column!r}) accepts {values!r}", "checks", 'give a list such as ["new", "paid"]'
        )
    return _check("accepted_values", beside, column=column, values=[_plain(value) for value in values])


def matches(column: str, pattern: str, **beside: Unpack[Beside]) -> CheckSpec:
    """Check that each whole value of a text column matches a regular expression (RE2); nulls pass."""
    return _check("matches", beside, column=column, pattern=pattern)


def schema(
    columns: Mapping[str, str] | None = None,
    *,
    mode: str = "at_least",
    allow: Sequence[str] = (),
    **beside: Unpack[Beside],
) -> CheckSpec:
    """Check columns and types: `at_least` or `exact`ly these (`{"id": "int"}`), or `no_drift` since the last write."""
    return _check("schema", beside, columns=dict(columns or {}) or None, mode=mode, allow=list(allow) or None)


def columns_match_last(**beside: Unpack[Beside]) -> CheckSpec:
    """Check that names and types of the columns are those of the last recorded write of the dataset."""
    return _check("columns_match_last", beside)


def freshness(
    column: str,
    *,
    max_age: str | None = None,
    due: str | None = None,
    timezone: str | None = None,
    grace: str | None = None,
    window: str | None = None,
    **beside: Unpack[Beside],
) -> CheckSpec:
    """Check that the newest value of a column of times is at most `max_age` old (`"26h"`), or there by a cron `due`."""
    if max_age is None and due is None:
        raise DefinitionError(
            f"freshness({column!r}) checks nothing", "checks", 'give max_age="26h" or due="0 7 * * *"'
        )
    given = {"max_age": max_age, "due": due, "timezone": timezone, "grace": grace, "window": window}
    return _check("freshness", beside, column=column, **given)


def reconcile(other: str, *, on: str = "count", **options: Any) -> CheckSpec:
    """Check that the dataset `other` (a configured name, or a URI) agrees on `count`, `sum` or `keys`.

    `column` is what `sum` adds up, `columns` are the key; `other_column(s)` say what they are called there. `tolerance`
    is the difference that is allowed as a number, `tolerance_share` as a share of the other's. `connection` names the
    entry of `connections` through which the other is read.
    """
    beside: Beside = {name: options.pop(name) for name in ("severity", "name", "redact") if name in options}  # type: ignore[assignment]
    for name in ("columns", "other_columns"):
        if isinstance(options.get(name), str):
            options[name] = [options[name]]
    return _check("reconcile", beside, other=other, on=on, **options)


def custom(
    function: Callable[..., Any] | str, *, args: Mapping[str, Any] | None = None, **beside: Unpack[Beside]
) -> CheckSpec:
    """Check by a function at the top level of a module, or its `"module:name"`.

    It gets the DataFrame, and `last` (the last recorded write) where it has such a parameter. True or None passes;
    False, words for what is wrong, an AssertionError, or a DataFrame of the rows that are wrong do not.
    """
    return _check("custom", beside, function=_reference(function), args=dict(args or {}) or None)


def sql(query: str, **beside: Unpack[Beside]) -> CheckSpec:
    """Check by a query over the table `data` (DuckDB's SQL) that returns the rows that are wrong."""
    return _check("sql", beside, query=query)


def pandera(schema: Any, **beside: Unpack[Beside]) -> CheckSpec:
    """Check by a DataFrameModel of pandera at the top level of a module, or the `"module:name"` of any schema."""
    return _check("pandera", beside, schema=_reference(schema))


def _reference(thing: Any) -> str:
    if isinstance(thing, str):
        return thing
    name = getattr(thing, "__qualname__", "")
    if not name or "<" in name:
        raise DefinitionError(
            f"{thing!r} has no name by which a worker could import it", "checks",
            'define it at the top level of a module, or write "module:name"',
        )  # fmt: skip
    return f"{thing.__module__}:{name}"


def _check(kind: str, beside: Beside, **options: Any) -> CheckSpec:
    severity = beside.get("severity", "fail")
    if severity not in ("fail", "warn"):
        raise DefinitionError(f"a check's severity is 'fail' or 'warn', not {severity!r}", "checks")
    given = {name: value for name, value in options.items() if value is not None}
    redact = beside.get("redact", False)
    return CheckSpec(
        kind, given, severity, beside.get("name", ""), redact if isinstance(redact, bool) else list(redact)
    )


def _plain(value: Any) -> Any:
    """Return a bound as JSON holds it: dates and times as ISO text."""
    return value.isoformat() if hasattr(value, "isoformat") else value


def _some(kind: str, columns: Sequence[str]) -> list[str]:
    if not columns:
        raise DefinitionError(f"{kind} checks nothing", "checks", "name at least one column")
    return list(columns)
