"""From the end of an attempt to the outcome that the executor settles. Pure."""

import orjson

from pipelines.attempt import Stop
from pipelines.errors import TaskFailed
from pipelines.executor import AttemptOutcome, Verdict
from pipelines.logbook import storable
from pipelines.ports import TaskResult
from pipelines.run import TaskRun

MAX_OUTPUT = 262_144  # bytes of JSON that a task may hand on


def success(task_run: TaskRun, result: TaskResult) -> AttemptOutcome:
    """Return the outcome of a result, or raise TaskFailed when what it hands on cannot be kept."""
    output = None
    if result.output is not None:
        try:
            encoded = orjson.dumps(result.output)
        except (TypeError, ValueError) as error:
            raise TaskFailed(f"the task's output is no JSON: {error}", "output", retryable=False) from error
        if len(encoded) > MAX_OUTPUT:
            said = (
                f"the task's output takes {len(encoded)} bytes, more than {MAX_OUTPUT}: write it to a dataset instead"
            )
            raise TaskFailed(said, "output", retryable=False)
        output = encoded.decode()
    return AttemptOutcome(
        task=task_run.task,
        partition=task_run.partition,
        attempt=task_run.attempt,
        verdict=Verdict.SUCCEEDED,
        output=output,
        cpu_seconds=result.cpu_seconds,
        peak_rss_bytes=result.peak_rss_bytes,
    )


def failure(task_run: TaskRun, problem: TaskFailed) -> AttemptOutcome:
    """Return the outcome of a definitive failure."""
    return AttemptOutcome(
        task=task_run.task,
        partition=task_run.partition,
        attempt=task_run.attempt,
        verdict=Verdict.FAILED,
        error=storable(str(problem)),
        error_kind=problem.kind,
        detail=problem.detail,
        retryable=problem.retryable,
        retry_after=problem.retry_after,
        cpu_seconds=problem.cpu_seconds,
        peak_rss_bytes=problem.peak_rss_bytes,
    )


def stopped(task_run: TaskRun, why: Stop, bound: str) -> AttemptOutcome:
    """Return the outcome of an attempt that was stopped; `bound` tells which of its times was over."""
    if why is Stop.TIMEOUT:
        return failure(task_run, TaskFailed(bound, "timeout"))
    return AttemptOutcome(
        task=task_run.task, partition=task_run.partition, attempt=task_run.attempt, verdict=Verdict.CANCELLED
    )
