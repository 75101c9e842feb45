from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipelines.datasets.values import keep, load
from pipelines.handed_on import keepable, value_there
from pipelines.pipeline import PipelineDef
from pipelines.run import TaskRun, TaskState
from pipelines.task import TaskDef

CHAIN = PipelineDef(
    name="p",
    tasks=(
        TaskDef(name="a", engine="python"),
        TaskDef(name="b", engine="python", needs=("a",)),
        TaskDef(name="c", engine="python", needs=("b",)),
    ),
)


def old(states: Sequence[str]) -> list[TaskRun]:
    return [
        TaskRun(uid=f"tsk_{name}", run="r", task=name, state=TaskState(state), output=f'"{name}"')
        for name, state in zip("abc", states, strict=True)
    ]


def states(tasks: Sequence[TaskRun]) -> list[str]:
    return [str(task.state) for task in tasks]


def test_a_lost_value_that_is_needed_is_made_anew() -> None:
    """Its task goes again, and with it whatever that needs and is lost as well; what is there stays."""
    before = old(["succeeded", "succeeded", "failed"])

    assert states(keepable(CHAIN, before, lambda _: True)) == ["succeeded", "succeeded", "failed"]
    assert states(keepable(CHAIN, before, lambda output: output != "b")) == ["succeeded", "pending", "failed"]
    assert states(keepable(CHAIN, before, lambda _: False)) == ["pending", "pending", "failed"]


def test_a_lost_value_that_nobody_needs_is_no_reason_to_work() -> None:
    """When all that takes it has succeeded, a task keeps its success."""
    before = old(["succeeded", "succeeded", "failed"])

    assert states(keepable(CHAIN, before, lambda output: output != "a")) == ["succeeded", "succeeded", "failed"]


@given(st.lists(st.sampled_from(["succeeded", "failed"]), min_size=3, max_size=3), st.sets(st.sampled_from("abc")))
def test_every_task_that_goes_again_finds_what_it_needs(had: list[str], lost: set[str]) -> None:
    """After the plan no task that runs needs a success whose value is lost."""
    kept = {task.task: task for task in keepable(CHAIN, old(had), lambda output: output not in lost)}

    for task in CHAIN.tasks:
        if kept[task.name].state is not TaskState.SUCCEEDED:
            assert all(kept[need].state is not TaskState.SUCCEEDED or need not in lost for need in task.needs)


def test_a_value_is_there_as_long_as_its_file(tmp_path: Path) -> None:
    """Small values always are; a large one is while its file exists."""
    large = keep(["x" * 1000] * 1000, tmp_path, "a")

    assert value_there(keep([1], tmp_path, "b"))
    assert value_there(large)
    assert len(load(large)) == 1000
    Path(large["$value"]["path"]).unlink()
    assert not value_there(large)


def test_of_a_task_that_fans_out_only_lost_slices_go_again() -> None:
    """A slice whose value is lost and needed is made anew; its neighbours keep theirs."""
    fan = PipelineDef(
        name="p",
        tasks=(
            TaskDef(name="a", engine="python", partitions=["x", "y"]),
            TaskDef(name="b", engine="python", needs=("a",)),
        ),
    )
    node, bad = TaskRun(uid="1", run="r", task="a"), TaskRun(uid="4", run="r", task="b", state=TaskState.FAILED)
    done = [
        replace(node, uid=name, partition=name, state=TaskState.SUCCEEDED, output=f'"{name}"') for name in ("x", "y")
    ]
    tasks = [replace(node, state=TaskState.SUCCEEDED, output='["x", "y"]'), *done, bad]
    kept = keepable(fan, tasks, lambda output: output != "y")

    assert {task.label: str(task.state) for task in kept} == {
        "a": "pending", "a[x]": "succeeded", "a[y]": "pending", "b": "failed",
    }  # fmt: skip
    assert keepable(fan, tasks, lambda _: True) == tasks
