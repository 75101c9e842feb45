"""The executor: what becomes of a run's tasks when something happened. Pure; whoever calls it makes the answer durable.

In flow a definition, a run, its task runs and what happened (a claim, the outcome of an attempt, a request to cancel,
time); out flow the task runs that changed, the names of those that start now, and the run's end. Each function is one
durable step: write what it returns in one transaction, then act on it.

- A task starts when its needs allow: `all_success` when all succeeded, `all_done` when all are final, `any_success` as
  soon as one succeeded, `N_of` as soon as N did. Among those that may start, the order is the graph's, at most
  `max_tasks` at once.
- A task that was skipped because its `when` was false takes those along that cannot start without it, visibly; it is no
  failure, and a run may succeed without it.
- A task that fans out is carried out once per partition, each retried alone; it ends when all of them have.
- A task that must succeed (`on_failure: stop`) and does not, stops the run: what runs may end, nothing more starts or
  is retried, but for `all_done` tasks and what follows them. With `continue` the run goes on without it.
- The run succeeds only if every task that must succeed did, and at least one task; a cancelled run that got there all
  the same succeeded.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pipelines.board import Board
from pipelines.graph import check_definition
from pipelines.pipeline import PipelineDef
from pipelines.retry_rules import why_not, worth_retrying
from pipelines.run import Run, RunState, TaskRun, TaskState, evolve
from pipelines.shape import Shape
from pipelines.step import MAX_ERROR, Advance, MintSpan, engine_key
from pipelines.task import Retries
from pipelines.upstream import Met
from sensors.clock import SECOND
from sensors.uid import TASK_RUN

__all__ = [
    "Advance",
    "AttemptOutcome",
    "EngineTraits",
    "Verdict",
    "begin",
    "cancel",
    "check_definition",
    "end_attempt",
    "engine_key",
    "plan_resume",
    "plan_tasks",
    "run_deadline",
    "settle",
    "wake",
]

MAX_LOST = 20  # a task that takes its holder down this often is the likely cause: it fails, visibly
LONGEST_RETRY_AFTER = 3600.0  # seconds that a foreign Retry-After may ask for beyond the task's own max_delay


class Verdict(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class EngineTraits:
    """What `begin` must know of an engine: see `pipelines.ports.Engine`."""

    survives: bool
    dedupes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """The definitive end of one attempt of a task, or of its slice `partition`.

    `output` is JSON text, `retry_after` seconds; `detail` narrows `error_kind` down (`exit:75`).
    """

    task: str
    attempt: int
    verdict: Verdict
    partition: str = ""
    output: str | None = None
    error: str | None = None
    error_kind: str | None = None
    detail: str | None = None
    retryable: bool = True
    retry_after: float | None = None
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None

    @property
    def label(self) -> str:
        """Return the label of the task run."""
        return f"{self.task}[{self.partition}]" if self.partition else self.task


def plan_tasks(definition: PipelineDef, run_uid: str, uid: Callable[[str], str]) -> tuple[TaskRun, ...]:
    """Return the task runs of a new run: those without needs and conditions are READY. `uid` makes a uid of a kind."""
    return tuple(
        TaskRun(
            uid=uid(TASK_RUN),
            run=run_uid,
            task=task.name,
            engine=task.engine,
            state=TaskState.PENDING if task.needs or task.when or task.fans_out else TaskState.READY,
        )
        for task in definition.tasks
    )


def plan_resume(
    definition: PipelineDef, old_tasks: Iterable[TaskRun], run_uid: str, uid: Callable[[str], str]
) -> tuple[TaskRun, ...]:
    """Return the task runs of a run that resumes another: successes stay with their outputs, the rest goes again.

    A task that had fanned out keeps its partitions; of those only what did not succeed goes again, unless enough did.
    """
    old_tasks = list(old_tasks)
    kept = {old.label: old for old in old_tasks if old.state is TaskState.SUCCEEDED}
    planned = [
        _kept(kept[fresh.task], fresh) if fresh.task in kept else fresh
        for fresh in plan_tasks(definition, run_uid, uid)
    ]
    nodes = {task.task: task for task in planned}
    for old in old_tasks:
        node = nodes.get(old.task)
        if not old.partition or node is None:
            continue
        fresh = TaskRun(
            uid=uid(TASK_RUN), run=run_uid, task=old.task, partition=old.partition, engine=node.engine, item=old.item
        )
        whole = node.state is TaskState.SUCCEEDED
        planned.append(_kept(old, fresh) if whole or old.state is TaskState.SUCCEEDED else fresh)
    run = Run(uid=run_uid, pipeline="", definition="", state=RunState.QUEUED, key="", created_at=0)
    board = Board(Shape(definition), run, planned, _no_span)
    ready = {
        task.name
        for task in definition.tasks
        if not (task.when or task.fans_out) and board.met(board.shape.tasks[task.name]) is Met.START
    }
    return tuple(
        evolve(one, state=TaskState.READY) if one.label in ready and one.state is TaskState.PENDING else one
        for one in planned
    )


def _kept(old: TaskRun, fresh: TaskRun) -> TaskRun:
    """Return what a resumed run takes over of a task run that ended."""
    error, kind = (None, None) if old.state is TaskState.SUCCEEDED else (old.error, old.error_kind)
    return evolve(old, uid=fresh.uid, run=fresh.run, engine=fresh.engine, error=error, error_kind=kind)


def begin(
    definition: PipelineDef,
    run: Run,
    tasks: Sequence[TaskRun],
    traits: Mapping[str, EngineTraits],
    at: int,
    *,
    taken_over: bool,
    mint_span: MintSpan,
) -> list[TaskRun]:
    """Return the task runs that change when a run is claimed: start intentions, written before any engine is called.

    After a takeover, work under way on an engine that survives or dedupes keeps its attempt and key; on any other it
    died with its holder: it is `lost` (no failure) and goes again as a new attempt. A `cancelling` run changes nothing.
    Tasks with conditions, partitions or pools are left to who drives the run.
    """
    if run.state is RunState.CANCELLING or run_deadline(definition, run, at) <= at:
        return []
    board = _board(definition, run, tasks, at, mint_span)
    for task in tasks if taken_over else ():
        if task.state is not TaskState.RUNNING or (board.shape.tasks[task.task].fans_out and not task.partition):
            continue
        trait = traits.get(task.engine)
        if trait is not None and (trait.survives or trait.dedupes):
            continue
        if task.lost >= MAX_LOST:
            board.put(
                evolve(
                    task,
                    state=TaskState.FAILED,
                    lost=task.lost + 1,
                    finished_at=at,
                    error=f"its holder died {task.lost + 1} times under it; see whether the task brings it down",
                    error_kind="lost",
                )
            )
        else:
            board.restart(evolve(task, lost=task.lost + 1))
    return list(board.advance().tasks)


def settle(
    definition: PipelineDef,
    run: Run,
    tasks: Sequence[TaskRun],
    outcome: AttemptOutcome,
    at: int,
    random: Callable[[], float],
    mint_span: MintSpan,
    *,
    start: bool = True,
) -> Advance:
    """Return the step that follows the end of an attempt. Empty when the outcome is of no attempt under way.

    `random` gives 0 ≤ x < 1 for the jitter. With `start` false nothing new starts (the holder is going down).
    """
    board = _board(definition, run, tasks, at, mint_span)
    return board.advance(start=start) if end_attempt(board, outcome, random) else Advance()


def wake(
    definition: PipelineDef, run: Run, tasks: Sequence[TaskRun], at: int, mint_span: MintSpan, *, start: bool = True
) -> Advance:
    """Return the step that time asks for: retries that came due start; a run with nothing left to do ends."""
    return _board(definition, run, tasks, at, mint_span).advance(start=start)


def cancel(definition: PipelineDef, run: Run, tasks: Sequence[TaskRun], at: int) -> Advance:
    """Return the step that a request to cancel asks for: what does not run is cancelled, what runs must be stopped.

    The run ends with this step, or with the outcome of its last attempt.
    """
    stopping = run if run.state is RunState.CANCELLING else replace(run, state=RunState.CANCELLING)
    return _board(definition, stopping, tasks, at, _no_span).advance(start=False)


def run_deadline(definition: PipelineDef, run: Run, at: int) -> float:
    """Return the moment (µs) at which the run's time is up; infinity when it has all the time there is."""
    if definition.timeout is None:
        return math.inf
    return (at if run.started_at is None else run.started_at) + definition.timeout * SECOND


def _board(definition: PipelineDef, run: Run, tasks: Sequence[TaskRun], at: int, mint_span: MintSpan) -> Board:
    board = Board(Shape(definition), run, tasks, mint_span)
    board.step(at)
    return board


def retry_delay(retries: Retries, failures: int, random: float, retry_after: float | None = None) -> float:
    """Return the seconds to wait after the `failures`-th failure; a share of `jitter` of them is random."""
    try:
        delay = min(retries.max_delay, retries.backoff * retries.factor ** (failures - 1))
    except OverflowError:
        delay = retries.max_delay
    delay *= 1 - retries.jitter + retries.jitter * random
    if retry_after is not None:
        delay = max(delay, min(retry_after, max(retries.max_delay, LONGEST_RETRY_AFTER)))
    return delay


def _no_span(parent: str) -> str:
    """Stand in where nothing starts."""
    return parent


def end_attempt(board: Board, outcome: AttemptOutcome, random: Callable[[], float]) -> bool:
    """Settle the end of an attempt on a board; False when the outcome is of no attempt under way."""
    task_run = board.tasks.get(outcome.label)
    if task_run is None or task_run.state is not TaskState.RUNNING or task_run.attempt != outcome.attempt:
        return False
    board.settle(_ended(board, task_run, outcome, random))
    return True


def _ended(board: Board, task_run: TaskRun, outcome: AttemptOutcome, random: Callable[[], float]) -> TaskRun:
    """Return the task run as its attempt leaves it."""
    error = None if outcome.error is None else outcome.error[:MAX_ERROR]
    ended = evolve(
        task_run,
        state=TaskState.SUCCEEDED,
        finished_at=board.at,
        output=outcome.output,
        error=None,
        error_kind=None,
        cpu_seconds=outcome.cpu_seconds,
        peak_rss_bytes=outcome.peak_rss_bytes,
    )
    if outcome.verdict is Verdict.SUCCEEDED:
        return ended
    if outcome.verdict is Verdict.CANCELLED:
        return evolve(
            ended,
            state=TaskState.CANCELLED,
            output=task_run.output,
            error=error or (board.expired or board.run.cancel_reason or "the run was cancelled")[:MAX_ERROR],
            error_kind=outcome.error_kind or ("run_timeout" if board.expired else "cancelled"),
        )
    failed = evolve(
        ended,
        state=TaskState.FAILED,
        output=task_run.output,
        failures=task_run.failures + 1,
        error=error or "the attempt failed without saying why",
        error_kind=outcome.error_kind or "error",
    )
    return _repeated(board, failed, outcome, random)


def _repeated(board: Board, failed: TaskRun, outcome: AttemptOutcome, random: Callable[[], float]) -> TaskRun:
    """Return a failed task run as it waits for its next attempt, or as it is when there is none."""
    task = board.shape.tasks[failed.task]
    going = (
        board.run.state is not RunState.CANCELLING
        and not board.expired
        and (failed.task in board.shape.exempt or board.stopper() is None)
    )
    if not going or failed.failures > task.retries.attempts:
        return failed
    kind = failed.error_kind or "error"
    if not worth_retrying(task, kind, outcome.detail, retryable=outcome.retryable):
        return _said(failed, why_not(task, kind, outcome.detail))
    delay = retry_delay(task.retries, failed.failures, random(), outcome.retry_after)
    next_at = board.at + int(delay * SECOND)
    if task.timeout_all is not None:
        end = (failed.first_started_at or failed.started_at or board.at) + int(task.timeout_all * SECOND)
        if next_at >= end:
            return _said(failed, f"not tried again: its timeout_all of {task.timeout_all:g} s would be over")
    return evolve(failed, state=TaskState.RETRY_WAIT, next_at=next_at)


def _said(failed: TaskRun, why: str) -> TaskRun:
    """Return a failed task run whose error tells why it is not repeated."""
    return evolve(failed, error=f"{failed.error}; {why}"[:MAX_ERROR]) if why else failed
