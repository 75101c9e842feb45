"""Conditions, rules over needs, narrowed retries and time limits."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.errors import TaskFailed
from pipelines.pipeline import PipelineDef
from pipelines.ports import TaskContext, TaskResult
from pipelines.retry_rules import word_problem
from pipelines.run import Run, RunState
from pipelines.task import Retries, TaskDef
from tests.support.dispatching import Bench
from tests.support.scripted_engine import Gate, ScriptedEngine

MakeBench = Callable[..., Bench]


def task(name: str, *needs: str, **more: Any) -> TaskDef:
    return TaskDef(name=name, engine="e", needs=needs, **more)


def states(bench: Bench, run: Run) -> dict[str, str]:
    return {label: str(one.state) for label, one in bench.store.tasks(run.uid).items()}


async def failing(context: TaskContext) -> TaskResult:
    """Fail tasks whose name begins with `bad`."""
    if context.task.name.startswith("bad"):
        raise TaskFailed("boom")
    return TaskResult(output=context.task.name)


async def test_a_false_condition_skips_and_what_follows_says_so(make_bench: MakeBench) -> None:
    """The reason stands with each skipped task; `all_done` goes on; the run succeeds: nothing went wrong."""
    bench = make_bench()
    run = bench.add(
        task("a", when="params.full"),
        task("b", "a"),
        task("c", "b"),
        task("clean", "b", upstream="all_done"),
        params={"full": False},
    )
    bench.dispatcher()
    await bench.settled()

    assert states(bench, run) == {"a": "skipped", "b": "skipped", "c": "skipped", "clean": "succeeded"}
    tasks = bench.store.tasks(run.uid)
    assert tasks["a"].error == "skipped: `when` is false: params.full"
    assert tasks["b"].error == "skipped: a was skipped"
    assert tasks["c"].error == "skipped: b was skipped"
    assert bench.state(run) is RunState.SUCCEEDED


async def test_a_run_in_which_all_was_skipped_on_purpose_succeeds(make_bench: MakeBench) -> None:
    """Nothing had to be done, and nothing was."""
    bench = make_bench()
    run = bench.add(task("a", when="false"), task("b", "a"))
    bench.dispatcher()
    await bench.settled()

    assert bench.state(run) is RunState.SUCCEEDED


async def test_a_failure_outweighs_a_skip(make_bench: MakeBench) -> None:
    """A task with one need skipped and one failed is `upstream_failed`, not skipped."""
    bench = make_bench(ScriptedEngine(work=failing))
    run = bench.add(task("a", when="false"), task("bad", on_failure="continue"), task("c", "a", "bad"))
    bench.dispatcher()
    await bench.settled()

    assert states(bench, run) == {"a": "skipped", "bad": "failed", "c": "upstream_failed"}


async def test_conditions_see_the_outputs_above(make_bench: MakeBench) -> None:
    """`when` is evaluated when the needs have ended, with outputs, states, the run and its events."""
    bench = make_bench(ScriptedEngine(work=failing))
    run = bench.add(
        task("a"),
        task("yes", "a", when='tasks.a.output == "a" && run.pipeline == "p" && size(events) == 1'),
        task("no", "a", when='tasks.a.state != "succeeded"'),
        events=({"id": 1},),
    )
    bench.dispatcher()
    await bench.settled()

    assert states(bench, run) == {"a": "succeeded", "yes": "succeeded", "no": "skipped"}


@pytest.mark.parametrize(
    "more",
    [
        {"when": 'tasks.slow.output == "slow"'},
        {"when": 'tasks["slow"].state == "succeeded"'},
        {"partitions": "[tasks.slow.output]"},
    ],
)
async def test_a_condition_waits_for_the_needs_that_it_names(make_bench: MakeBench, more: dict[str, Any]) -> None:
    """Under `any_success` too: what a condition sees is no matter of who was faster."""
    gate = Gate()

    async def work(context: TaskContext) -> TaskResult:
        if context.task.name == "slow":
            await gate(context)
        return TaskResult(output=context.task.name)

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(task("fast"), task("slow"), task("go", "fast", "slow", upstream="any_success", **more))
    bench.dispatcher()
    await bench.settled()
    assert states(bench, run) == {"fast": "succeeded", "slow": "running", "go": "pending"}
    gate.open()
    await bench.settled()

    assert states(bench, run)["go"] == "succeeded"
    assert bench.state(run) is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("when", "said"),
    [("params.nothing", "cannot be evaluated"), ('"text"', "neither true nor false but 'text'")],
)
async def test_a_condition_that_does_not_decide_fails_its_task(make_bench: MakeBench, when: str, said: str) -> None:
    """An error is never taken for false."""
    bench = make_bench()
    run = bench.add(task("a", when=when))
    bench.dispatcher()
    await bench.settled()

    failed = bench.store.tasks(run.uid)["a"]
    assert (str(failed.state), failed.error_kind) == ("failed", "expression")
    assert said in str(failed.error)
    assert bench.state(run) is RunState.FAILED


async def test_two_of_three_are_enough(make_bench: MakeBench) -> None:
    """`2_of` starts with the second success and does not wait for the third; without two it never starts."""
    gate = Gate()

    async def work(context: TaskContext) -> TaskResult:
        return await (gate(context) if context.task.name == "slow" else failing(context))

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(task("a"), task("b"), task("slow"), task("go", "a", "b", "slow", upstream="2_of"))
    bench.dispatcher()
    await bench.settled()
    assert states(bench, run) == {"a": "succeeded", "b": "succeeded", "slow": "running", "go": "succeeded"}
    gate.open()

    other = make_bench(ScriptedEngine(work=failing))
    lenient: dict[str, Any] = {"on_failure": "continue"}
    run = other.add(
        task("a"), task("bad1", **lenient), task("bad2", **lenient), task("go", "a", "bad1", "bad2", upstream="2_of")
    )
    other.dispatcher()
    await other.settled()
    assert states(other, run)["go"] == "upstream_failed"


@pytest.mark.parametrize(
    ("retry_on", "never", "kind", "detail", "retried"),
    [
        (("timeout",), (), "timeout", None, True),
        (("timeout",), (), "crashed", None, False),
        (("exit:75",), (), "exit_code", "exit:75", True),
        (("exit:75",), (), "exit_code", "exit:1", False),
        (("ConnectionError",), (), "ConnectionResetError", None, True),
        (("ConnectionError",), (), "ValueError", None, False),
        (("OurError",), (), "OurError", None, True),
        (("http:503",), (), "http_503", None, True),
        (("http:5xx",), (), "http_502", None, True),
        (("http:5xx",), (), "http_404", None, False),
        ((), ("ValueError",), "UnicodeDecodeError", None, False),
        ((), ("ValueError",), "KeyError", None, True),
        (("Exception",), ("exit:2", "KeyError"), "KeyError", None, False),
    ],
)
async def test_only_named_failures_are_repeated(
    make_bench: MakeBench,
    retry_on: tuple[str, ...],
    never: tuple[str, ...],
    kind: str,
    detail: str | None,
    retried: bool,
) -> None:
    """`retry_on` and `never_retry_on` go by kind, exception (with subclasses), exit code and status."""

    async def work(context: TaskContext) -> TaskResult:
        problem = TaskFailed("no", kind)
        problem.detail = detail
        raise problem

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(task("a", retries=Retries(attempts=1, backoff=9), retry_on=retry_on, never_retry_on=never))
    bench.dispatcher()
    await bench.settled()

    found = bench.store.tasks(run.uid)["a"]
    assert str(found.state) == ("retry_wait" if retried else "failed")
    if not retried:
        assert "not tried again" in str(found.error)


async def test_what_is_named_is_repeated_though_it_would_not_be(make_bench: MakeBench) -> None:
    """An author who names a failure knows better than its kind."""

    async def work(context: TaskContext) -> TaskResult:
        raise TaskFailed("not there yet", "http_404", retryable=False)

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(task("a", retries=Retries(attempts=1, backoff=9), retry_on=("http:404",)))
    bench.dispatcher()
    await bench.settled()

    assert states(bench, run) == {"a": "retry_wait"}


def test_words_that_name_no_failure_are_refused() -> None:
    """Exit codes and statuses are checked, and so is the form of names."""
    assert [word for word in ("exit:256", "http:99", "two words", "", "exit:x") if word_problem(word) is None] == []
    assert [word for word in ("exit:0", "http:404", "timeout", "my.Error") if word_problem(word) is not None] == []


async def test_the_time_of_all_attempts_is_bounded(make_bench: MakeBench) -> None:
    """`timeout_all` stops the attempt under way, and starts none that would begin after it."""
    bench = make_bench(ScriptedEngine(work=Gate()))
    run = bench.add(task("a", timeout=40, timeout_all=60, retries=Retries(attempts=9, backoff=1, jitter=0)))
    bench.dispatcher()
    await bench.settled()
    (attempt,) = next(iter(bench.made[0]._active.values()))._attempts.values()
    assert attempt._context.deadline == pytest.approx(bench.clock.monotonic() + 40)

    slow = make_bench(ScriptedEngine(work=failing))
    late = slow.add(task("bad", timeout_all=60, retries=Retries(attempts=9, backoff=50, factor=1, jitter=0)))
    slow.dispatcher()
    await slow.settled()
    assert states(slow, late) == {"bad": "retry_wait"}
    await slow.clock.advance(51)

    found = slow.store.tasks(late.uid)["bad"]
    assert (str(found.state), found.attempt) == ("failed", 2)
    assert found.error == "boom; not tried again: its timeout_all of 60 s would be over"
    assert bench.state(run) is RunState.RUNNING


async def test_a_run_whose_time_is_up_fails(make_bench: MakeBench) -> None:
    """What runs is stopped, what waits does not start, and the run says why; a new holder knows as well."""
    bench = make_bench(ScriptedEngine(work=Gate()))
    definition = PipelineDef(name="p", tasks=(task("a"), task("b", "a")), timeout=100)
    run = bench.add(definition=definition)
    bench.dispatcher()
    await bench.clock.advance(99)
    assert states(bench, run) == {"a": "running", "b": "pending"}
    await bench.clock.advance(2)

    assert states(bench, run) == {"a": "cancelled", "b": "cancelled"}
    assert bench.store.runs[run.uid].error == "the run took longer than its timeout of 100 s"
    assert bench.state(run) is RunState.FAILED
    assert bench.engine.verbs().count("cancel") == 1


async def test_time_that_ran_out_between_two_holders_ends_the_run(make_bench: MakeBench) -> None:
    """A run that is taken over too late starts nothing more."""
    bench = make_bench(ScriptedEngine(work=Gate()))
    definition = PipelineDef(name="p", tasks=(task("a"), task("b", "a")), timeout=20)
    run = bench.add(definition=definition)
    (claimed,) = await bench.store.claim("dead", 1, 5.0, 1.0)
    assert claimed.run.uid == run.uid
    await bench.clock.advance(30)
    bench.dispatcher()
    await bench.settled()

    assert bench.state(run) is RunState.FAILED
    assert states(bench, run) == {"a": "cancelled", "b": "cancelled"}
    assert bench.engine.verbs().count("poll") == 0
