"""The inside of the executor: one step of one run, from what happened to everything that follows from it. Pure.

A `Step` is filled with what happened (`put`, `start`), then `advance` lets needs decide, ends what will not start any
more, starts what may, and ends the run when nothing is left. It is thrown away with its answer.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from pipelines.graph import goes_on, ordered
from pipelines.pipeline import PipelineDef
from pipelines.run import Run, RunState, TaskRun, TaskState
from pipelines.task import TaskDef

MAX_ERROR = 4096
MintSpan = Callable[[str], str]
_NOT_STARTED = frozenset({TaskState.PENDING, TaskState.READY})


@dataclass(frozen=True, slots=True)
class Advance:
    """One step: task runs that changed, names of those that start (already RUNNING in `tasks`), and the run's end."""

    tasks: Sequence[TaskRun] = ()
    starts: Sequence[str] = ()
    state: RunState | None = None
    error: str | None = None

    @property
    def empty(self) -> bool:
        """Say whether there is nothing to write."""
        return not self.tasks and self.state is None


AMBIGUOUS = "ambiguous"  # the error kind of an attempt of which nobody knows whether its work was done


def engine_key(run: Run, task_run: TaskRun) -> str:
    """Return the idempotency key of an attempt: the same before and after a crash, another for each attempt."""
    parts = [run.pipeline, run.uid, run.generation, task_run.task, task_run.partition, task_run.attempt]
    return "tg-" + hashlib.sha256(orjson.dumps(parts)).hexdigest()[:40]


def _met(task: TaskDef, tasks: Mapping[str, TaskRun]) -> bool | None:
    """Say whether the needs of a task are met: True start it, False it can never start, None not known yet."""
    states = [tasks[need].state for need in task.needs]
    if task.upstream == "any_success" and states:
        if TaskState.SUCCEEDED in states:
            return True
        return False if all(state.final for state in states) else None
    if task.upstream == "all_done":
        return True if all(state.final for state in states) else None
    if any(state.final and state is not TaskState.SUCCEEDED for state in states):
        return False
    return True if all(state is TaskState.SUCCEEDED for state in states) else None


def propagate(order: Sequence[TaskDef], tasks: dict[str, TaskRun], at: int) -> list[TaskRun]:
    """Move PENDING tasks whose needs have decided; one pass in topological order reaches all."""
    moved = []
    for task in order:
        task_run = tasks[task.name]
        if task_run.state is not TaskState.PENDING:
            continue
        met = _met(task, tasks)
        if met is None:
            continue
        if met:
            task_run = replace(task_run, state=TaskState.READY)
        else:
            blame = [f"{n} ({tasks[n].state})" for n in task.needs if tasks[n].state is not TaskState.SUCCEEDED]
            task_run = replace(
                task_run,
                state=TaskState.UPSTREAM_FAILED,
                finished_at=at,
                error=f"not started: what it needs did not succeed: {', '.join(blame)}"[:MAX_ERROR],
                error_kind="upstream_failed",
            )
        tasks[task.name] = task_run
        moved.append(task_run)
    return moved


class Step:
    """The working state of one step: the tasks by name as they become, and which of them changed."""

    __slots__ = ("_order", "at", "changed", "definition", "exempt", "mint_span", "run", "starts", "tasks")

    def __init__(
        self, definition: PipelineDef, run: Run, tasks: Sequence[TaskRun], at: int, mint_span: MintSpan
    ) -> None:
        self.definition = definition
        self.run = run
        self.at = at
        self.mint_span = mint_span
        self.tasks = {task.task: task for task in tasks}
        self.changed: dict[str, TaskRun] = {}
        self.starts: list[str] = []
        self._order = ordered(definition)
        self.exempt = goes_on(self._order)

    def put(self, task_run: TaskRun) -> None:
        """Replace one task run."""
        self.tasks[task_run.task] = self.changed[task_run.task] = task_run

    def start(self, task_run: TaskRun) -> None:
        """Write the intention to start a new attempt. The last error stays readable until the attempt ends.

        After an ambiguous end the key stays what it was: what nobody knows the outcome of must not be done twice by
        a receiver that drops repeats.
        """
        unknown = task_run.error_kind == AMBIGUOUS and task_run.engine_key is not None
        task_run = replace(task_run, attempt=task_run.attempt + 1)
        parent = self.run.run_span
        self.put(
            replace(
                task_run,
                state=TaskState.RUNNING,
                engine_key=task_run.engine_key if unknown else engine_key(self.run, task_run),
                handle=None,
                started_at=self.at,
                finished_at=None,
                next_at=None,
                span=None if parent is None else self.mint_span(parent),
            )
        )
        self.starts.append(task_run.task)

    def stopper(self, ignoring: str | None = None) -> TaskRun | None:
        """Return the task that stopped the run: the first that must succeed, is final and did not."""
        worst: TaskRun | None = None
        for task in self._order:
            task_run = self.tasks[task.name]
            if task.on_failure != "stop" or task.name == ignoring or not task_run.state.final:
                continue
            if task_run.state is TaskState.SUCCEEDED or task_run.state is TaskState.SKIPPED:
                continue
            if task_run.state is not TaskState.UPSTREAM_FAILED:
                return task_run
            worst = worst or task_run
        return worst

    def advance(self, *, start: bool = True, hold: str | None = None) -> Advance:
        """Let consequences run their course, start what may start (never `hold`), end the run if all is done."""
        self._consequences()
        if start and self.run.state is not RunState.CANCELLING:
            self._start_ready(hold)
        state, error = self._conclusion()
        return Advance(tuple(self.changed.values()), tuple(self.starts), state, error)

    def _consequences(self) -> None:
        """Propagate needs; cancel or skip what will not start any more."""
        if self.run.state is RunState.CANCELLING:
            reason = self.run.cancel_reason or "the run was cancelled"
            for task_run in list(self.tasks.values()):
                if task_run.state in _NOT_STARTED or task_run.state is TaskState.RETRY_WAIT:
                    self._end(task_run, TaskState.CANCELLED, reason, "cancelled")
            return
        while True:
            for moved in propagate(self._order, self.tasks, self.at):
                self.changed[moved.task] = moved
            stopper = self.stopper()
            if stopper is None or not self._skip_rest(stopper):
                return

    def _skip_rest(self, stopper: TaskRun) -> bool:
        """End what a stopped run does not start or retry any more; say whether that was anything."""
        some = False
        why = f"the run stopped when task {stopper.task} ended as {stopper.state}"
        for task in self._order:
            task_run = self.tasks[task.name]
            if task.name in self.exempt:
                continue
            if task_run.state in _NOT_STARTED:
                self._end(task_run, TaskState.SKIPPED, f"not started: {why}", "stopped")
                some = True
            elif task_run.state is TaskState.RETRY_WAIT:
                self._end(task_run, TaskState.FAILED, f"{task_run.error}; not tried again: {why}", task_run.error_kind)
                some = True
        return some

    def _end(self, task_run: TaskRun, state: TaskState, error: str, kind: str | None) -> None:
        """End a task run that has no attempt under way."""
        self.put(
            replace(task_run, state=state, finished_at=self.at, next_at=None, error=error[:MAX_ERROR], error_kind=kind)
        )

    def _start_ready(self, hold: str | None) -> None:
        """Start what is ready or due to be retried, as far as `max_tasks` allows."""
        room = max(1, self.definition.max_tasks) - sum(t.state is TaskState.RUNNING for t in self.tasks.values())
        for task in self._order:
            task_run = self.tasks[task.name]
            if task_run.state is TaskState.RETRY_WAIT and task.name != hold and (task_run.next_at or 0) <= self.at:
                if room <= 0:
                    self.put(replace(task_run, state=TaskState.READY, next_at=None))
            elif task_run.state is not TaskState.READY:
                continue
            if room > 0:
                self.start(task_run)
                room -= 1

    def _conclusion(self) -> tuple[RunState | None, str | None]:
        """Return the run's final state and its sentence, or None while anything is left to do."""
        if not all(task_run.state.final for task_run in self.tasks.values()):
            return None, None
        every = [self.tasks[task.name] for task in self._order]
        required = [self.tasks[task.name] for task in self._order if task.on_failure == "stop"]
        if not any(task_run.state is TaskState.SUCCEEDED for task_run in every):
            required = every  # a run in which nothing at all succeeded is no success, whatever its tasks allow
        if all(task_run.state is TaskState.SUCCEEDED for task_run in required):
            if self.run.state is RunState.CANCELLING and any(
                task_run.state is TaskState.CANCELLED for task_run in self.tasks.values()
            ):
                return RunState.CANCELLED, (self.run.cancel_reason or "the run was cancelled")[:MAX_ERROR]
            return RunState.SUCCEEDED, None
        if self.run.state is RunState.CANCELLING:
            return RunState.CANCELLED, (self.run.cancel_reason or "the run was cancelled")[:MAX_ERROR]
        stopper = self.stopper() or every[0]
        return RunState.FAILED, f"task {stopper.task} ended as {stopper.state}: {stopper.error}"[:MAX_ERROR]
