"""Datasets of function tasks: configured names, inputs as tables, dispositions, and what is told of each."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.datasets.catalog import Catalog
from pipelines.datasets.definition import DatasetDef
from pipelines.engines.python import KIND, PythonEngine
from pipelines.errors import TaskFailed
from pipelines.ports import TaskContext, TaskResult
from tests.support.engine_contexts import make_context, make_settings

CODE = """
import polars as pl

def make(rows, start=0):
    return pl.DataFrame({"id": range(start, start + rows), "n": [rows] * rows})

def total(daily: pl.LazyFrame, other):
    return {"sum": daily.select(pl.col("id").sum()).collect().item(), "rows": other.height}
"""
DAILY = DatasetDef(name="daily", uri="duckdb://w.duckdb/daily", mode="append")
KEYED = DatasetDef(name="keyed", uri="parquet://keyed/", mode="merge", key=("id",))


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[PythonEngine]:
    (folder / "work.py").write_text(CODE)
    catalog = Catalog(folder, {"daily": DAILY, "keyed": KEYED})
    engine = KIND.build(replace(make_settings(folder), catalog=catalog))
    assert isinstance(engine, PythonEngine)
    try:
        yield engine
    finally:
        await engine.close()


async def run(engine: PythonEngine, context: TaskContext) -> TaskResult:
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result


def make(output: str, rows: int, **more: Any) -> TaskContext:
    options = {"function": "work:make", "output": output, "args": {"rows": rows, **more.pop("args", {})}}
    return make_context("python", {**options, **more.pop("options", {})}, **more)


async def test_a_configured_dataset_is_written_as_its_entry_says(tmp_path: Path) -> None:
    """The entry's disposition counts, once per run; what is told has the configured name, how, and what changed."""
    async with opened(tmp_path) as engine:
        (first,) = (await run(engine, make("daily", 2))).datasets
        await run(engine, make("daily", 2, attempt=2))
        (second,) = (await run(engine, make("daily", 3, run="run_02"))).datasets

        assert (first.dataset, first.disposition, first.mode, first.rows) == ("daily", "append", "write", 2)
        assert first.changes == {"created": True}
        assert (second.rows, second.changes, second.partition) == (3, {}, "2026-01-01")
        merged = (await run(engine, make("keyed", 3, args={"start": 1}))).datasets
        assert (merged[0].disposition, merged[0].namespace) == ("merge", "file")
        mine = make("duckdb://w.duckdb/other", 2, options={"mode": "merge", "key": ["id"]})
        assert (await run(engine, mine)).datasets[0].disposition == "merge"


async def test_inputs_are_tables_and_told_as_read(tmp_path: Path) -> None:
    """A parameter that `inputs` names gets the dataset's table, in the library its annotation asks for; it is told."""
    pl.DataFrame({"x": [1, 2, 3]}).write_csv(tmp_path / "other.csv")
    async with opened(tmp_path) as engine:
        await run(engine, make("daily", 4))
        context = make_context("python", {"function": "work:total"}, task="sum")
        task = replace(context.task, inputs={"daily": "daily", "other": "csv://other.csv"})
        result = await run(engine, replace(context, task=task))

    assert result.output == {"sum": 6, "rows": 3}
    told = [(one.mode, one.dataset, one.rows, one.version) for one in result.datasets]
    assert told == [("read", "daily", 4, "run_01.1"), ("read", "", 3, None)]


@pytest.mark.parametrize(
    ("options", "said", "retryable"),
    [
        ({"output": "dayly"}, "did you mean 'daily'", False),
        ({"output": "csv://x.csv", "mode": "append"}, "can only be replaced", False),
        ({"output": "duckdb://x.duckdb/t", "mode": "merge"}, "key", False),
        ({"output": "duckdb://x.duckdb/t", "mode": "merge", "key": ["nope"]}, "has no column nope", False),
        ({"mode": "append"}, "name the dataset", False),
    ],
)
async def test_what_cannot_be_written_fails_once(
    tmp_path: Path, options: dict[str, Any], said: str, retryable: bool
) -> None:
    """An unknown name, a disposition that the target has not, and rows without the key are final, in a sentence."""
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=said) as caught:
            await run(engine, make_context("python", {"function": "work:make", "args": {"rows": 1}, **options}))

    assert caught.value.retryable is retryable


async def test_a_missing_input_is_named_and_may_come(tmp_path: Path) -> None:
    """A dataset that is not there yet fails the attempt with its name; a retry may find it."""
    async with opened(tmp_path) as engine:
        context = make_context("python", {"function": "work:total"})
        task = replace(context.task, inputs={"daily": "daily", "other": "daily"})
        with pytest.raises(TaskFailed, match=r"inputs could not be read: there is no .*w\.duckdb") as caught:
            await run(engine, replace(context, task=task))

    assert caught.value.retryable
