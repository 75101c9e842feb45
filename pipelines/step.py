"""What a step of a run is: task runs that change, those that start, the run's end; and the keys of attempts. Pure."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from pipelines.run import Run, RunState, TaskRun

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
