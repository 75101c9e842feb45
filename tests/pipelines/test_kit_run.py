"""`run` and `run_task`: a pipeline in a unit test, as workers would run it."""

import os
from pathlib import Path

import polars as pl
import pytest

from pipelines.errors import DefinitionError, ParameterError
from pipelines.run import TaskState
from pipelines.testing import run, run_task
from tests.pipelines.authored import kit

EVENT = {"uid": "evt_1", "type": "object.created"}


def test_a_run_tells_everything_and_writes_nothing() -> None:
    """States, values, outputs, datasets, checks, logs; nothing was published, for nobody said where."""
    report = run(kit.kit, {"count": "3"}, events=[EVENT], partition="2026-01-01").check()

    assert report.states == {"rows": "succeeded", "doubled": "succeeded", "told": "succeeded"}
    assert report.values["doubled"].equals(pl.DataFrame({"id": [0, 2, 4]}))
    assert report.outputs["told"] == {"rows": 3, "events": ["evt_1"], "pid": os.getpid()}
    assert [(write.rows, Path(write.name).name) for write in report.datasets] == [(3, "doubled.parquet")]
    assert [(check.check, check.passed) for check in report.checks] == [
        ("row_count", True), ("unique(id)", True), ("row_count#2", False),
    ]  # fmt: skip
    assert report.log == "rows: making 3\nrows: attempt 1 of 2026-01-01"
    assert not Path("kit-out").exists()


def test_with_a_base_it_publishes_below_it(tmp_path: Path) -> None:
    """The outputs are written as the service would write them, relative to the folder that the test gives."""
    run(kit.kit, {"count": 2}, base=tmp_path).check()

    assert pl.read_parquet(tmp_path / "kit-out" / "doubled.parquet").height == 2


def test_retries_happen_at_once_and_are_told() -> None:
    """A task that fails twice and may be repeated twice succeeds, with its three attempts in the log."""
    report = run_task(kit.rows, {"count": 0}).check()

    assert report.tasks["rows"].attempt == 3
    assert report.log.count("ValueError: none yet") == 2


def test_a_stub_stands_in_for_a_task() -> None:
    """What it returns is handed on; an exception is its failure, with what follows from it."""
    report = run(kit.kit, {"count": 9}, stubs={kit.rows: pl.DataFrame({"id": [7]}), "told": 1}).check()
    failed = run(kit.kit, {"count": 9}, stubs={"rows": OSError("disk full")})

    assert report.values["doubled"]["id"].to_list() == [14]
    assert report.values["told"] == 1
    assert failed.states == {"rows": "failed", "doubled": "upstream_failed", "told": "upstream_failed"}
    with pytest.raises(AssertionError, match=r"OSError: disk full") as caught:
        failed.check()
    assert isinstance(caught.value.__cause__, OSError)


def test_one_task_runs_with_what_it_is_given() -> None:
    """Checks and context are those of the service; a failing check names what it found."""
    report = run_task(kit.doubled, given={"rows": pl.DataFrame({"id": [1, 1]})})

    assert report.tasks["doubled"].state is TaskState.FAILED
    assert "id" in str(report.error)
    assert [check.passed for check in report.checks] == [True, False, False]


def test_a_value_that_no_worker_could_hand_on_fails_here_too() -> None:
    """The error names task, type, place and remedy."""
    report = run_task(kit.unserialisable)

    assert report.tasks["unserialisable"].error_kind == "value"
    assert "task 'unserialisable': the task returned a dict in which ['here'] is a builtins.set" in str(report.error)


def test_datasets_that_tasks_read_are_given() -> None:
    """By the name that the task gives; what would be written is told by its name; a missing one says how to give it."""
    report = run_task(kit.merged, inputs={"orders": pl.DataFrame({"id": [1]})}).check()
    missing = run_task(kit.merged)

    assert report.values["merged"]["id"].to_list() == [2]
    assert [(write.name, write.rows) for write in report.datasets] == [("orders", 1)]
    assert "inputs={'orders': frame}" in str(missing.error)


@pytest.mark.parametrize("workers", [0, 1])
def test_slices_are_gathered(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that fans out is called per element; what comes after gets the frames of all slices as a list."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    report = run(kit.gathered, workers=workers).check()

    assert report.outputs["gathered"] == ["aa", "bb", "cc"]


def test_tasks_for_elsewhere_run_here() -> None:
    """A test needs no Dask cluster for a task that is placed on one."""
    report = run_task(kit.elsewhere, given={"rows": pl.DataFrame({"id": [1, 2]})}).check()

    assert report.values["elsewhere"] == 2


async def test_it_can_be_called_where_a_loop_runs() -> None:
    """An asynchronous test calls it like any other."""
    assert run_task(kit.rows, {"count": 1}).check().values["rows"].height == 1


def test_with_workers_it_runs_in_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same report from real worker processes; still nothing is written where nobody said so."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    report = run(kit.kit, {"count": 2}, events=[EVENT], workers=1).check()

    assert report.outputs["told"]["rows"] == 2
    assert report.outputs["told"]["pid"] != os.getpid()
    assert report.values["doubled"]["id"].to_list() == [0, 2]
    assert not Path("kit-out").exists()


def test_mistakes_of_the_test_are_told_at_once() -> None:
    """Unknown and missing parameters, wrong types, unknown stubs, and what a task needs, each with what is right."""
    with pytest.raises(ParameterError, match="unknown parameter 'cuont': did you mean 'count'"):
        run(kit.kit, {"cuont": 3})
    with pytest.raises(ParameterError, match=r"parameter 'count' \(int\) is missing"):
        run(kit.kit)
    with pytest.raises(ParameterError, match="parameter 'count' must be a whole number, not 'many'"):
        run(kit.kit, {"count": "many"})
    with pytest.raises(DefinitionError, match="no task 'row'"):
        run(kit.kit, {"count": 1}, stubs={"row": 1})
    with pytest.raises(DefinitionError, match="task 'doubled' needs 'rows'"):
        run_task(kit.doubled)
