"""Two holders, a store that comes and goes, holders that die: every run ends, and work is repeated only as promised."""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from pipelines.dispatcher import Dispatcher
from pipelines.errors import TaskFailed
from pipelines.pipeline import PipelineDef
from pipelines.ports import TaskContext, TaskResult
from pipelines.run import RunState, TaskState
from pipelines.task import Retries, TaskDef
from tests.support.dispatching import Bench
from tests.support.scripted_engine import ScriptedEngine

MakeBench = Callable[..., Bench]


def kill(dispatcher: Dispatcher) -> None:
    """End a holder as `kill -9` does: nothing of it runs any more, nothing is told to anybody."""
    for loop in dispatcher._loops:
        loop.cancel()
    for driver in [*dispatcher._active.values(), *dispatcher._going]:
        for thread in driver._threads:
            thread.cancel()


@pytest.mark.parametrize("survives", [False, True])
@pytest.mark.parametrize("seed", range(4))
async def test_runs_end_once_whatever_fails(make_bench: MakeBench, seed: int, *, survives: bool) -> None:
    """Outages, deaths and takeovers at random moments: all runs end, no task after its success, one start per key."""
    dice = random.Random(seed)
    bench = make_bench()
    done: Counter[tuple[str, str]] = Counter()

    async def work(context: TaskContext) -> TaskResult:
        await bench.clock.sleep(dice.choice([0.0, 0.5, 20.0]))
        if dice.random() < 0.2:
            raise TaskFailed("dice")
        done[context.run.uid, context.task.name] += 1
        return TaskResult(output=context.task.name)

    bench = make_bench(ScriptedEngine(work=work, survives=survives))
    retries = Retries(attempts=50, backoff=0.5, max_delay=4.0)
    definition = PipelineDef(
        name="p",
        tasks=(
            TaskDef(name="a", engine="e", retries=retries),
            TaskDef(name="b", engine="e", needs=("a",), retries=retries),
            TaskDef(name="c", engine="e", needs=("a",), retries=retries),
            TaskDef(name="d", engine="e", needs=("b", "c"), retries=retries),
        ),
    )
    holders = [bench.dispatcher(f"h{n}", lease=9.0, grace=2.0) for n in range(2)]
    runs = []
    for n in range(60):
        if n < 12:
            runs.append(bench.add(definition=definition, lane=dice.choice([None, "x"])))
            dice.choice(holders).wake()
        bench.store.away = dice.random() < 0.15
        if dice.random() < 0.1:
            victim = dice.randrange(2)
            kill(holders[victim])
            holders[victim] = bench.dispatcher(f"h{n}-{victim}", lease=9.0, grace=2.0)
        await bench.clock.advance(dice.choice([0.3, 2.0, 9.0]))
    bench.store.away = False
    for _ in range(200):
        if all(bench.state(run).final for run in runs):
            break
        await bench.clock.advance(5.0)

    assert {bench.state(run) for run in runs} == {RunState.SUCCEEDED}
    assert {task.state for run in runs for task in bench.store.tasks(run.uid).values()} == {TaskState.SUCCEEDED}
    assert set(done) == {(run.uid, task.name) for run in runs for task in definition.tasks}
    starts = Counter(key for verb, key in bench.engine.asked if verb == "start")
    assert max(starts.values()) == 1
    lost = sum(task.lost for run in runs for task in bench.store.tasks(run.uid).values())
    assert sum(done.values()) <= len(runs) * 4 + lost or survives
