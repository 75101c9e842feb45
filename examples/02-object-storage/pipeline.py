"""Sales of one shop and day, as Parquet in a bucket, into one DuckDB table: sold → sales, and its sums by day.

A file may come again with corrections: what it holds replaces what the shop had reported for that day.
"""

import io
import os
from pathlib import Path

import polars as pl

from pipelines.authoring import between, not_null, pipeline, row_count, task

WAREHOUSE = ".tidegate/sales.duckdb"  # relative to the configuration's base, as all outputs are


@task(timeout="5m", retries=3)
def sold(key: str, day: str, shop: str) -> pl.DataFrame:
    """Fetch the file that the event named."""
    import botocore.session

    s3 = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id=os.environ["S3_KEY"],
        aws_secret_access_key=os.environ["S3_SECRET"],
    )
    body = s3.get_object(Bucket="sales", Key=key)["Body"].read()
    frame = pl.read_parquet(io.BytesIO(body))
    print(f"{key}: {frame.height} rows, {len(body)} bytes")
    return frame.select("sold_at", "sku", "quantity", "price").with_columns(
        pl.lit(day).alias("day"), pl.lit(shop).alias("shop")
    )


@task(
    retries=3,
    output=f"duckdb://{WAREHOUSE}/main.sales",
    checks=[row_count(min=1), not_null("sku", "day", "shop"), between("price", 0.0, 10_000.0)],
)
def sales(sold: pl.DataFrame) -> pl.DataFrame:
    """Put the day of this shop in the place of what the table had of it."""
    known = _present("main.sales")
    if known is None:
        return sold
    mine = sold.select("day", "shop").unique()
    return pl.concat([known.join(mine, on=["day", "shop"], how="anti"), sold]).sort("day", "shop", "sold_at")


@task(output=f"duckdb://{WAREHOUSE}/main.by_day")
def by_day(sales: pl.DataFrame) -> pl.DataFrame:
    """Sum up."""
    return (
        sales.group_by("day")
        .agg(
            pl.col("shop").n_unique().alias("shops"),
            (pl.col("quantity") * pl.col("price")).sum().round(2).alias("sold"),
        )
        .sort("day")
    )


sales_pipeline = pipeline("sales", [by_day], concurrency=1, tags=["example"])


def _present(table: str) -> pl.DataFrame | None:
    """Return what the table holds, None when it is not there yet."""
    import duckdb

    if not Path(WAREHOUSE).exists():
        return None
    with duckdb.connect(WAREHOUSE, read_only=True) as connection:
        try:
            return pl.DataFrame(connection.table(table))
        except duckdb.CatalogException:
            return None
