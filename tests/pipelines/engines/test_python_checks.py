"""Checks of what a Python task returned: made in its worker, before anything is published."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipelines.engines.python import KIND
from pipelines.errors import TaskFailed
from pipelines.ports import Engine, TaskContext, TaskResult
from tests.support.engine_contexts import make_context, make_settings
from tests.support.worker_tasks import FRAMES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "frames.py").write_text(FRAMES)
    return tmp_path


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Engine]:
    engine = KIND.build(make_settings(folder))
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def run(engine: Engine, context: TaskContext) -> TaskResult:
    result = await engine.poll(context, await engine.start(context))
    assert result is not None
    return result


async def failure(engine: Engine, context: TaskContext) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        await run(engine, context)
    return caught.value


async def test_a_result_of_a_check_says_all_there_is_to_say(folder: Path) -> None:
    """Checks as they stand in YAML: each result has its own name, what was expected and found, and a few rows."""
    checks: list[Any] = [
        {"between": {"column": "amount", "min": 0}, "severity": "warn"},
        {"between": {"column": "amount", "max": 100}, "severity": "warn"},
        {"not_null": "amount", "name": "no amount is missing"},
        {"unique": ["id"], "severity": "warn", "redact": True},
    ]
    async with opened(folder) as engine:
        result = await run(
            engine,
            make_context(
                "python",
                {"function": "frames:odd", "args": {"frame": 1}, "output": "parquet://out.parquet", "checks": checks},
            ),
        )

    low, high, named, hidden = result.checks
    assert [check.check for check in result.checks] == [
        "between(amount)",
        "between(amount)#2",
        "no amount is missing",
        "unique(id)",
    ]
    assert (low.passed, low.expected, low.actual) == (False, "between 0 and any", "1 of 3 are not")
    assert orjson.loads(high.sample or "")[0]["amount"] == 2_000_000.0
    assert (named.passed, named.sample) == (True, None)
    assert not hidden.passed
    assert orjson.loads(hidden.sample or "")[0]["id"] == "***"


async def test_a_drop_is_measured_over_several_runs(folder: Path) -> None:
    """The writers remember the row counts of earlier runs, so that one odd day is not the measure."""
    checks: list[Any] = [{"row_count": {"max_drop": 0.4, "of_last": 3}}]
    async with opened(folder) as engine:
        for uri in ("parquet://out.parquet", "duckdb://out.duckdb/main.t"):
            options: dict[str, Any] = {"function": "frames:frame", "output": uri}
            for number, rows in enumerate((10, 10, 2)):  # the last one is odd, and was let in
                context = make_context("python", {**options, "args": {"rows": rows}}, run=f"run_{number}")
                await run(engine, context)
            options["checks"] = checks
            failed = await failure(engine, make_context("python", {**options, "args": {"rows": 5}}, run="run_9"))
            passed = await run(engine, make_context("python", {**options, "args": {"rows": 6}}, run="run_8"))

            assert "5 rows are 50% fewer than the usual (the median of the last 3 writes) 10" in str(failed)
            assert passed.checks[0].passed
