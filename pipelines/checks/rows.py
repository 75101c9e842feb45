"""Checks of rows as a whole: row_count, unique, freshness."""

from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

from pipelines.checks.data import Data, share
from pipelines.checks.finding import SAMPLE, SHOWN, Around, Unfit, Verdict
from pipelines.checks.options import Freshness, RowCount, Unique
from pipelines.freshness import Rule, told
from pipelines.freshness import judge as judge_age


def row_count(data: Data, options: RowCount, around: Around) -> Verdict:
    """Judge the number of rows by itself, and against what was written before."""
    rows = data.rows
    said = f"{rows} rows"
    if options.min is not None and rows < options.min:
        return Verdict(False, f"{said}, expected at least {options.min}", f"at least {options.min} rows", said)
    if options.max is not None and rows > options.max:
        return Verdict(False, f"{said}, expected at most {options.max}", f"at most {options.max} rows", said)
    if options.max_drop is not None:
        before = usual(around, options.of_last)
        if before is not None and rows < before * (1 - options.max_drop):
            of = "the last" if options.of_last == 1 else f"the usual (the median of the last {options.of_last} writes)"
            allowed = f"allowed are {share(options.max_drop, 1)} fewer"
            lost = share(before - rows, before)
            message = f"{rows} rows are {lost} fewer than {of} {before:g}, {allowed}"
            return Verdict(False, message, f"at least {before * (1 - options.max_drop):g} rows ({allowed})", said)
    return Verdict(True, said, "", said)


def usual(around: Around, writes: int) -> float | None:
    """Return the median row count of the last writes of others; None when there was none yet."""
    if not around.remembers:
        raise Unfit("max_drop compares with earlier writes, and this dataset keeps no record of them; use min instead")
    if around.last is None:
        return None
    return median((around.last.counts or (around.last.rows,))[:writes])


def unique(data: Data, options: Unique, _around: Around) -> Verdict:
    """Judge whether no two rows have the same values in the columns together; a null counts as a value."""
    import narwhals as nw

    names = data.columns(options.columns)
    what = ", ".join(names)
    n = "tidegate_repeats"
    groups = data.frame.group_by(*names).agg(nw.len().alias(n)).filter(nw.col(n) > 1)
    answer = data.answer(groups.select(nw.col(n).sum().alias("rows"), nw.len().alias("keys")))
    repeated = int(answer[0][0] or 0)
    if not repeated:
        return Verdict(True, f"{what}: {data.rows} different values", "no value twice", "none is")
    found = data.answer(groups.sort(n, *names, descending=[True, *(False for _ in names)]).head(SAMPLE))
    shown = "; ".join(", ".join(map(repr, row[:-1]))[:60] for row in found[:SHOWN])
    such = "" if any(data.hidden(name) for name in names) else f", such as {shown[:200]}"
    actual = f"{repeated} of {data.rows} rows repeat a value"
    return Verdict(
        False, f"{what}: {actual}{such}, expected no value twice", "no value twice", actual,
        data.shown([*names, "rows"], found),
    )  # fmt: skip


def freshness(data: Data, options: Freshness, around: Around) -> Verdict:
    """Judge whether the newest value of a column of times is new enough."""
    import narwhals as nw

    name = options.column
    kind = data.kind(name)
    if kind not in (nw.Date, nw.Datetime):
        raise Unfit(f"freshness could not be evaluated: {name} is {data.types[name]}, not a date or time")
    newest = data.answer(data.frame.select(nw.col(name).max()))[0][0]
    rule = Rule(
        max_age=options.max_age,
        due=options.due,
        timezone=options.timezone,
        grace=options.grace,
        window=options.window,
    )
    seen = None if newest is None else micros(newest)
    found = judge_age(rule, seen, around.now, since=0)
    expected = rule.words()
    if newest is None:
        return Verdict(False, f"{name}: there is no value at all, expected {expected}", expected, "no value")
    shown = "a value" if data.hidden(name) else told(micros(newest), options.timezone)
    actual = f"the newest value is {shown}"
    if found.fresh:
        return Verdict(True, f"{name}: {actual}", expected, actual)
    return Verdict(False, f"{name}: {actual}, {found.reason}, expected {expected}", expected, actual)


def micros(value: Any) -> int:
    """Return a date or time as UTC microseconds; what names no zone is UTC, a date its first moment."""
    if not isinstance(value, datetime):
        if not isinstance(value, date):
            raise Unfit(f"{value!r} is no date or time")
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    aware: datetime = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
