import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pipelines.errors import TaskFailed
from pipelines.hands import Doors
from pipelines.pipeline import Param, PipelineDef
from pipelines.ports import TaskContext, TaskResult
from pipelines.run import RunState, TaskState
from pipelines.task import Retries, TaskDef
from tests.support.dispatching import Bench
from tests.support.scripted_engine import Gate, ScriptedEngine

MakeBench = Callable[..., Bench]


async def test_a_run_of_one_task_costs_one_claim_and_one_step(make_bench: MakeBench) -> None:
    """After the claim wrote the start, one advance writes the task's end and the run's end together."""
    bench = make_bench()
    run = bench.add()
    bench.dispatcher()
    await bench.settled()

    assert bench.state(run) is RunState.SUCCEEDED
    assert bench.store.calls == ["claim", "advance"]
    assert bench.observer.told == [("started", "p", "running"), ("task", "a", "succeeded"), ("run", "p", "succeeded")]
    assert bench.points == [
        "dispatch.claimed",
        "dispatch.before_start",
        "dispatch.after_start",
        "dispatch.before_advance",
        "dispatch.after_advance",
    ]


async def test_a_hint_starts_a_run_without_waiting_for_the_poll(make_bench: MakeBench) -> None:
    """`wake` after an ingest is enough; without it the poll finds the run."""
    bench = make_bench()
    dispatcher = bench.dispatcher(poll=1.0)
    await bench.settled()
    hinted = bench.add()
    dispatcher.wake()
    await bench.settled()
    assert bench.state(hinted) is RunState.SUCCEEDED

    silent = bench.add()
    await bench.settled()
    assert bench.state(silent) is RunState.QUEUED
    await bench.clock.advance(1.0)
    assert bench.state(silent) is RunState.SUCCEEDED


async def test_many_hints_become_few_claims(make_bench: MakeBench) -> None:
    """Hints that come while a claim is in flight are answered by one more claim."""
    bench = make_bench()
    dispatcher = bench.dispatcher()
    await bench.settled()
    bench.store.calls.clear()
    for _ in range(1000):
        dispatcher.wake()
    await bench.settled()

    assert bench.store.calls == ["claim"]


async def test_no_more_runs_are_held_than_allowed_and_ends_make_room(make_bench: MakeBench) -> None:
    """At most `runs` are under way; each end lets the next one in at once, oldest first."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    runs = [bench.add(definition=PipelineDef(name="p", tasks=(TaskDef(name="a", engine="e"),))) for _ in range(5)]
    dispatcher = bench.dispatcher(runs=2)
    await bench.settled()
    assert dispatcher.active == 2
    assert [bench.state(run) for run in runs[:3]] == [RunState.RUNNING, RunState.RUNNING, RunState.QUEUED]

    gate.open()
    await bench.settled()
    assert {bench.state(run) for run in runs} == {RunState.SUCCEEDED}
    await asyncio.wait_for(dispatcher.calm(), 1)


async def test_runs_of_a_lane_go_one_at_a_time_without_waiting_for_the_poll(make_bench: MakeBench) -> None:
    """The end of a run lets the next of its lane start at once, in arrival order."""
    bench = make_bench()
    runs = [bench.add(lane="acme", params={"n": n}) for n in range(4)]
    bench.dispatcher()
    await bench.settled()

    assert {bench.state(run) for run in runs} == {RunState.SUCCEEDED}
    assert [context.params["n"] for context in bench.engine.contexts] == [0, 1, 2, 3]


async def test_a_graph_runs_in_order_and_hands_outputs_on(make_bench: MakeBench) -> None:
    """Independent tasks overlap; a task sees what it needs, decoded."""
    gate = Gate()

    async def work(context: TaskContext) -> TaskResult:
        return await gate(context) if context.task.name in ("a", "b") else TaskResult(output=dict(context.upstream))

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(
        TaskDef(name="a", engine="e"), TaskDef(name="b", engine="e"), TaskDef(name="c", engine="e", needs=("a", "b"))
    )
    bench.dispatcher()
    await bench.settled()
    assert gate.waiting == 2
    gate.open()
    await bench.settled()

    assert bench.state(run) is RunState.SUCCEEDED
    assert bench.store.tasks(run.uid)["c"].output == '{"a":{"task":"a"},"b":{"task":"b"}}'


async def test_a_retry_waits_and_then_succeeds(make_bench: MakeBench) -> None:
    """A failed attempt is followed by another after its back-off, under another key; the run then succeeds."""
    tries: list[str] = []

    async def work(context: TaskContext) -> TaskResult:
        tries.append(str(context.task_run.engine_key))
        if len(tries) < 3:
            raise TaskFailed("flaky", "connection")
        return TaskResult()

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(TaskDef(name="a", engine="e", retries=Retries(attempts=2, backoff=4.0)))
    bench.dispatcher()
    await bench.settled()
    task = bench.store.tasks(run.uid)["a"]
    assert (task.state, task.error, task.error_kind) == (TaskState.RETRY_WAIT, "flaky", "connection")

    await bench.clock.advance(3.9)
    assert len(tries) == 1
    await bench.clock.advance(0.2)
    assert len(tries) == 2
    await bench.clock.advance(9.0)
    assert bench.state(run) is RunState.SUCCEEDED
    assert len(set(tries)) == 3


@pytest.mark.parametrize(
    ("output", "said"),
    [
        pytest.param(object(), "is no JSON", id="not-json"),
        pytest.param("x" * 300_000, "takes 300002 bytes", id="too-large"),
        pytest.param("\ud800", "is no JSON", id="lone-surrogate"),
    ],
)
async def test_an_output_that_cannot_be_kept_fails_its_task(make_bench: MakeBench, output: Any, said: str) -> None:
    """An output that is no JSON or too large fails the task with a sentence, without a retry."""

    async def work(context: TaskContext) -> TaskResult:
        return TaskResult(output=output)

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(TaskDef(name="a", engine="e", retries=Retries(attempts=3)))
    bench.dispatcher()
    await bench.settled()

    assert bench.state(run) is RunState.FAILED
    assert said in str(bench.store.runs[run.uid].error)


async def test_what_cannot_start_fails_with_a_sentence(make_bench: MakeBench) -> None:
    """An unknown engine, a wrong parameter and options that do not evaluate fail the run before any engine is asked."""

    def broken(options: Any) -> Any:
        raise ValueError("no such name: evnt")

    bench = make_bench()
    unknown = bench.add(TaskDef(name="a", engine="nowhere"))
    typed = PipelineDef(
        name="q", tasks=(TaskDef(name="a", engine="e"),), params={"day": Param(type="date", required=True)}
    )
    missing = bench.add(definition=typed)
    options = bench.add(TaskDef(name="a", engine="e", options={"x": "${{ evnt }}"}))
    bench.dispatcher(doors=Doors(compile=broken))
    await bench.settled()

    said = {run.uid: str(bench.store.runs[run.uid].error) for run in (unknown, missing, options)}
    assert "no engine 'nowhere' is configured" in said[unknown.uid]
    assert "parameter 'day' (date) is missing" in said[missing.uid]
    assert "cannot be evaluated: no such name: evnt" in said[options.uid]
    assert bench.engine.asked == []


async def test_options_are_evaluated_with_the_scope_of_tasks(make_bench: MakeBench) -> None:
    """Templates see params, partition, run, events and the outputs of the tasks above, and are compiled once."""
    compiled: list[Any] = []
    scopes: list[Any] = []

    def compile_options(options: Any) -> Any:
        compiled.append(options)

        def render(scope: Any) -> Any:
            scopes.append(scope)
            return {"said": scope["params"]["who"]}

        return render

    bench = make_bench()
    definition = PipelineDef(
        name="p",
        tasks=(
            TaskDef(name="a", engine="e"),
            TaskDef(name="b", engine="e", needs=("a",), options={"x": ["${{ events[0] + tasks.a.output }}"]}),
        ),
    )
    for who in ("me", "you"):
        bench.add(definition=definition, params={"who": who}, partition="2026", events=({"id": who},))
    bench.dispatcher(doors=Doors(compile=compile_options))
    await bench.settled()

    assert len(compiled) == 1
    assert [context.options for context in bench.engine.contexts if context.task.name == "b"] == [
        {"said": "me"},
        {"said": "you"},
    ]
    assert scopes[0]["events"] == [{"id": "me"}]
    assert scopes[0]["partition"] == "2026"
    assert scopes[0]["tasks"]["a"]["output"] == {"task": "a"}
    assert scopes[0]["run"]["pipeline"] == "p"


async def test_an_engine_with_a_defect_fails_the_task_only(make_bench: MakeBench) -> None:
    """An unexpected exception fails the attempt with its text; other runs go on."""

    async def work(context: TaskContext) -> TaskResult:
        if context.params.get("bad"):
            raise KeyError("oops")
        return TaskResult()

    bench = make_bench(ScriptedEngine(work=work))
    bad, good = bench.add(params={"bad": True}), bench.add()
    bench.dispatcher()
    await bench.settled()

    assert bench.state(good) is RunState.SUCCEEDED
    assert bench.store.tasks(bad.uid)["a"].error_kind == "engine_error"
    assert "KeyError" in str(bench.store.runs[bad.uid].error)


async def test_an_attempt_is_stopped_at_its_timeout(make_bench: MakeBench) -> None:
    """An attempt over its time is cancelled at its engine and fails as `timeout`, though the engine never answers."""
    bench = make_bench(ScriptedEngine(work=Gate()))
    run = bench.add(TaskDef(name="a", engine="e", timeout=0.01))
    bench.dispatcher()
    async with asyncio.timeout(5):
        while not bench.state(run).final:
            await asyncio.sleep(0.002)

    assert bench.store.tasks(run.uid)["a"].error_kind == "timeout"
    assert bench.engine.verbs() == ["start", "poll", "cancel"]


async def test_cancelling_stops_attempts_and_ends_the_run(make_bench: MakeBench) -> None:
    """A hint cancels at once: the engine is told, waiting tasks are cancelled, one step ends the run."""
    bench = make_bench(ScriptedEngine(work=Gate()))
    run = bench.add(TaskDef(name="a", engine="e"), TaskDef(name="b", engine="e", needs=("a",)))
    dispatcher = bench.dispatcher()
    await bench.settled()
    bench.store.request_cancel(run.uid, "not needed")
    dispatcher.cancel_hint(run.uid, "not needed")
    await bench.settled()

    assert bench.state(run) is RunState.CANCELLED
    assert {task.state for task in bench.store.tasks(run.uid).values()} == {TaskState.CANCELLED}
    assert bench.engine.verbs() == ["start", "poll", "cancel"]
    assert dispatcher.active == 0


async def test_a_request_to_cancel_arrives_with_the_next_renewal(make_bench: MakeBench) -> None:
    """Without a hint the renewal tells; a wait for a retry is cut short by it."""

    async def work(context: TaskContext) -> TaskResult:
        raise TaskFailed("no")

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(TaskDef(name="a", engine="e", retries=Retries(attempts=1, backoff=250.0)))
    bench.dispatcher(lease=30.0)
    await bench.settled()
    bench.store.request_cancel(run.uid, "enough")
    await bench.clock.advance(10.1)

    assert bench.state(run) is RunState.CANCELLED
    assert bench.store.runs[run.uid].error == "enough"


async def test_one_renewal_serves_all_runs(make_bench: MakeBench) -> None:
    """Every third of a lease one call renews all; the runs stay ours for as long as they take."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    runs = [bench.add(definition=PipelineDef(name=f"p{n}", tasks=(TaskDef(name="a", engine="e"),))) for n in range(10)]
    bench.dispatcher(lease=30.0)
    await bench.settled()
    await bench.clock.advance(300.5)
    assert bench.store.calls.count("renew") == 30
    gate.open()
    await bench.settled()

    assert {bench.state(run) for run in runs} == {RunState.SUCCEEDED}
    assert {bench.store.runs[run.uid].fence for run in runs} == {1}


async def test_logs_are_kept_with_the_step_and_before_it(make_bench: MakeBench) -> None:
    """Lines of a long attempt are readable while it runs; the rest comes with its end, in order."""
    gate = Gate()

    async def work(context: TaskContext) -> TaskResult:
        context.log("stdout", "first\n")
        context.log("stderr", "bad\0text\ud800")
        await gate(context)
        context.log("stdout", "last")
        return TaskResult()

    bench = make_bench(ScriptedEngine(work=work))
    bench.add()
    bench.dispatcher()
    await bench.settled()
    await bench.clock.advance(0.6)
    assert [(line.stream, line.text) for line in bench.store.logs] == [
        ("stdout", "first"),
        ("stderr", "bad\ufffdtext\ufffd"),
    ]
    gate.open()
    await bench.settled()

    assert [line.text for line in bench.store.logs][-1] == "last"
    assert bench.store.calls.count("log") == 1


async def test_an_outcome_that_cannot_be_stored_fails_the_task_visibly(make_bench: MakeBench) -> None:
    """When the store refuses a step for what is in it, the task fails with the reason instead of hanging."""
    bench = make_bench()
    bench.store.refuse = ValueError
    run = bench.add()
    bench.dispatcher()
    await bench.settled()

    assert bench.state(run) is RunState.FAILED
    assert bench.store.tasks(run.uid)["a"].error_kind == "not_stored"
