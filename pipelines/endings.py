"""How a run ends, and how a task does that fanned out: what the ends of all their parts come to. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from pipelines.fanout import blame, output_of, required_of
from pipelines.run import Run, RunState, TaskRun, TaskState, evolve
from pipelines.shape import Shape
from pipelines.step import MAX_ERROR
from pipelines.task import TaskDef
from pipelines.upstream import is_left_out

_NOT_STARTED = frozenset({TaskState.PENDING, TaskState.READY})


def ended(task_run: TaskRun, state: TaskState, at: int, error: str, kind: str | None) -> TaskRun:
    """Return a task run that ends without an attempt under way."""
    return evolve(task_run, state=state, finished_at=at, next_at=None, error=error[:MAX_ERROR], error_kind=kind)


def cancelled(tasks: Iterable[TaskRun], at: int, reason: str, kind: str) -> Sequence[TaskRun]:
    """Return the ends of what has not started in a run that was cancelled or whose time is up."""
    waiting = (*_NOT_STARTED, TaskState.RETRY_WAIT)
    return [ended(one, TaskState.CANCELLED, at, reason, kind) for one in tasks if one.state in waiting]


def stopped(tasks: Iterable[TaskRun], at: int, exempt: AbstractSet[str], stopper: TaskRun) -> Sequence[TaskRun]:
    """Return the ends of what a stopped run does not start or retry any more."""
    why = f"the run stopped when task {stopper.task} ended as {stopper.state}"
    found = []
    for one in tasks:
        if one.task in exempt:
            continue
        if one.state in _NOT_STARTED:
            found.append(ended(one, TaskState.SKIPPED, at, f"not started: {why}", "stopped"))
        elif one.state is TaskState.RETRY_WAIT:
            found.append(ended(one, TaskState.FAILED, at, f"{one.error}; not tried again: {why}", one.error_kind))
    return found


def closed(task: TaskDef, node: TaskRun, slices: Sequence[TaskRun], at: int) -> TaskRun:
    """Return the task run of a task all of whose slices have ended."""
    succeeded = sum(one.state is TaskState.SUCCEEDED for one in slices)
    required = required_of(task, len(slices))
    node = evolve(
        node,
        finished_at=at,
        cpu_seconds=sum(one.cpu_seconds or 0.0 for one in slices) or None,
        peak_rss_bytes=max((one.peak_rss_bytes or 0 for one in slices), default=0) or None,
    )
    if succeeded >= required:
        return evolve(node, state=TaskState.SUCCEEDED, output=output_of(slices))
    found = {one.state for one in slices}
    state, kind = TaskState.FAILED, "partitions_failed"
    if TaskState.FAILED not in found:
        if TaskState.CANCELLED in found:
            state, kind = TaskState.CANCELLED, "cancelled"
        elif TaskState.UPSTREAM_FAILED in found:
            state, kind = TaskState.UPSTREAM_FAILED, "upstream_failed"
        else:
            state, kind = TaskState.SKIPPED, "stopped"
    return evolve(node, state=state, error=blame(slices, required)[:MAX_ERROR], error_kind=kind)


def conclusion(
    shape: Shape, tasks: Mapping[str, TaskRun], run: Run, expired: str, stopper: TaskRun | None
) -> tuple[RunState, str | None]:
    """Return the final state of a run in which nothing is left to do, and its sentence.

    `expired` says that its time was up, `stopper` is the task that stopped it.
    """
    every = [tasks[task.name] for task in shape.order]
    required = [tasks[task.name] for task in shape.order if task.on_failure == "stop"]
    if not any(task_run.state is TaskState.SUCCEEDED for task_run in every):
        required = every  # a run in which nothing at all succeeded is no success, whatever its tasks allow
    ending = run.state is RunState.CANCELLING or bool(expired)
    cut_short = ending and any(task_run.state is TaskState.CANCELLED for task_run in every)
    if not cut_short and all(one.state is TaskState.SUCCEEDED or is_left_out(one) for one in required):
        return RunState.SUCCEEDED, None
    if run.state is RunState.CANCELLING:
        return RunState.CANCELLED, (run.cancel_reason or "the run was cancelled")[:MAX_ERROR]
    if expired:
        return RunState.FAILED, expired[:MAX_ERROR]
    blamed = stopper or every[0]
    return RunState.FAILED, f"task {blamed.task} ended as {blamed.state}: {blamed.error}"[:MAX_ERROR]
