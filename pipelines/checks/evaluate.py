"""Evaluates checks on a DataFrame before it is published.

In flow the frame and the last recorded write, out flow findings, one per check and in order.
Each finding says what was expected, what was found, and shows the first offending values. The arithmetic is Polars'.
A check that cannot be evaluated (a missing column, a bound of another type) has not passed, and says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipelines.checks.spec import CheckSpec
from pipelines.datasets.written import Last, schema_of

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, in words."""

    spec: CheckSpec
    passed: bool
    message: str


class _Unfit(Exception):
    """The check cannot be evaluated on this frame."""


def evaluate(frame: "pl.DataFrame", specs: Sequence[CheckSpec], last: Last | None) -> list[Finding]:
    """Return one finding per check, in order. `last` is the last recorded write by another run, None for the first."""
    import polars as pl

    findings = []
    for spec in specs:
        check = CHECKS.get(spec.kind)
        try:
            if check is None:
                raise _Unfit(f"there is no check {spec.kind!r}; known are {', '.join(CHECKS)}")
            passed, message = check(frame, spec.options, last)
        except _Unfit as error:
            passed, message = False, str(error)
        except (pl.exceptions.PolarsError, KeyError, TypeError, ValueError) as error:
            passed, message = False, f"{spec.kind} could not be evaluated: {type(error).__name__}: {error}"
        findings.append(Finding(spec, passed, message))
    return findings


def _columns(frame: "pl.DataFrame", names: Sequence[str]) -> Sequence[str]:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise _Unfit(f"column {missing[0]!r} is missing; there are {', '.join(frame.columns) or 'no columns'}")
    return names


def _names(options: Mapping[str, Any]) -> Sequence[str]:
    value = options["columns"] if "columns" in options else options["column"]
    return [value] if isinstance(value, str) else list(value)


def _row_count(frame: "pl.DataFrame", options: Mapping[str, Any], last: Last | None) -> tuple[bool, str]:
    rows = frame.height
    low, high, drop = options.get("min"), options.get("max"), options.get("max_drop")
    if low is not None and rows < low:
        return False, f"{rows} rows, expected at least {low}"
    if high is not None and rows > high:
        return False, f"{rows} rows, expected at most {high}"
    if drop is not None and last is not None and rows < last.rows * (1 - drop):
        lost = 1 - rows / last.rows
        return False, f"{rows} rows are {lost:.0%} fewer than the last {last.rows}, allowed are {drop:.0%} fewer"
    return True, f"{rows} rows"


def _between(frame: "pl.DataFrame", options: Mapping[str, Any], _last: Last | None) -> tuple[bool, str]:
    import polars as pl

    (name,) = _columns(frame, [options["column"]])
    column = pl.col(name)
    low, high = options.get("min"), options.get("max")
    outside = pl.lit(value=False)
    if low is not None:
        outside = outside | (column < _bound(frame, name, low))
    if high is not None:
        outside = outside | (column > _bound(frame, name, high))
    if frame.schema[name].is_float():
        outside = outside | column.is_nan()
    bad = frame.filter(outside)
    wanted = f"between {_open(low)} and {_open(high)}"
    if bad.height:
        return False, f"{name}: {bad.height} of {frame.height} values are not {wanted}, such as {_show(bad[name])}"
    return True, f"{name}: all {frame.height} values are {wanted}"


def _bound(frame: "pl.DataFrame", name: str, value: Any) -> "pl.Expr":
    """Return a bound as a literal; text becomes a date or time where the column holds those."""
    import polars as pl

    kind = frame.schema[name]
    if isinstance(value, str) == kind.is_numeric() or (kind.is_temporal() and not isinstance(value, str)):
        raise _Unfit(f"between could not be evaluated: {name} is {kind}, the bound {value!r} is not")
    if kind.is_temporal():
        return (
            pl.lit(value).str.strptime(pl.Date).cast(kind)
            if len(value) == 10
            else pl.lit(value).str.to_datetime().cast(kind)
        )
    return pl.lit(value)


def _open(value: Any) -> str:
    return "any" if value is None else str(value)


def _not_null(frame: "pl.DataFrame", options: Mapping[str, Any], _last: Last | None) -> tuple[bool, str]:
    counts = {name: frame[name].null_count() for name in _columns(frame, _names(options))}
    bad = [f"{name} {count}" for name, count in counts.items() if count]
    if bad:
        return False, f"nulls among {frame.height} rows: {', '.join(bad)}"
    return True, f"no nulls in {', '.join(counts)}"


def _unique(frame: "pl.DataFrame", options: Mapping[str, Any], _last: Last | None) -> tuple[bool, str]:
    names = _columns(frame, _names(options))
    what = ", ".join(names)
    repeated = frame.select(names).filter(frame.select(names).is_duplicated())
    if repeated.height:
        shown = repeated.unique(maintain_order=True).head(_SHOWN).rows()
        values = "; ".join(", ".join(map(repr, row)) for row in shown)
        return False, f"{what}: {repeated.height} of {frame.height} rows repeat a value, such as {values[:200]}"
    return True, f"{what}: {frame.height} different values"


def _columns_match_last(frame: "pl.DataFrame", _options: Mapping[str, Any], last: Last | None) -> tuple[bool, str]:
    now = dict(schema_of(frame))
    if last is None:
        return True, f"first recorded write, with {len(now)} columns"
    before = dict(last.schema)
    parts = []
    if gone := [name for name in before if name not in now]:
        parts.append(f"missing {', '.join(gone)}")
    if new := [name for name in now if name not in before]:
        parts.append(f"new {', '.join(new)}")
    parts.extend(
        f"{name} was {before[name]} and is {kind}" for name, kind in now.items() if before.get(name, kind) != kind
    )
    if parts:
        return False, f"columns differ from the last write: {'; '.join(parts)}"
    return True, f"the same {len(now)} columns as in the last write"


def _show(values: "pl.Series") -> str:
    return ", ".join(repr(value)[:60] for value in values.head(_SHOWN).to_list())


Check = Callable[["pl.DataFrame", Mapping[str, Any], Last | None], tuple[bool, str]]

CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "row_count": _row_count,
        "between": _between,
        "not_null": _not_null,
        "unique": _unique,
        "columns_match_last": _columns_match_last,
    }
)
