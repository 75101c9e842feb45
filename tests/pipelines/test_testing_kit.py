from dataclasses import replace

import pytest

from pipelines.authoring import pipeline
from pipelines.errors import ParameterError
from pipelines.memory_runs import MemoryRuns
from pipelines.pipeline import PipelineDef
from pipelines.run import RunState, RunStep, TaskRun, TaskState
from pipelines.task import Retries, TaskDef
from pipelines.testing import run_pipeline
from tests.pipelines.authored import shop
from tests.support.manual_clock import ManualClock
from tests.support.scripted_engine import ScriptedEngine


async def test_a_pipeline_runs_in_a_unit_test() -> None:
    """Values of any type are handed from task to task; dates come as dates; the report tells everything."""
    report = await run_pipeline(shop.shop, {"path": "abcd", "factor": "10"})

    assert report.succeeded, report.error
    assert report.values["enrich"] == [40, 310]
    assert report.values["orders"] == {("run", "shop"): [40, 310]}
    assert report.outputs["clean_up"] == "clean"
    assert {task.state for task in report.tasks.values()} == {TaskState.SUCCEEDED}


async def test_a_failure_is_reported_with_its_error_and_retries_do_not_wait() -> None:
    """The exception's type and text are in the report; all attempts were made at once."""
    definition = PipelineDef(
        name="p",
        tasks=(
            TaskDef(
                name="fails",
                engine="python",
                options={"function": "tests.pipelines.authored.shop:fails"},
                retries=Retries(attempts=2, backoff=60.0),
            ),
        ),
    )
    report = await run_pipeline(definition, {"path": "x.csv"})

    assert report.run.state is RunState.FAILED
    assert "ValueError: cannot read x.csv" in str(report.error)
    assert report.tasks["fails"].attempt == 3
    assert len(report.logs) == 3


async def test_wrong_parameters_are_refused_before_anything_runs() -> None:
    """The kit checks parameters as the service does."""
    with pytest.raises(ParameterError, match=r"'path' .* is missing"):
        await run_pipeline(pipeline("p", [shop.extract]))


async def test_other_engines_can_be_given() -> None:
    """A fake engine stands in for the real one."""
    engine = ScriptedEngine()
    report = await run_pipeline(PipelineDef(name="p", tasks=(TaskDef(name="a", engine="e"),)), engines={"e": engine})

    assert report.outputs == {"a": {"task": "a"}}


async def test_the_runs_in_memory_refuse_what_a_run_may_not_do() -> None:
    """A step that skips a state, or that touches a run that has ended, is an error and not a silent write."""
    store = MemoryRuns(ManualClock(), {})
    definition = PipelineDef(
        name="p", tasks=(TaskDef(name="a", engine="e"), TaskDef(name="b", engine="e", needs=("a",)))
    )
    run = store.add(definition)
    (claimed,) = await store.claim("h", 1, 30, 5)
    pending = store.tasks(run.uid)["b"]
    wrong = RunStep(run=run.uid, fence=1, at=0, tasks=(_succeeded(pending),))

    with pytest.raises(AssertionError, match="cannot go from pending to succeeded"):
        await store.advance(wrong)
    assert await store.advance(RunStep(run=run.uid, fence=0, at=0)) is False
    assert await store.advance(RunStep(run=run.uid, fence=claimed.run.fence, at=0, state=RunState.FAILED))
    with pytest.raises(AssertionError, match="is advanced again"):
        await store.advance(RunStep(run=run.uid, fence=claimed.run.fence, at=0, state=RunState.SUCCEEDED))


def _succeeded(task: TaskRun) -> TaskRun:
    return replace(task, state=TaskState.SUCCEEDED)


async def test_a_pipeline_that_fans_out_runs_in_a_unit_test() -> None:
    """Slices get their element and name as parameters; conditions and lists are evaluated as in the service."""
    from tests.pipelines.authored import fanned

    report = await run_pipeline(fanned.publish, {"day": "2026-01-01"})

    assert report.succeeded, report.error
    assert report.outputs["fetch[se]"] == {"region": "se", "partition": "se", "day": "2026-01-01"}
    assert report.outputs["publish"] == "NO+SE"
    skipped = await run_pipeline(fanned.publish, {"day": ""})
    assert str(skipped.tasks["publish"].state) == "skipped"
