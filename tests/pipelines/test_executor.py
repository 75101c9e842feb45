import itertools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest

from pipelines.executor import (
    MAX_LOST,
    Advance,
    AttemptOutcome,
    EngineTraits,
    Verdict,
    begin,
    cancel,
    engine_key,
    plan_resume,
    plan_tasks,
    retry_delay,
    settle,
    wake,
)
from pipelines.pipeline import PipelineDef
from pipelines.run import RunState, TaskRun, TaskState, evolve
from pipelines.task import Retries, TaskDef
from sensors.clock import SECOND
from sensors.w3c import child_of
from tests.support.dags import AT, make_run

DIES = {"e": EngineTraits(survives=False, dedupes=False)}


def make_uid() -> Callable[[str], str]:
    numbers = itertools.count()
    return lambda prefix: f"{prefix}{next(numbers)}"


def pipeline(*tasks: TaskDef, max_tasks: int = 16) -> PipelineDef:
    return PipelineDef(name="p", tasks=tasks, max_tasks=max_tasks)


def started(definition: PipelineDef) -> list[TaskRun]:
    run = make_run()
    tasks = {task.task: task for task in plan_tasks(definition, run.uid, make_uid())}
    for task in begin(definition, run, list(tasks.values()), DIES, AT, taken_over=False, mint_span=child_of):
        tasks[task.task] = task
    return list(tasks.values())


def end(definition: PipelineDef, tasks: list[TaskRun], name: str, verdict: Verdict, **more: object) -> Advance:
    """Settle the attempt of `name`; `tasks` become what the step makes of them."""
    task = next(task for task in tasks if task.task == name)
    outcome = AttemptOutcome(task=name, attempt=task.attempt, verdict=verdict, **more)  # type: ignore[arg-type]
    advance = settle(definition, make_run(), tasks, outcome, AT + 1, lambda: 0.0, child_of)
    changed = {task.task: task for task in advance.tasks}
    tasks[:] = [changed.get(task.task, task) for task in tasks]
    return advance


def states(tasks: list[TaskRun]) -> dict[str, str]:
    return {task.task: str(task.state) for task in tasks}


def test_a_run_of_one_task_is_one_step_after_its_claim() -> None:
    """The claim writes the start intention; the task's success and the run's end come together."""
    definition = pipeline(TaskDef(name="a", engine="e"))
    tasks = started(definition)
    assert states(tasks) == {"a": "running"}
    assert tasks[0].attempt == 1
    assert tasks[0].engine_key == engine_key(make_run(), tasks[0])
    assert tasks[0].span is not None

    advance = end(definition, tasks, "a", Verdict.SUCCEEDED, output='{"n":1}')

    assert advance.state is RunState.SUCCEEDED
    assert [(task.state, task.output) for task in advance.tasks] == [(TaskState.SUCCEEDED, '{"n":1}')]


def test_the_engine_key_names_the_attempt_and_nothing_else() -> None:
    """The key is the same after a crash, and another for each run, generation, task, partition and attempt."""
    run = make_run()
    task = TaskRun(uid="tsk_1", run=run.uid, task="a", attempt=1)
    others = [
        engine_key(replace(run, uid="run_2"), task),
        engine_key(replace(run, generation=2), task),
        engine_key(run, replace(task, task="b")),
        engine_key(run, replace(task, partition="x")),
        engine_key(run, replace(task, attempt=2)),
    ]

    assert engine_key(run, task) == engine_key(replace(run, fence=9, holder="h"), replace(task, uid="tsk_9", lost=1))
    assert len({engine_key(run, task), *others}) == 6
    assert len(engine_key(run, task)) == 43


def test_a_failure_that_stops_the_run_skips_what_has_not_started() -> None:
    """Independent tasks waiting for room are skipped, dependants are upstream_failed, the run names the culprit."""
    definition = pipeline(
        TaskDef(name="a", engine="e"),
        TaskDef(name="b", engine="e", needs=("a",)),
        TaskDef(name="c", engine="e"),
        max_tasks=1,
    )
    tasks = started(definition)

    advance = end(definition, tasks, "a", Verdict.FAILED, error="boom")

    assert states(tasks) == {"a": "failed", "b": "upstream_failed", "c": "skipped"}
    assert advance.state is RunState.FAILED
    assert advance.error == "task a ended as failed: boom"


def test_cleaning_up_goes_on_in_a_stopped_run() -> None:
    """An `all_done` task runs after a failure that stops the run, and so does what follows; the run fails."""
    definition = pipeline(
        TaskDef(name="a", engine="e"),
        TaskDef(name="clean", engine="e", needs=("a",), upstream="all_done", retries=Retries(attempts=1, backoff=0)),
        TaskDef(name="after", engine="e", needs=("clean",)),
    )
    tasks = started(definition)

    assert end(definition, tasks, "a", Verdict.FAILED, error="boom").starts == ("clean",)
    assert end(definition, tasks, "clean", Verdict.FAILED).state is None
    assert states(tasks)["clean"] == "retry_wait"
    again = wake(definition, make_run(), tasks, AT + 2, child_of)
    tasks[:] = [*[t for t in tasks if t.task != "clean"], *again.tasks]
    assert end(definition, tasks, "clean", Verdict.SUCCEEDED).starts == ("after",)
    assert end(definition, tasks, "after", Verdict.SUCCEEDED).state is RunState.FAILED


def test_a_run_goes_on_without_a_task_that_may_fail() -> None:
    """With `on_failure: continue` the run succeeds without the task; with nothing succeeded at all it does not."""
    alone = pipeline(TaskDef(name="a", engine="e", on_failure="continue"))
    tasks = started(alone)
    assert end(alone, tasks, "a", Verdict.FAILED).state is RunState.FAILED

    both = pipeline(TaskDef(name="a", engine="e", on_failure="continue"), TaskDef(name="b", engine="e"))
    tasks = started(both)
    end(both, tasks, "a", Verdict.FAILED)
    assert end(both, tasks, "b", Verdict.SUCCEEDED).state is RunState.SUCCEEDED


def test_a_retry_waits_its_delay_and_keeps_its_error_readable() -> None:
    """A failed attempt waits for `next_at`; time starts the next one under another key, the last error still told."""
    definition = pipeline(TaskDef(name="a", engine="e", retries=Retries(attempts=1, backoff=2.0, jitter=0.0)))
    tasks = started(definition)
    first = tasks[0].engine_key

    assert end(definition, tasks, "a", Verdict.FAILED, error="flaky").state is None
    assert tasks[0].next_at == AT + 1 + 2 * SECOND
    assert wake(definition, make_run(), tasks, tasks[0].next_at - 1, child_of).empty
    again = wake(definition, make_run(), tasks, tasks[0].next_at, child_of)

    assert again.starts == ("a",)
    assert (again.tasks[0].attempt, again.tasks[0].failures, again.tasks[0].error) == (2, 1, "flaky")
    assert again.tasks[0].engine_key != first


def test_a_refusal_is_not_tried_again() -> None:
    """What is not retryable fails at once, whatever retries remain."""
    definition = pipeline(TaskDef(name="a", engine="e", retries=Retries(attempts=5)))
    tasks = started(definition)

    assert end(definition, tasks, "a", Verdict.FAILED, retryable=False).state is RunState.FAILED


def test_an_outcome_of_another_attempt_changes_nothing() -> None:
    """A late answer of an attempt that is no more under way is ignored."""
    definition = pipeline(TaskDef(name="a", engine="e"))
    tasks = started(definition)
    late = AttemptOutcome(task="a", attempt=7, verdict=Verdict.SUCCEEDED)

    assert settle(definition, make_run(), tasks, late, AT, lambda: 0.0, child_of).empty


def test_a_task_that_takes_its_holders_down_fails_in_the_end() -> None:
    """After many lost attempts the task fails visibly and the run ends."""
    definition = pipeline(TaskDef(name="a", engine="e"))
    tasks = [replace(started(definition)[0], lost=MAX_LOST)]
    changed = begin(definition, make_run(), tasks, DIES, AT, taken_over=True, mint_span=child_of)

    assert [(task.state, task.error_kind) for task in changed] == [(TaskState.FAILED, "lost")]
    assert wake(definition, make_run(), changed, AT, child_of).state is RunState.FAILED


def test_a_claim_without_takeover_leaves_attempts_alone() -> None:
    """Only a takeover may call an attempt lost."""
    definition = pipeline(TaskDef(name="a", engine="e"))
    tasks = started(definition)

    assert begin(definition, make_run(), tasks, DIES, AT, taken_over=False, mint_span=child_of) == []
    cancelling = make_run(RunState.CANCELLING)
    assert begin(definition, cancelling, tasks, DIES, AT, taken_over=True, mint_span=child_of) == []


def test_cancelling_ends_what_waits_and_leaves_what_runs_to_its_holder() -> None:
    """Waiting tasks are cancelled in one step; the run ends with the last attempt, or as succeeded if all did."""
    definition = pipeline(TaskDef(name="a", engine="e"), TaskDef(name="b", engine="e", needs=("a",)))
    tasks = started(definition)
    run = replace(make_run(RunState.CANCELLING), cancel_reason="stop it")
    advance = cancel(definition, make_run(), tasks, AT)
    assert [(task.task, task.state) for task in advance.tasks] == [("b", TaskState.CANCELLED)]
    assert advance.state is None

    outcome = AttemptOutcome(task="a", attempt=1, verdict=Verdict.CANCELLED)
    ended = settle(definition, run, [tasks[0], advance.tasks[0]], outcome, AT, lambda: 0.0, child_of)
    assert (ended.state, ended.error) == (RunState.CANCELLED, "stop it")

    alone = pipeline(TaskDef(name="a", engine="e"))
    done = AttemptOutcome(task="a", attempt=1, verdict=Verdict.SUCCEEDED)
    assert settle(alone, run, [tasks[0]], done, AT, lambda: 0.0, child_of).state is RunState.SUCCEEDED


def test_resuming_keeps_successes_and_runs_the_rest() -> None:
    """Successes come along with their outputs under new uids; what needs only them is ready, the rest waits."""
    definition = pipeline(
        TaskDef(name="a", engine="e"),
        TaskDef(name="b", engine="e", needs=("a",)),
        TaskDef(name="c", engine="e", needs=("b",)),
    )
    tasks = started(definition)
    end(definition, tasks, "a", Verdict.SUCCEEDED, output="1")
    end(definition, tasks, "b", Verdict.FAILED)

    fresh = {task.task: task for task in plan_resume(definition, tasks, "run_2", lambda prefix: f"{prefix}new")}

    assert {name: str(task.state) for name, task in fresh.items()} == {"a": "succeeded", "b": "ready", "c": "pending"}
    assert (fresh["a"].output, fresh["a"].run, fresh["a"].uid) == ("1", "run_2", "tsk_new")
    assert (fresh["b"].attempt, fresh["b"].failures, fresh["b"].error) == (0, 0, None)


@pytest.mark.parametrize(
    ("failures", "random", "retry_after", "expected"),
    [
        pytest.param(1, 0.0, None, 1.6, id="least"),
        pytest.param(1, 1.0, None, 2.0, id="most"),
        pytest.param(3, 1.0, None, 8.0, id="doubles"),
        pytest.param(2000, 1.0, None, 300.0, id="capped-without-overflow"),
        pytest.param(1, 1.0, 60.0, 60.0, id="receiver-asks-for-more"),
        pytest.param(1, 1.0, 1e12, 3600.0, id="receiver-asks-for-ever"),
    ],
)
def test_back_off_grows_within_bounds(failures: int, random: float, retry_after: float | None, expected: float) -> None:
    """Delays double up to `max_delay`, a share is random, and a foreign Retry-After is honoured within reason."""
    assert retry_delay(Retries(), failures, random, retry_after) == pytest.approx(expected)


def test_a_changed_task_run_is_what_replace_makes_of_it() -> None:
    """The quick copy of steps carries every field over, and changes what it is told to."""
    old: dict[str, Any] = {one.name: f"old {one.name}" for one in fields(TaskRun)}
    task = TaskRun(**old)
    changes: dict[str, Any] = {one.name: f"new {one.name}" for one in fields(TaskRun)}

    assert evolve(task) == task
    for name, value in changes.items():
        assert evolve(task, **{name: value}) == replace(task, **{name: value})
    assert evolve(task, **changes) == replace(task, **changes)
