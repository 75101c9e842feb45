"""A good table, what can be wrong with it, and every kind of check over it: who has to notice what, in which words."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.checks.spec import CheckSpec
from pipelines.datasets.written import Last, schema_of

NOW = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
ROWS = 40
GOOD = pl.DataFrame(
    {
        "id": list(range(ROWS)),
        "amount": [float(n % 7) for n in range(ROWS)],
        "day": [date(2026, 3, 1)] * ROWS,
        "state": [("new", "paid", "sent")[n % 3] for n in range(ROWS)],
        "email": [f"u{n}@example.com" for n in range(ROWS)],
        "updated_at": [NOW - timedelta(hours=1, minutes=n) for n in range(ROWS)],
    }
).with_columns(pl.col("updated_at").dt.replace_time_zone(None))
LAST = Last(ROWS, schema_of(GOOD), (ROWS, ROWS, 9 * ROWS))
COLUMNS = {
    "id": "int",
    "amount": "float",
    "day": "date",
    "state": "string",
    "email": "string",
    "updated_at": "timestamp",
}


def small(frame: pl.DataFrame) -> Any:
    """Return the rows whose amount is above 100: the rule of somebody's own."""
    return frame.filter(pl.col("amount") > 100)


CHECKS = {
    "rows": CheckSpec("row_count", {"min": 1, "max": 1_000}),
    "drop": CheckSpec("row_count", {"max_drop": 0.3, "of_last": 3}),
    "columns": CheckSpec("schema", {"columns": COLUMNS, "mode": "exact"}),
    "enough": CheckSpec("schema", {"columns": {"id": "int64", "amount": "number"}}),
    "drift": CheckSpec("columns_match_last"),
    "range": CheckSpec("between", {"column": "amount", "min": 0, "max": 100}),
    "days": CheckSpec("between", {"column": "day", "min": "2026-03-01", "max": "2026-03-31"}),
    "nulls": CheckSpec("not_null", {"columns": ["id", "day"]}),
    "share": CheckSpec("not_null", {"columns": ["email"], "max_share": 0.1}),
    "keys": CheckSpec("unique", {"columns": ["id"]}),
    "states": CheckSpec("accepted_values", {"column": "state", "values": ["new", "paid", "sent"]}),
    "emails": CheckSpec("matches", {"column": "email", "pattern": r"[a-z0-9]+@example\.com"}),
    "fresh": CheckSpec("freshness", {"column": "updated_at", "max_age": "2h"}),
    "count": CheckSpec("reconcile", {"other": "parquet://other.parquet"}),
    "sum": CheckSpec(
        "reconcile", {"other": "parquet://other.parquet", "on": "sum", "column": "amount", "tolerance": 0.5}
    ),
    "same keys": CheckSpec("reconcile", {"other": "parquet://other.parquet", "on": "keys", "columns": ["id"]}),
    "query": CheckSpec("sql", {"query": "select id, amount from data where amount < 0"}),
    "rule": CheckSpec("custom", {"function": "tests.pipelines.checks.faults:small"}),
    "model": CheckSpec("pandera", {"schema": "tests.pipelines.checks.faults:MODEL"}),
}


@dataclass(frozen=True)
class Fault:
    """What is wrong; `caught` maps the checks that have to notice it to what their sentence must hold."""

    name: str
    frame: pl.DataFrame
    caught: dict[str, tuple[str, ...]]
    other: pl.DataFrame = field(default_factory=lambda: GOOD)


def _with(column: str, row: int, value: Any) -> pl.DataFrame:
    values = GOOD[column].to_list()
    values[row] = value
    return GOOD.with_columns(pl.Series(column, values, dtype=GOOD.schema[column]))


def _model() -> Any:
    import pandera.polars as pa

    return pa.DataFrameSchema(
        {"id": pa.Column(pl.Int64), "state": pa.Column(pl.String, pa.Check.isin(["new", "paid", "sent"]))}
    )


MODEL = _model()

FAULTS = (
    Fault("nothing", GOOD, {}),
    Fault(
        "dropped column",
        GOOD.drop("state"),
        {
            "columns": ("missing state string",),
            "drift": ("missing state",),
            "states": ("column 'state' is missing", "there are id, amount"),
            "model": ("state",),
        },
    ),
    Fault(
        "new column",
        GOOD.with_columns(pl.lit(1).alias("extra")),
        {"columns": ("unexpected extra int32",), "drift": ("new extra",)},
    ),
    Fault(
        "renamed column",
        GOOD.rename({"day": "date"}),
        {
            "columns": ("missing day date", "unexpected date date"),
            "drift": ("missing day", "new date"),
            "days": ("column 'day' is missing",),
            "nulls": ("column 'day' is missing",),
        },
    ),
    Fault(
        "changed type",
        GOOD.with_columns(pl.col("amount").cast(pl.String)),
        {
            "columns": ("amount is string, expected float",),
            "enough": ("amount is string, expected number",),
            "drift": ("amount was Float64 and is String",),
            "range": ("amount is String", "0 is not"),
            "sum": ("amount is String, which has no sum",),
            "query": ("could not be run",),
            "rule": ("small failed",),
        },
    ),
    Fault(
        "zero rows",
        GOOD.clear(),
        {
            "rows": ("0 rows, expected at least 1",),
            "drop": ("0 rows are 100% fewer than the usual", "40", "allowed are 30% fewer"),
            "fresh": ("updated_at: there is no value at all",),
            "count": ("0 rows, parquet://other.parquet has 40: a gap of 40 (100%)",),
            "sum": ("0", "as the sum of amount", "a gap of 115"),
            "same keys": ("40 of parquet://other.parquet are missing here, such as",),
        },
    ),
    Fault(
        "half the rows",
        GOOD.head(ROWS // 2),
        {
            "drop": ("20 rows are 50% fewer than the usual (the median of the last 3 writes) 40",),
            "count": ("20 rows, parquet://other.parquet has 40",),
            "sum": ("a gap of",),
            "same keys": ("id: 20 of parquet://other.parquet are missing here",),
        },
    ),
    Fault(
        "twice the rows",
        pl.concat([GOOD, GOOD]),
        {
            "keys": ("id: 80 of 80 rows repeat a value",),
            "count": ("80 rows, parquet://other.parquet has 40",),
            "sum": ("230.0 as the sum of amount, parquet://other.parquet has 115.0",),
        },
    ),
    Fault(
        "late data",
        GOOD.with_columns(pl.col("updated_at") - timedelta(hours=5)),
        {"fresh": ("updated_at: the newest value is 2026-03-02T00:00:00Z", "6h old, allowed are 2h")},
    ),
    Fault(
        "out of range",
        _with("amount", 3, 5_000.0),
        {
            "range": ("amount: 1 of 40 values are not between 0 and 100, such as 5000.0",),
            "sum": ("a gap of 4997",),
            "rule": ("small found 1 rows, such as id=3, amount=5000.0",),
        },
    ),
    Fault(
        "negative",
        _with("amount", 7, -0.25),
        {
            "range": ("amount: 1 of 40 values are not between 0 and 100, such as -0.25",),
            "query": ("the query found 1 rows, such as id=7, amount=-0.25",),
        },
    ),
    Fault(
        "no number",
        _with("amount", 7, float("nan")),
        {
            "range": ("amount: 1 of 40 values are not", "such as nan"),
            "sum": ("the sums are nan here",),
            "rule": ("small found 1 rows",),
        },
    ),
    Fault(
        "wrong day",
        _with("day", 5, date(1970, 1, 1)),
        {"days": ("day: 1 of 40 values are not between 2026-03-01 and 2026-03-31, such as 1970-01-01",)},
    ),
    Fault(
        "duplicate keys",
        _with("id", 1, 0),
        {
            "keys": ("id: 2 of 40 rows repeat a value, such as 0, expected no value twice",),
            "same keys": ("id: 1 of parquet://other.parquet are missing here, such as 1",),
        },
    ),
    Fault(
        "a null key",
        _with("id", 9, None),
        {
            "nulls": ("id: 1 of 40 values are null (2%), expected no nulls",),
            "same keys": ("1 of parquet://other.parquet are missing here, such as 9", "1 are only here, such as None"),
            "model": ("id",),
        },
    ),
    Fault(
        "too many nulls",
        GOOD.with_columns(pl.when(pl.col("id") < 8).then(None).otherwise("email").alias("email")),
        {"share": ("email: 8 of 40 values are null (20%), expected at most 10% nulls",)},
    ),
    Fault("few nulls", _with("email", 4, None), {}),
    Fault(
        "unknown value",
        _with("state", 2, "lost"),
        {
            "states": ("state: 1 of 40 values are not one of 'new', 'paid', 'sent', such as 'lost'",),
            "model": ("state: isin", "'lost'"),
        },
    ),
    Fault(
        "bad pattern",
        _with("email", 2, "u2@example.com, u3@example.com"),
        {"emails": ("email: 1 of 40 values are not like `[a-z0-9]+@example\\.com` as a whole, such as 'u2@exam",)},
    ),
    Fault(
        "reconciliation gap",
        GOOD,
        {
            "count": ("40 rows, parquet://other.parquet has 42: a gap of 2 (5%), allowed are 0",),
            "sum": ("115.0 as the sum of amount, parquet://other.parquet has 118.0: a gap of 3.0",),
            "same keys": ("id: 2 of parquet://other.parquet are missing here, such as 100; 101",),
        },
        other=pl.concat([GOOD, GOOD.head(2).with_columns(id=pl.Series([100, 101]), amount=pl.Series([1.0, 2.0]))]),
    ),
)
