"""Datasets that tasks declare: recorded with what lies there, on any engine, and never at the cost of the work."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.datasets.catalog import Catalog
from pipelines.datasets.definition import DatasetDef
from pipelines.datasets.looking import look
from pipelines.ports import TaskContext, TaskResult
from pipelines.recording import Recording
from pipelines.run import DatasetWrite
from sensors.clock import SystemClock
from tests.support.dataset_places import FRAME, Place
from tests.support.engine_contexts import make_context
from tests.support.scripted_engine import ScriptedEngine

Places = Sequence[Mapping[str, Any]]


def _context(log: list[str], **task: Any) -> TaskContext:
    context = make_context("command", {}, log=lambda _, text: log.append(text))
    return replace(context, task=replace(context.task, **task))


def _recording(base: Path, work: Any = None, looking: Any = None) -> Recording:
    async def here(places: Places) -> Sequence[Mapping[str, Any] | None]:
        return look(places, str(base))

    catalog = Catalog(base, {"daily": DatasetDef(name="daily", uri="parquet://daily.parquet")})
    engine = ScriptedEngine() if work is None else ScriptedEngine(work=work)
    return Recording(engine, catalog, looking or here, SystemClock())


async def test_declared_outputs_and_inputs_are_recorded(tmp_path: Path) -> None:
    """A command's `outputs` and `inputs` become a write and a read, with what lies there."""
    Place(name="parquet", uri="parquet://{}.parquet", base=tmp_path, dataset="daily").write(FRAME)
    log: list[str] = []
    context = _context(log, outputs=("daily", "csv://nothing.csv"), inputs={"daily": "daily"})
    result = await _recording(tmp_path).poll(context, "handle")

    assert result is not None
    told = [(one.mode, one.dataset, one.rows, one.version) for one in result.datasets]
    assert told == [("read", "daily", 3, "run_1.1"), ("write", "daily", 3, "run_1.1"), ("write", "", None, None)]
    assert result.datasets[0].schema == (("id", "Int64"), ("name", "String"))
    assert log == []


async def test_what_the_engine_tells_is_not_told_twice(tmp_path: Path) -> None:
    """A write that the engine has told of stays as it is."""
    own = DatasetWrite(namespace="file", name=str(tmp_path / "daily.parquet"), task="work", at=1, rows=7)

    async def work(_context: TaskContext) -> TaskResult:
        return TaskResult(datasets=(own,))

    result = await _recording(tmp_path, work).poll(_context([], outputs=("daily",)), "handle")

    assert result is not None
    assert result.datasets == (own,)


async def test_a_look_that_fails_costs_only_the_figures(tmp_path: Path) -> None:
    """An unknown name, and a worker that cannot look, leave a line in the log; the task has succeeded all the same."""

    async def broken(_places: Places) -> Sequence[Mapping[str, Any] | None]:
        raise RuntimeError("no worker")

    log: list[str] = []
    recording = _recording(tmp_path, looking=broken)
    result = await recording.poll(_context(log, outputs=("daily", "unknown")), "handle")

    assert result is not None
    assert [(one.dataset, one.rows) for one in result.datasets] == [("daily", None)]
    assert "'unknown' is not recorded" in log[0]
    assert "no worker" in log[1]


async def test_tasks_that_declare_nothing_pay_nothing(tmp_path: Path) -> None:
    """Without `outputs` and `inputs` the engine's own answer goes through untouched."""
    answer = TaskResult(output=1)

    async def work(_context: TaskContext) -> TaskResult:
        return answer

    assert await _recording(tmp_path, work).poll(_context([]), "handle") is answer
