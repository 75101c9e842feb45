"""Which successes a resumed run can keep: those whose values are still there, where somebody needs them. Pure but for
the question whether a value is there.

In flow a definition and the task runs of a run that failed; out flow the same task runs, in which a success whose value
is lost and still needed counts as not done, so that the resumed run makes it anew, visibly, with what that needs.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.datasets.values import handles_in, touch_value
from pipelines.graph import ordered
from pipelines.pipeline import PipelineDef
from pipelines.run import TaskRun, TaskState
from pipelines.scope import decode_output


def value_there(output: Any) -> bool:
    """Say whether what a task handed on can be had here; a file that can is kept for longer."""
    return all(touch_value(Path(handle["path"])) for handle in handles_in(output))


def keepable(
    definition: PipelineDef, tasks: Iterable[TaskRun], there: Callable[[Any], bool] = value_there
) -> list[TaskRun]:
    """Return the task runs with lost but needed successes put back to PENDING, slice by slice.

    A success is needed when a task that takes what it handed on has to run (again).
    """
    old = list(tasks)
    parts: dict[str, list[TaskRun]] = {}
    for task_run in old:
        parts.setdefault(task_run.task, []).append(task_run)
    nodes = {task_run.task for task_run in old if not task_run.partition and task_run.state is TaskState.SUCCEEDED}
    again = {task.name for task in definition.tasks} - nodes
    lost: set[str] = set()
    for task in reversed(ordered(definition)):
        for need in task.needs if task.name in again else ():
            missing = [one.label for one in _makers(parts.get(need, [])) if not there(decode_output(one))]
            if missing:
                lost.update(missing, [need])
                again.add(need)
    return [
        replace(one, state=TaskState.PENDING, output=None)
        if one.label in lost and one.state is TaskState.SUCCEEDED
        else one
        for one in old
    ]


def _makers(parts: list[TaskRun]) -> list[TaskRun]:
    """Return the successes that made values: the slices of a task that fans out, else the one task run."""
    slices = [one for one in parts if one.partition]
    return [one for one in slices or parts if one.state is TaskState.SUCCEEDED]
