"""The targets that datasets are tested on: one place for each kind of the registry, and both layouts of files."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pipelines.datasets.registry import Table, open_table
from pipelines.datasets.target import Target, parse_target
from pipelines.datasets.written import How, Judge, Last, Stamp, Written

FRAME = pl.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"]})
DAY = 86_400_000_000
ROWS_ONLY = ("csv", "json", "jsonl")  # files that can be replaced, and nothing else

# Every scheme of the registry stands here, with the URI of a dataset of some name.
LOCAL: Mapping[str, str] = {
    "duckdb": "duckdb://sub/data.duckdb/main.{}",
    "parquet": "parquet://sub/{}.parquet",
    "parquet-folder": "parquet://sub/{}/",
    "csv": "csv://sub/{}.csv",
    "json": "json://sub/{}.json",
    "jsonl": "jsonl://sub/{}.jsonl",
    "delta": "delta://sub/{}",
}
REMOTE: Mapping[str, str] = {
    "postgresql": "postgresql://{place}/public.{{}}",
    "snowflake": "snowflake://org-acct/analytics.public.{{}}",
    "s3": "s3://{place}/sub/{{}}.parquet",
    "s3-folder": "s3://{place}/sub/{{}}/",
    "abfss": "abfss://{place}/sub/{{}}.parquet",
    "abfss-folder": "abfss://{place}/sub/{{}}/",
    "delta+s3": "delta+s3://{place}/sub/{{}}",
}


def stamp(run: str = "run_1", fence: int = 1, attempt: int = 1, **more: Any) -> Stamp:
    """Return who writes; `at`, `task`, `partition`, `resumes` and `reached` may be said."""
    return Stamp(**{"task": "t", "partition": "", "at": 1, **more, "run": run, "fence": fence, "attempt": attempt})


def accept(last: Last | None) -> None:
    """Let everything pass."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Somewhere to write datasets. `uri` is a format for the dataset's name."""

    name: str
    uri: str
    base: Path
    connection: Mapping[str, Any] | None = None
    dataset: str = "orders"
    sleep: Callable[[float], None] = lambda _: None

    @property
    def target(self) -> Target:
        """Return the dataset's target."""
        return parse_target(self.uri.format(self.dataset), self.base)

    def open(self) -> Table:
        """Open the dataset."""
        return open_table(self.target, self.connection)

    def write(
        self, frame: Any, who: Stamp | None = None, mode: str = "replace", judge: Judge = accept, **how: Any
    ) -> Written:
        """Write once, with a connection of its own."""
        if mode != "replace" or how:
            how = {"schema": "evolve", **how}
        with closing(self.open()) as table:
            return table.write(frame, who or stamp(), How.of({"mode": mode, **how}), judge)

    def read(self) -> pl.DataFrame:
        """Read what is there."""
        with closing(self.open()) as table:
            frame: pl.DataFrame = table.read().frame
            return frame

    def ids(self) -> list[int]:
        """Return the ids that are there, sorted."""
        return sorted(self.read()["id"].to_list())

    def gone(self) -> list[int]:
        """Return the ids of rows that are marked as deleted, sorted."""
        with closing(self.open()) as table:
            query = getattr(table, "query", None)
            if query is not None:
                where = f"{self.target.schema}.{self.target.table}"
                found: pl.DataFrame = query(f"select id from {where} where _deleted_at is not null order by id")
                return found["id"].to_list()
            frame = table.read().frame
        return sorted(frame.filter(pl.col("_deleted_at").is_not_null())["id"].to_list())
