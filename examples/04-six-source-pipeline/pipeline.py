"""The day's pipeline: fetch six sources, clean each, stage them together, report.

A source is a JSON file beside this one. `NAME.flaky`, if it is there, says how often its next calls fail, as a network
does; a source that reports no total is broken for good, and is not asked again until somebody has mended it.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.authoring import Retries, pipeline, row_count, task

SOURCES = ["crm", "erp", "web", "pos", "staff", "fx"]
FOLDER = Path("sources")


@task(
    partitions=SOURCES,
    retries=Retries(attempts=3, backoff=0.2, max_delay=1.0),
    retry_on=[ConnectionError, "timeout"],
    timeout="30s",
    timeout_all="5m",
    pool="sources",
)
def fetch(item: str, day: str) -> dict[str, Any]:
    """Ask one source for a day."""
    _note(f"fetch {item}")
    flaky = FOLDER / f"{item}.flaky"
    left = int(flaky.read_text()) if flaky.exists() else 0
    if left:
        flaky.write_text(str(left - 1))
        raise ConnectionError(f"{item} reset the connection")
    found: dict[str, Any] = json.loads((FOLDER / f"{item}.json").read_text())
    if "total" not in found:
        raise ValueError(f"{item} reports no total for {day}: it has {', '.join(found)}")
    return {"source": item, "day": day, "total": found["total"]}


@task(per=fetch)
def clean(fetch: dict[str, Any]) -> dict[str, Any]:
    """Round what one source said; runs as soon as that source is there, whatever the others do."""
    _note(f"clean {fetch['source']}")
    return {**fetch, "total": round(float(fetch["total"]), 2)}


@task(output="duckdb://day.duckdb/main.totals", checks=[row_count(min=6)])
def stage(clean: list[dict[str, Any]]) -> pl.DataFrame:
    """Put all six together; without one of them there is no day."""
    _note("stage")
    return pl.DataFrame(clean)


@task(needs=["stage"])
def report(stage: pl.DataFrame) -> str:
    """Tell the day's total."""
    _note("report")
    return f"{stage['total'].sum():,.2f}"


def _note(what: str) -> None:
    """Note each call, for the demonstration."""
    with Path("calls.log").open("a") as file:
        file.write(f"{what}\n")


day_pipeline = pipeline("day", tasks=[report], timeout="1h")
