"""Orders in, one clean table out: extract → clean → orders (DuckDB) → revenue (DuckDB) and copy (Parquet).

A run gets either `path`, a CSV file, or `order`, one order as JSON. Rows that cannot be used are left out and told in
the run's log; a delivery without any usable row fails at its check, and the tables stay as they were. The table holds
each order once, in its newest version: files come in no promised order, so the merge must not depend on it. Runs of
this pipeline go one at a time (`concurrency=1`), because each reads the table before it replaces it.
"""

from pathlib import Path
from typing import Any

import polars as pl

from pipelines.authoring import between, not_null, pipeline, row_count, task, unique

WAREHOUSE = ".tidegate/warehouse.duckdb"  # relative to the configuration's base, as all outputs are
COLUMNS = ("order_id", "ordered_at", "updated_at", "customer", "country", "sku", "quantity", "amount", "currency")
CURRENCIES = ("EUR", "NOK", "SEK", "GBP", "USD")
SIGNS = {"€": "EUR", "£": "GBP", "$": "USD"}


@task(timeout="5m")
def extract(path: str | None = None, order: dict[str, Any] | None = None) -> pl.DataFrame:
    """Read the delivery as it is: all text, nothing guessed."""
    if path is not None:
        frame = pl.read_csv(path, infer_schema=False)
    elif order is not None:
        frame = pl.DataFrame({column: [_text(order.get(column))] for column in COLUMNS})
    else:
        raise ValueError("the run got neither `path` nor `order`")
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise ValueError(f"the delivery has no column {', '.join(missing)}; it has {', '.join(frame.columns)}")
    print(f"rows in the delivery: {frame.height}")
    return frame.select(pl.col(*COLUMNS).cast(pl.String))


@task(checks=[row_count(min=1)])
def clean(extract: pl.DataFrame) -> pl.DataFrame:
    """Trim, read numbers and moments, name currencies by their code, keep the newest version of each order."""
    trimmed = extract.with_columns(pl.all().str.strip_chars())
    # 1,204.50 and 1204,50 both mean 1204.50: a comma two digits before the end is a decimal point.
    amount = pl.col("amount").str.replace(r",(\d{2})$", ".$1").str.replace_all(",", "")
    read = trimmed.with_columns(
        amount.cast(pl.Float64, strict=False),
        pl.col("quantity").cast(pl.Int64, strict=False),
        pl.col("ordered_at", "updated_at").str.to_datetime(time_unit="us", time_zone="UTC", strict=False),
        pl.col("currency").str.to_uppercase().replace(SIGNS),
        pl.col("country").str.to_uppercase(),
    )
    faults = {
        "no order_id": pl.col("order_id").fill_null("") == "",
        "no usable moment": pl.col("ordered_at").is_null() | pl.col("updated_at").is_null(),
        "no usable quantity": pl.col("quantity").is_null(),
        "no usable amount": pl.col("amount").is_null() | (pl.col("amount") <= 0),
        "unknown currency": ~pl.col("currency").is_in(CURRENCIES).fill_null(value=False),
    }
    for name, fault in faults.items():
        left_out = read.filter(fault).height
        if left_out:
            print(f"left out, {name}: {left_out}")
    usable = read.filter(~pl.any_horizontal(*faults.values()))
    once = _newest(usable)
    print(f"clean orders: {once.height}; said more than once: {usable.height - once.height}")
    return once


@task(
    retries=3,  # somebody may look into the DuckDB file just now, and it takes one process at a time
    output=f"duckdb://{WAREHOUSE}/main.orders",
    checks=[
        row_count(min=1, max_drop=0.0),
        not_null("order_id", "ordered_at", "amount", "currency"),
        unique("order_id"),
        between("amount", 0.01, 100_000),
        between("quantity", 1, 1_000),
    ],
)
def orders(clean: pl.DataFrame) -> pl.DataFrame:
    """Merge the delivery into the table."""
    present = _present("main.orders")
    merged = clean if present is None else _newest(pl.concat([present, clean]))
    new = merged.height - (0 if present is None else present.height)
    print(f"new orders: {new}; known ones: {clean.height - new}")
    return merged.sort("order_id")


@task(output=f"duckdb://{WAREHOUSE}/main.revenue", checks=[unique("day", "currency"), between("revenue", min=0)])
def revenue(orders: pl.DataFrame) -> pl.DataFrame:
    """Sum up by day and currency."""
    return (
        orders.group_by(pl.col("ordered_at").dt.date().alias("day"), "currency")
        .agg(pl.len().alias("orders"), pl.col("amount").sum().round(2).alias("revenue"))
        .sort("day", "currency")
    )


@task(output="parquet://.tidegate/orders.parquet")
def copy(orders: pl.DataFrame) -> pl.DataFrame:
    """Leave a copy for those who read files."""
    return orders


orders_pipeline = pipeline("orders", [revenue, copy], concurrency=1, tags=["example"])


def _newest(frame: pl.DataFrame) -> pl.DataFrame:
    """Keep one row of each order, the one that was changed last."""
    return frame.sort("updated_at", maintain_order=True).unique("order_id", keep="last", maintain_order=True)


def _present(table: str) -> pl.DataFrame | None:
    """Return what the table holds, None when it is not there yet."""
    import duckdb

    if not Path(WAREHOUSE).exists():
        return None
    with duckdb.connect(WAREHOUSE, read_only=True) as connection:
        try:
            found = pl.DataFrame(connection.table(table))
        except duckdb.CatalogException:
            return None
    # Moments come back in the session's zone.
    return found.with_columns(pl.col("ordered_at", "updated_at").dt.convert_time_zone("UTC"))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
