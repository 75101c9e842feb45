"""The model of a day from five systems and the exchange rate; and the note to whoever has to chase the sixth."""

from pathlib import Path
from typing import Any

import polars as pl

from pipelines.authoring import pipeline, row_count, task

WAREHOUSE = ".tidegate/model.duckdb"  # relative to the configuration's base, as all outputs are


@task(output=f"duckdb://{WAREHOUSE}/main.model", checks=[row_count(min=5)])
def model(day: str, totals: list[dict[str, Any]], rate: float) -> pl.DataFrame:
    """Convert what the systems report; a day that comes again replaces itself."""
    today = pl.DataFrame(totals).with_columns(
        pl.lit(day).alias("day"), (pl.col("total") * rate).round(2).alias("total_usd")
    )
    print(f"{day}: {today.height} systems, {today['total_usd'].sum():,.2f} USD")
    known = _present("main.model")
    return today if known is None else pl.concat([known.filter(pl.col("day") != day), today], how="diagonal")


@task
def note(day: str, missing: list[str]) -> str:
    """Say who is missing."""
    said = f"the model of {day} waits for {', '.join(missing)}"
    print(said)
    return said


model_pipeline = pipeline("model", [model], concurrency=1, tags=["example"])
chase_pipeline = pipeline("chase", [note], tags=["example"])


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
