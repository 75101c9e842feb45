"""Checks of the values of columns: between, not_null, accepted_values, matches. Each names column, expected, actual."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.checks.data import Data, listed, share, word
from pipelines.checks.finding import Around, Unfit, Verdict
from pipelines.checks.options import AcceptedValues, Between, Matches, NotNull


def between(data: Data, options: Between, _around: Around) -> Verdict:
    """Judge whether all values lie between the bounds; nulls pass, NaN does not."""
    import narwhals as nw

    name = options.column
    kind = data.kind(name)
    column = nw.col(name)
    outside: Any = None
    for bound, beyond in ((options.min, column.__lt__), (options.max, column.__gt__)):
        if bound is not None:
            outside = _either(outside, beyond(_like(kind, name, bound, "between")))
    if kind.is_float():
        outside = _either(outside, column.is_nan())
    expected = f"between {_open(options.min)} and {_open(options.max)}"
    return _of_values(data, name, outside, expected)


def accepted_values(data: Data, options: AcceptedValues, _around: Around) -> Verdict:
    """Judge whether all values are among those that are accepted; nulls pass."""
    import narwhals as nw

    name = options.column
    kind = data.kind(name)
    accepted = [_like(kind, name, value, "accepted_values") for value in options.values]
    column = _text(kind, nw.col(name))
    shown = listed(options.values[:10]) + (f" and {len(options.values) - 10} more" if len(options.values) > 10 else "")
    return _of_values(data, name, ~column.is_in(accepted) & ~column.is_null(), f"one of {shown}")


def matches(data: Data, options: Matches, _around: Around) -> Verdict:
    """Judge whether each whole value matches a pattern, in time linear in its length; nulls pass."""
    import narwhals as nw

    name = options.column
    kind = data.kind(name)
    column = _text(kind, nw.col(name))
    if kind not in (nw.String, nw.Categorical, nw.Enum):
        raise Unfit(f"matches could not be evaluated: {name} is {data.types[name]}, and only text matches a pattern")
    # No mode of the pattern's own reaches the anchors; `\z` is the end of the text in both Rust's syntax and RE2.
    whole = column.str.contains(rf"\A(?:{options.pattern})\z")
    return _of_values(data, name, ~whole & ~column.is_null(), f"like `{options.pattern}` as a whole")


def not_null(data: Data, options: NotNull, _around: Around) -> Verdict:
    """Judge whether no more than the allowed share of values is null, in each of the columns."""
    import narwhals as nw

    names = data.columns(options.columns)
    frame = data.frame.select(*(nw.col(name).null_count().alias(f"c{n}") for n, name in enumerate(names)))
    counts = {name: n or 0 for name, n in zip(names, data.answer(frame)[0], strict=True)}  # a database adds up to NULL
    rows, allowed = data.rows, options.max_share
    bad = {name: n for name, n in counts.items() if n > allowed * rows}
    wanted = "no nulls" if not allowed else f"at most {share(allowed, 1)} nulls"
    told = "; ".join(f"{name}: {n} of {rows} values are null ({share(n, rows)})" for name, n in (bad or counts).items())
    if not bad:
        return Verdict(True, f"{wanted} in {', '.join(counts)}", wanted, told)
    first = next(iter(bad))
    return Verdict(False, f"{told}, expected {wanted}", wanted, told, data.sample(nw.col(first).is_null(), list(bad)))


def _of_values(data: Data, name: str, outside: Any, expected: str) -> Verdict:
    bad = data.count(outside)
    if not bad:
        return Verdict(True, f"{name}: all {data.rows} values are {expected}", expected, "all of them")
    values = data.values(name, outside)
    actual = f"{bad} of {data.rows} values are not"
    message = f"{name}: {actual} {expected}{data.such_as(name, values)}"
    return Verdict(False, message, expected, f"{bad} of {data.rows} are not", data.sample(outside, [name]))


def _either(one: Any, other: Any) -> Any:
    return other if one is None else one | other


def _open(bound: Any) -> str:
    return "any" if bound is None else str(bound) if not hasattr(bound, "isoformat") else word(bound)


def _text(kind: Any, column: Any) -> Any:
    import narwhals as nw

    return column.cast(nw.String) if kind in (nw.Categorical, nw.Enum) else column


def _like(kind: Any, name: str, value: Any, check: str) -> Any:
    """Return a value as the column holds such values; text becomes a date or time where the column holds those."""
    import narwhals as nw

    unfit = Unfit(f"{check} could not be evaluated: {name} is {kind}, {value!r} is not")
    if kind in (nw.Date, nw.Datetime, nw.Time):
        try:
            return _temporal(kind, value)
        except (TypeError, ValueError):
            raise unfit from None
    if kind.is_numeric():
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise unfit
        return Decimal(str(value)) if kind == nw.Decimal and isinstance(value, float) else value
    if kind == nw.Boolean:
        if not isinstance(value, bool):
            raise unfit
        return value
    if kind not in (nw.String, nw.Categorical, nw.Enum) or not isinstance(value, str):
        raise unfit
    return value


def _temporal(kind: Any, value: Any) -> Any:
    import narwhals as nw

    if kind == nw.Time:
        return value if isinstance(value, time) else time.fromisoformat(value)
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, date):
        raise TypeError(f"{value!r} is no moment")
    if kind == nw.Date:
        return moment.date() if isinstance(moment, datetime) else moment
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    zone = getattr(kind, "time_zone", None)
    if zone is None:
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return aware.astimezone(ZoneInfo(zone))
