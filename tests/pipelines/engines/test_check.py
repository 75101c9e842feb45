"""The `check` engine judges datasets where they lie, in a worker process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import orjson
import polars as pl
import pytest

from pipelines.engines.check import KIND
from pipelines.errors import TaskFailed
from pipelines.ports import TaskResult
from tests.support.engine_contexts import make_context, make_settings

FRAME = pl.DataFrame({"id": [1, 2, 2], "amount": [1.0, -5.0, 3.0]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a table of DuckDB, a Parquet file, and a module with a rule."""
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.register("incoming", FRAME.to_arrow())
        connection.execute("create table main.orders as from incoming")
    FRAME.write_parquet(tmp_path / "orders.parquet")
    (tmp_path / "rules.py").write_text(
        "def few(frame, most):\n    return frame.height <= most or f'{frame.height} rows'\n"
    )
    return tmp_path


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Any]:
    engine = KIND.build(make_settings(folder))
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close()


async def judged(engine: Any, **options: Any) -> TaskResult:
    context = make_context("check", options)
    result = await engine.poll(context, await engine.start(context))
    assert isinstance(result, TaskResult)
    return result


CHECKS = [
    {"row_count": {"min": 1}},
    {"unique": "id", "severity": "warn"},
    {"custom": {"function": "rules:few", "args": {"most": 3}}},
]


@pytest.mark.parametrize("uri", ["duckdb://shop.duckdb/main.orders", "parquet://orders.parquet"])
async def test_a_dataset_is_judged_where_it_lies(folder: Path, uri: str) -> None:
    """Checks run on a table of DuckDB and on a file; what only warns lets the task succeed, and is told."""
    async with opened(folder) as engine:
        result = await judged(engine, dataset=uri, checks=CHECKS)

    assert [(check.check, check.passed, check.dataset) for check in result.checks] == [
        ("row_count", True, uri),
        ("unique(id)", False, uri),
        ("custom", True, uri),
    ]
    assert result.checks[1].actual == "2 of 3 rows repeat a value"
    assert orjson.loads(result.checks[1].sample or "") == [{"id": 2, "rows": 2}]
    assert result.output == {"passed": 2, "warned": 1}


async def test_what_fails_fails_the_task_with_its_results(folder: Path) -> None:
    """A failed check of severity `fail` is the failure of the task: it names the dataset and carries all results."""
    checks = [{"between": {"column": "amount", "min": 0}}, {"row_count": {"min": 1}}]
    async with opened(folder) as engine:
        with pytest.raises(TaskFailed) as caught:
            await judged(engine, dataset="daily", uri="duckdb://shop.duckdb/main.orders", checks=checks)

    failed = caught.value
    assert failed.kind == "check_failed"
    assert str(failed) == "daily: amount: 1 of 3 values are not between 0 and any, such as -5.0"
    assert [(check.dataset, check.passed) for check in failed.checks] == [("daily", False), ("daily", True)]


async def test_what_cannot_be_read_is_no_bad_data(folder: Path) -> None:
    """A file that is not there fails the task as such, without a result of a check, and may be tried again."""
    async with opened(folder) as engine:
        with pytest.raises(TaskFailed, match="nothing was written there yet") as caught:
            await judged(engine, dataset="parquet://none.parquet", checks=[{"row_count": {"min": 1}}])

    assert (caught.value.kind, caught.value.retryable, caught.value.checks) == ("input", True, ())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"dataset": "daily", "checks": [{"row_count": {"min": 1}}]},
            "'daily' cannot be queried|daily cannot be queried",
        ),
        ({"dataset": "parquet://a.parquet"}, "nothing is checked"),
        ({"dataset": "parquet://a.parquet", "checks": ["columns_match_last"]}, "compares with earlier writes"),
        ({"dataset": "parquet://a.parquet", "connection": "wh", "checks": [{"unique": "id"}]}, "no connection 'wh'"),
        ({"dataset": "ftp://a", "checks": [{"unique": "id"}]}, "cannot be queried"),
        ({"dataset": "parquet://a.parquet", "checks": [{"uniq": "id"}]}, "did you mean `unique`"),
    ],
)
async def test_bad_options_start_nothing(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """Options that cannot be are refused before a worker starts, with the reason."""
    async with opened(tmp_path) as engine:
        with pytest.raises(TaskFailed, match=said) as caught:
            await engine.start(make_context("check", options))

    assert (caught.value.kind, caught.value.retryable) == ("bad_options", False)


@pytest.mark.parametrize("function", ["rules:few", "rules.py:few"])
async def test_a_rule_that_was_changed_counts_as_it_is_now(folder: Path, function: str) -> None:
    """A warm worker does not go on with the code that it has read before."""
    asked = {"dataset": "parquet://orders.parquet", "checks": [{"custom": {"function": function, "args": {"most": 3}}}]}
    async with opened(folder) as engine:
        assert (await judged(engine, **asked)).output == {"passed": 1, "warned": 0}
        (folder / "rules.py").write_text("def few(frame, most):\n    return 'no longer allowed'\n")
        with pytest.raises(TaskFailed, match="no longer allowed"):
            await judged(engine, **asked)
