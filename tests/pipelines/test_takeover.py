import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from pipelines.errors import Ambiguous, TaskFailed
from pipelines.ports import TaskContext, TaskResult
from pipelines.run import Run, RunState, TaskState
from pipelines.task import Retries, TaskDef
from tests.support.dispatching import Bench
from tests.support.scripted_engine import Gate, ScriptedEngine

MakeBench = Callable[..., Bench]
LEASE, GRACE = 30.0, 5.0


async def after_a_death(bench: Bench) -> None:
    """Start a holder, let it die in the middle of an attempt, and let another take over."""
    first = bench.dispatcher("first")
    await bench.settled()
    for loop in first._loops:
        loop.cancel()
    for driver in first._active.values():
        for thread in driver._threads:
            thread.cancel()
    await bench.settled()
    bench.dispatcher("second")
    await bench.clock.advance(LEASE + GRACE + 1.1)


async def test_work_that_died_with_its_holder_goes_again_as_a_new_attempt(make_bench: MakeBench) -> None:
    """The lost attempt counts as no failure and its successor has another key."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    run = bench.add()
    await after_a_death(bench)
    gate.open()
    await bench.settled()

    task = bench.store.tasks(run.uid)["a"]
    assert bench.state(run) is RunState.SUCCEEDED
    assert (task.attempt, task.failures, task.lost) == (2, 0, 1)
    assert bench.store.runs[run.uid].fence == 2
    assert len({key for verb, key in bench.engine.asked if verb == "start"}) == 2


async def test_work_that_survives_is_attached_to_and_never_started_twice(make_bench: MakeBench) -> None:
    """The new holder goes on under the same key and handle."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate, survives=True))
    run = bench.add()
    await after_a_death(bench)
    gate.open()
    await bench.settled()

    task = bench.store.tasks(run.uid)["a"]
    assert bench.state(run) is RunState.SUCCEEDED
    assert bench.engine.verbs().count("start") == 1
    assert (task.attempt, task.lost, task.handle) == (1, 0, f"handle-{task.engine_key}")


async def test_work_whose_handle_was_never_written_is_looked_for_first(make_bench: MakeBench) -> None:
    """Killed between the start and its record, the work is found by its key, or started under that key."""
    for found in (True, False):
        bench = make_bench(ScriptedEngine(survives=True))
        run = bench.add()
        (claimed,) = await bench.store.claim("dead", 10, LEASE, GRACE)
        key = claimed.tasks[0].engine_key or ""
        if found:
            bench.engine.started[key] = "there"
        await bench.clock.advance(LEASE + GRACE + 1)
        bench.dispatcher("second")
        await bench.settled()

        assert bench.state(run) is RunState.SUCCEEDED
        assert bench.engine.verbs() == (["find", "poll"] if found else ["find", "start", "poll"])
        assert {asked for _, asked in bench.engine.asked} == {key}


async def test_work_that_dedupes_is_started_again_under_its_key(make_bench: MakeBench) -> None:
    """The receiver sees the same idempotency key twice, and only after a takeover."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate, dedupes=True))
    run = bench.add()
    await after_a_death(bench)
    gate.open()
    await bench.settled()

    keys = [key for verb, key in bench.engine.asked if verb == "start"]
    assert bench.state(run) is RunState.SUCCEEDED
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_a_cancelled_run_whose_holder_died_is_stopped_by_the_next(make_bench: MakeBench) -> None:
    """Work that survives is looked for and cancelled; nothing is started."""
    bench = make_bench(ScriptedEngine(survives=True))
    run = bench.add(TaskDef(name="a", engine="e"), TaskDef(name="b", engine="e", needs=("a",)))
    (claimed,) = await bench.store.claim("dead", 10, LEASE, GRACE)
    bench.engine.started[claimed.tasks[0].engine_key or ""] = "there"
    bench.store.request_cancel(run.uid, "enough")
    await bench.clock.advance(LEASE + GRACE + 1)
    bench.dispatcher("second")
    await bench.settled()

    assert bench.state(run) is RunState.CANCELLED
    assert bench.engine.verbs() == ["find", "cancel"]


async def test_a_wait_for_a_retry_outlives_its_holder(make_bench: MakeBench) -> None:
    """The retry's moment is durable: the next holder waits for the rest of it."""
    tries = 0

    async def work(context: TaskContext) -> TaskResult:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise TaskFailed("no")
        return TaskResult()

    bench = make_bench(ScriptedEngine(work=work))
    run = bench.add(TaskDef(name="a", engine="e", retries=Retries(attempts=1, backoff=100.0)))
    await after_a_death(bench)
    await bench.clock.advance(50)
    assert tries == 1
    await bench.clock.advance(20)

    assert tries == 2
    assert bench.state(run) is RunState.SUCCEEDED


async def test_a_holder_whose_lease_was_taken_stops_and_writes_nothing(make_bench: MakeBench) -> None:
    """Told by its renewal that another holds the run, it stops the local work and lets go."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    run = bench.add()
    first = bench.dispatcher("first")
    await bench.settled()
    bench.store.runs[run.uid] = _lapsed(bench, run.uid)
    (claimed,) = await bench.store.claim("thief", 10, LEASE, GRACE)
    assert claimed.taken_over
    await bench.clock.advance(11)

    assert first.active == 0
    assert bench.engine.verbs() == ["start", "poll", "cancel"]
    assert "advance" not in bench.store.calls
    assert bench.store.tasks(run.uid)["a"].attempt == 2


async def test_the_fence_refuses_a_late_result(make_bench: MakeBench) -> None:
    """A paused holder that comes back with a result changes nothing, and knows it."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    run = bench.add()
    first = bench.dispatcher("first")
    await bench.settled()
    bench.store.runs[run.uid] = _lapsed(bench, run.uid)
    await bench.store.claim("thief", 10, LEASE, GRACE)
    gate.open()
    await bench.settled()

    assert first.active == 0
    assert bench.state(run) is RunState.RUNNING
    assert bench.store.tasks(run.uid)["a"].state is TaskState.RUNNING
    assert ("task", "a", "succeeded") not in bench.observer.told


async def test_work_whose_lease_could_not_be_renewed_is_stopped_in_time(make_bench: MakeBench) -> None:
    """With the store away, local work ends with the lease, before another holder may begin; later it goes again."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    run = bench.add()
    bench.dispatcher("first")
    await bench.settled()
    bench.store.away = True
    await bench.clock.advance(LEASE - 2)
    assert gate.waiting == 1
    await bench.clock.advance(3.5)
    assert gate.waiting == 0
    assert bench.engine.verbs()[-1] == "cancel"

    bench.store.away = False
    gate.open()
    await bench.clock.advance(GRACE + 3)
    assert bench.state(run) is RunState.SUCCEEDED
    assert bench.store.tasks(run.uid)["a"].lost == 1


async def test_a_result_waits_for_the_store_to_come_back(make_bench: MakeBench) -> None:
    """A success that the store cannot take is written when it can, even after the lease; nothing is done twice."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    run = bench.add()
    bench.dispatcher("first")
    await bench.settled()
    bench.store.away = True
    gate.open()
    await bench.clock.advance(60)
    assert bench.state(run) is RunState.RUNNING
    bench.store.away = False
    await bench.clock.advance(2.5)

    assert bench.state(run) is RunState.SUCCEEDED
    assert bench.engine.verbs().count("start") == 1


@pytest.mark.parametrize("survives", [False, True])
async def test_an_orderly_stop_hands_runs_over_at_once(make_bench: MakeBench, *, survives: bool) -> None:
    """What does not end in time is stopped, or left alone where it survives; another holder goes on without a wait."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate, survives=survives))
    run = bench.add()
    first = bench.dispatcher("first")
    await bench.settled()
    await first.stop(patience=0.01)
    assert ("cancel" in bench.engine.verbs()) is not survives
    bench.dispatcher("second")
    await bench.settled()
    gate.open()
    await bench.settled()

    assert bench.state(run) is RunState.SUCCEEDED
    assert bench.engine.verbs().count("start") == (1 if survives else 2)


async def test_a_soft_stop_lets_attempts_end_and_starts_nothing_more(make_bench: MakeBench) -> None:
    """The attempt under way ends and is written; the next task stays ready for the next holder; waits end at once."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    run = bench.add(TaskDef(name="a", engine="e"), TaskDef(name="b", engine="e", needs=("a",)))
    first = bench.dispatcher("first")
    await bench.settled()
    stopping = asyncio.create_task(first.stop(patience=30))
    await bench.settled()
    late = bench.add()
    first.wake()
    gate.open()
    await stopping

    tasks = bench.store.tasks(run.uid)
    assert (tasks["a"].state, tasks["b"].state) == (TaskState.SUCCEEDED, TaskState.READY)
    assert bench.state(late) is RunState.QUEUED
    assert bench.store.runs[run.uid].holder is None


async def test_ambiguous_answers_of_an_engine_that_can_be_asked_are_cleared_up(make_bench: MakeBench) -> None:
    """A start that may have happened is looked up; found, it is followed and not started again."""

    def lost_answer(context: TaskContext) -> None:
        bench.engine.started[context.task_run.engine_key or ""] = "there"
        raise Ambiguous("reset")

    bench = make_bench(ScriptedEngine(survives=True, on_start=lost_answer))
    run = bench.add()
    bench.dispatcher()
    await bench.settled()
    await bench.clock.advance(1)

    assert bench.state(run) is RunState.SUCCEEDED
    assert bench.engine.verbs() == ["start", "find", "poll"]


async def test_an_engine_that_cannot_be_reached_is_asked_until_it_answers(make_bench: MakeBench) -> None:
    """While nobody knows, nothing is started."""
    answers = iter([Ambiguous("down")] * 6)

    def unreachable(context: TaskContext) -> None:
        problem = next(answers, None)
        if problem is not None:
            raise problem

    bench = make_bench(ScriptedEngine(survives=True, on_find=unreachable))
    run = bench.add()
    (claimed,) = await bench.store.claim("dead", 10, LEASE, GRACE)
    bench.engine.started[claimed.tasks[0].engine_key or ""] = "there"
    await bench.clock.advance(LEASE + GRACE + 1)
    bench.dispatcher("second")
    await bench.clock.advance(100)

    assert bench.state(run) is RunState.SUCCEEDED
    assert "start" not in bench.engine.verbs()


async def test_ambiguous_answers_of_a_receiver_that_dedupes_are_repeated_a_few_times(make_bench: MakeBench) -> None:
    """The same key is sent again with a back-off; if nobody ever answers, the attempt fails as `ambiguous`."""

    async def gateway(context: TaskContext) -> TaskResult:
        raise Ambiguous("502")

    bench = make_bench(ScriptedEngine(work=gateway, dedupes=True))
    run = bench.add()
    bench.dispatcher()
    await bench.clock.advance(60)

    assert bench.state(run) is RunState.FAILED
    assert bench.store.tasks(run.uid)["a"].error_kind == "ambiguous"
    assert bench.engine.verbs().count("start") == 6
    assert len({key for _, key in bench.engine.asked}) == 1


async def test_an_ambiguous_answer_of_an_engine_with_neither_is_a_failure(make_bench: MakeBench) -> None:
    """Where nothing can be asked and nothing drops repeats, the attempt fails as `ambiguous` and retries decide."""

    def unknown(context: TaskContext) -> None:
        raise Ambiguous("reset")

    bench = make_bench(ScriptedEngine(on_start=unknown))
    run = bench.add()
    bench.dispatcher()
    await bench.settled()

    assert bench.state(run) is RunState.FAILED
    assert bench.engine.verbs() == ["start"]
    assert bench.store.tasks(run.uid)["a"].error_kind == "ambiguous"


def _lapsed(bench: Bench, uid: str) -> Run:
    """Return the run with a lease that ended long ago."""
    return replace(bench.store.runs[uid], lease_until=bench.clock.now() - 3600_000_000)
