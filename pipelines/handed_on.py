"""Which successes a resumed run can keep: those whose values are still there, where somebody needs them. Pure but for
the question whether a value is there.

In flow a definition and the task runs of a run that failed; out flow the same task runs, in which a success whose value
is lost and still needed counts as not done, so that the resumed run makes it anew, visibly, with what that needs.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines.datasets.values import handle_of, touch_value
from pipelines.graph import ordered
from pipelines.pipeline import PipelineDef
from pipelines.run import TaskRun, TaskState
from pipelines.scope import decode_output


def value_there(output: Any) -> bool:
    """Say whether what a task handed on can be had here; a file that can is kept for longer."""
    handle = handle_of(output)
    return handle is None or touch_value(Path(handle["path"]))


def keepable(
    definition: PipelineDef, tasks: Iterable[TaskRun], there: Callable[[Any], bool] = value_there
) -> list[TaskRun]:
    """Return the task runs with lost but needed successes put back to PENDING.

    A success is needed when a task that takes what it handed on has to run (again).
    """
    old = list(tasks)
    again = {task.name for task in definition.tasks} - {task.task for task in old if task.state is TaskState.SUCCEEDED}
    outputs = {task.task: task for task in old if task.state is TaskState.SUCCEEDED}
    for task in reversed(ordered(definition)):
        if task.name not in again:
            continue
        for need in task.needs:
            found = outputs.get(need)
            if found is not None and need not in again and not there(decode_output(found)):
                again.add(need)
    return [
        replace(task, state=TaskState.PENDING, output=None)
        if task.task in again and task.state is TaskState.SUCCEEDED
        else task
        for task in old
    ]
