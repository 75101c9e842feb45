"""A small pipeline as people write it."""

import datetime as dt
from typing import Any

from pipelines.authoring import Retries, between, columns_match_last, not_null, pipeline, row_count, task, unique


@task(retries=2, timeout="10m")
def extract(path: str, day: dt.date = dt.date(2026, 1, 31)) -> list[int]:
    """Make rows."""
    return [len(path), day.day]


@task(retries=Retries(attempts=1), on_failure="continue")
async def enrich(extract: list[int], factor: int | None = None) -> list[int]:
    """Multiply."""
    return [row * (factor or 1) for row in extract]


@task(
    output="duckdb://shop.duckdb/main.orders",
    checks=[
        row_count(min=1, max_drop=0.5),
        between("amount", 0, 1e6),
        columns_match_last(severity="warn"),
        not_null("id"),
        unique("id", "day"),
    ],
)
def orders(enrich: list[int], context: Any) -> object:
    """Return something that is no JSON."""
    return {("run", context.pipeline): enrich}


@task(needs=["orders"], upstream="all_done")
def clean_up() -> str:
    """Tidy."""
    return "clean"


@task
def fails(path: str) -> None:
    """Fail."""
    raise ValueError(f"cannot read {path}")


shop = pipeline("shop", tasks=[orders, clean_up], concurrency=2, start_within="1m", tags=["demo"])
plain = len
