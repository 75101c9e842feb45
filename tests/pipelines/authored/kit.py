"""Pipelines that the tests of the test kit run."""

import asyncio
import os

import polars as pl

from pipelines.authoring import Context, pipeline, row_count, task, unique


@task(retries=2)
def rows(count: int, ctx: Context) -> pl.DataFrame:
    """Make rows; fail on the first attempt when there are to be none."""
    print(f"making {count}")
    ctx.log(f"attempt {ctx.attempt} of {ctx.partition or 'all'}")
    if count == 0 and ctx.attempt < 3:
        raise ValueError("none yet")
    return pl.DataFrame({"id": range(max(count, 1))})


@task(
    output="parquet://kit-out/doubled.parquet",
    checks=[row_count(min=1), unique("id"), row_count(min=5, severity="warn")],
)
def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    """Double."""
    return rows.with_columns(pl.col("id") * 2)


@task
async def told(doubled: pl.DataFrame, context: Context) -> dict[str, object]:
    """Tell."""
    await asyncio.sleep(0)
    return {"rows": doubled.height, "events": [event["uid"] for event in context.events], "pid": os.getpid()}


@task
def unserialisable() -> object:
    """Return what cannot be handed on."""
    return {"here": {1, 2}}


@task(on="dask")
def elsewhere(rows: pl.DataFrame) -> int:
    """Count."""
    return rows.height


@task(partitions=["a", "b", "c"])
def part(item: str, partition: str) -> pl.DataFrame:
    """Make a slice."""
    return pl.DataFrame({"name": [item + partition]})


@task
def gathered(part: list[pl.DataFrame]) -> list[str]:
    """Gather the slices."""
    return pl.concat(part)["name"].to_list()


@task(inputs={"before": "orders"}, output="orders", mode="merge", key="id")
def merged(before: pl.DataFrame) -> pl.DataFrame:
    """Read a configured dataset and write it."""
    return before.with_columns(pl.col("id") + 1)


kit = pipeline("kit", [told])
