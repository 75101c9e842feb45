"""The executor: what becomes of a run's tasks when something happened. Pure; whoever calls it makes the answer durable.

In flow a definition, a run, its task runs and what happened (a claim, the outcome of an attempt, a request to cancel,
time); out flow the task runs that changed, the names of those that start now, and the run's end. Each function is one
durable step: write what it returns in one transaction, then act on it.

- A task starts when its needs allow: `all_success` when all succeeded, `all_done` when all are final, `any_success` as
  soon as one succeeded. Among those that may start, the order is the graph's, at most `max_tasks` at once.
- A task that must succeed (`on_failure: stop`) and does not, stops the run: what runs may end, nothing more starts or
  is retried, but for `all_done` tasks and what follows them. With `continue` the run goes on without it.
- The run succeeds only if every task that must succeed did, and at least one task; a cancelled run that got there all
  the same succeeded.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from pipelines.graph import check_definition, ordered
from pipelines.pipeline import PipelineDef
from pipelines.run import Run, RunState, TaskRun, TaskState
from pipelines.step import MAX_ERROR, Advance, MintSpan, Step, engine_key, propagate
from pipelines.task import Retries
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
    "engine_key",
    "plan_resume",
    "plan_tasks",
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
    """The definitive end of one attempt of the task named `task`. `output` is JSON text, `retry_after` seconds."""

    task: str
    attempt: int
    verdict: Verdict
    output: str | None = None
    error: str | None = None
    error_kind: str | None = None
    retryable: bool = True
    retry_after: float | None = None
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None


def plan_tasks(definition: PipelineDef, run_uid: str, uid: Callable[[str], str]) -> tuple[TaskRun, ...]:
    """Return the task runs of a new run: those without needs are READY. `uid` makes a uid of a prefix."""
    return tuple(
        TaskRun(
            uid=uid(TASK_RUN),
            run=run_uid,
            task=task.name,
            engine=task.engine,
            state=TaskState.PENDING if task.needs else TaskState.READY,
        )
        for task in definition.tasks
    )


def plan_resume(
    definition: PipelineDef, old_tasks: Iterable[TaskRun], run_uid: str, uid: Callable[[str], str]
) -> tuple[TaskRun, ...]:
    """Return the task runs of a run that resumes another: successes stay with their outputs, the rest goes again."""
    kept = {old.task: old for old in old_tasks if old.state is TaskState.SUCCEEDED}
    planned = []
    for fresh in plan_tasks(definition, run_uid, uid):
        old = kept.get(fresh.task)
        if old is None:
            planned.append(fresh)
        else:
            planned.append(replace(old, uid=fresh.uid, run=run_uid, engine=fresh.engine, error=None, error_kind=None))
    tasks = {task.task: task for task in planned}
    propagate(ordered(definition), tasks, 0)
    return tuple(tasks[task.task] for task in planned)


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
    """
    if run.state is RunState.CANCELLING:
        return []
    step = Step(definition, run, tasks, at, mint_span)
    for task in tasks if taken_over else ():
        if task.state is not TaskState.RUNNING:
            continue
        trait = traits.get(task.engine)
        if trait is not None and (trait.survives or trait.dedupes):
            continue
        if task.lost >= MAX_LOST:
            step.put(
                replace(
                    task,
                    state=TaskState.FAILED,
                    lost=task.lost + 1,
                    finished_at=at,
                    error=f"its holder died {task.lost + 1} times under it; see whether the task brings it down",
                    error_kind="lost",
                )
            )
        else:
            step.start(replace(task, lost=task.lost + 1))
    return list(step.advance().tasks)


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
    step = Step(definition, run, tasks, at, mint_span)
    task_run = step.tasks.get(outcome.task)
    if task_run is None or task_run.state is not TaskState.RUNNING or task_run.attempt != outcome.attempt:
        return Advance()
    ended = _end_attempt(step, task_run, outcome, random)
    step.put(ended)
    return step.advance(start=start, hold=ended.task)


def wake(
    definition: PipelineDef, run: Run, tasks: Sequence[TaskRun], at: int, mint_span: MintSpan, *, start: bool = True
) -> Advance:
    """Return the step that time asks for: retries that came due start; a run with nothing left to do ends."""
    return Step(definition, run, tasks, at, mint_span).advance(start=start)


def cancel(definition: PipelineDef, run: Run, tasks: Sequence[TaskRun], at: int) -> Advance:
    """Return the step that a request to cancel asks for: what does not run is cancelled, what runs must be stopped.

    The run ends with this step, or with the outcome of its last attempt.
    """
    stopping = run if run.state is RunState.CANCELLING else replace(run, state=RunState.CANCELLING)
    return Step(definition, stopping, tasks, at, _no_span).advance(start=False)


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


def _end_attempt(step: Step, task_run: TaskRun, outcome: AttemptOutcome, random: Callable[[], float]) -> TaskRun:
    """Return the task run as its attempt leaves it."""
    at = step.at
    figures = (outcome.cpu_seconds, outcome.peak_rss_bytes)
    error = None if outcome.error is None else outcome.error[:MAX_ERROR]
    if outcome.verdict is Verdict.SUCCEEDED:
        return replace(
            task_run,
            state=TaskState.SUCCEEDED,
            finished_at=at,
            output=outcome.output,
            error=None,
            error_kind=None,
            cpu_seconds=figures[0],
            peak_rss_bytes=figures[1],
        )
    ended = replace(
        task_run,
        state=TaskState.CANCELLED,
        finished_at=at,
        error=error or step.run.cancel_reason or "the run was cancelled",
        error_kind=outcome.error_kind or "cancelled",
        cpu_seconds=figures[0],
        peak_rss_bytes=figures[1],
    )
    if outcome.verdict is Verdict.CANCELLED:
        return ended
    retries = step.definition.task(task_run.task).retries
    failures = task_run.failures + 1
    failed = replace(
        ended,
        state=TaskState.FAILED,
        failures=failures,
        error=error or "the attempt failed without saying why",
        error_kind=outcome.error_kind or "error",
    )
    going = step.run.state is not RunState.CANCELLING and (
        task_run.task in step.exempt or step.stopper(ignoring=task_run.task) is None
    )
    if not (outcome.retryable and going and failures <= retries.attempts):
        return failed
    delay = retry_delay(retries, failures, random(), outcome.retry_after)
    return replace(failed, state=TaskState.RETRY_WAIT, next_at=at + int(delay * SECOND))
