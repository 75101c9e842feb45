"""What a step of a run is: task runs that change, those that start, the run's end; and the keys of attempts. Pure."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from pipelines.run import Run, RunState, TaskRun, TaskState, evolve

MAX_ERROR = 4096
AMBIGUOUS = "ambiguous"  # the error kind of an attempt of which nobody knows whether its work was done

MintSpan = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Advance:
    """One step: task runs that changed, labels of those that start (already RUNNING in `tasks`), and the run's end."""

    tasks: Sequence[TaskRun] = ()
    starts: Sequence[str] = ()
    state: RunState | None = None
    error: str | None = None

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to write."""
        return not self.tasks and self.state is None


def engine_key(run: Run, task_run: TaskRun, attempt: int | None = None) -> str:
    """Return the idempotency key of an attempt: the same before and after a crash, another for each attempt."""
    number = task_run.attempt if attempt is None else attempt
    parts = [run.pipeline, run.uid, run.generation, task_run.task, task_run.partition, number]
    return "tg-" + hashlib.sha256(orjson.dumps(parts)).hexdigest()[:40]


def begun(run: Run, task_run: TaskRun, at: int, mint_span: MintSpan) -> TaskRun:
    """Return a task run whose next attempt is meant to start. The last error stays readable until the attempt ends.

    After an ambiguous end the key stays what it was: what nobody knows the outcome of must not be done twice by a
    receiver that drops repeats.
    """
    unknown = task_run.error_kind == AMBIGUOUS and task_run.engine_key is not None
    attempt = task_run.attempt + 1
    return evolve(
        task_run,
        state=TaskState.RUNNING,
        attempt=attempt,
        engine_key=task_run.engine_key if unknown else engine_key(run, task_run, attempt),
        handle=None,
        started_at=at,
        first_started_at=at if task_run.first_started_at is None else task_run.first_started_at,
        finished_at=None,
        next_at=None,
        span=None if run.run_span is None else mint_span(run.run_span),
    )
