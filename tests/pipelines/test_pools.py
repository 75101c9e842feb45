"""Pools: limits across runs, shared fairly, given back whatever happens."""

from collections import Counter
from collections.abc import Callable, Mapping

from pipelines.hands import Doors
from pipelines.pools import Pools, Waiter
from pipelines.ports import TaskContext, TaskResult
from pipelines.run import RunState
from pipelines.task import Retries, TaskDef
from tests.support.dispatching import Bench
from tests.support.scripted_engine import Gate, ScriptedEngine

MakeBench = Callable[..., Bench]


def doors(limits: Mapping[str, int]) -> Doors:
    return Doors(random=lambda: 1.0, pools=lambda: limits)


def task(name: str, *pools: str) -> TaskDef:
    return TaskDef(name=name, engine="e", pools=pools)


async def test_a_pool_bounds_the_tasks_of_all_runs(make_bench: MakeBench) -> None:
    """Three runs of two tasks share two places; tasks outside the pool run beside them; in the end all have run."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    runs = [bench.add(task("a", "db"), task("b", "db"), task("free")) for _ in range(3)]
    bench.dispatcher(doors=doors({"db": 2}))
    await bench.settled()

    assert gate.waiting == 5
    under_way = [one.task for run in runs for one in bench.store.tasks(run.uid).values() if str(one.state) == "running"]
    assert Counter(under_way) == {"a": 2, "free": 3} or Counter(under_way) == {"a": 1, "b": 1, "free": 3}
    gate.open()
    await bench.settled()
    assert {bench.state(run) for run in runs} == {RunState.SUCCEEDED}
    assert bench.made[0]._hands.pools.used() == {}


async def test_the_pool_is_never_above_its_limit_and_no_run_starves(make_bench: MakeBench) -> None:
    """A run with forty slices and one with a single task take turns: the single one is among the first to run."""
    inside = 0
    most = 0
    order: list[str] = []

    async def work(context: TaskContext) -> TaskResult:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        order.append(context.task.name)
        await bench.clock.sleep(1)
        inside -= 1
        return TaskResult()

    bench = make_bench(ScriptedEngine(work=work))
    wide = bench.add(TaskDef(name="wide", engine="e", pools=("db",), partitions=list(range(40))))
    lone = bench.add(task("lone", "db"))
    bench.dispatcher(doors=doors({"db": 2}))
    for _ in range(60):
        await bench.clock.advance(1)

    assert most == 2
    assert order.index("lone") <= 4
    assert {bench.state(wide), bench.state(lone)} == {RunState.SUCCEEDED}
    assert len(order) == 41


async def test_room_is_given_back_when_an_attempt_fails_or_a_run_is_cancelled(make_bench: MakeBench) -> None:
    """Waiting for a retry holds no place, and a cancelled run neither holds one nor stands in the queue."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    first = bench.add(task("a", "db"))
    second = bench.add(task("a", "db"))
    third = bench.add(task("a", "db"))
    dispatcher = bench.dispatcher(doors=doors({"db": 1}))
    await bench.settled()
    assert gate.waiting == 1
    for run in (second, first):
        bench.store.request_cancel(run.uid, "no")
        dispatcher.cancel_hint(run.uid, "no")
        await bench.settled()

    assert [str(bench.state(run)) for run in (first, second, third)] == ["cancelled", "cancelled", "running"]
    assert gate.waiting == 1
    assert dispatcher._hands.pools.used() == {"db": 1}
    gate.open()
    await bench.settled()
    assert bench.state(third) is RunState.SUCCEEDED


async def test_a_lost_attempt_waits_for_room_like_any_other(make_bench: MakeBench) -> None:
    """What a dead holder left under way does not count twice, nor start past the limit."""
    gate = Gate()
    bench = make_bench(ScriptedEngine(work=gate))
    runs = [bench.add(TaskDef(name="a", engine="e", pools=("db",), retries=Retries(attempts=1))) for _ in range(2)]
    for run in runs:
        (claimed,) = await bench.store.claim("dead", 1, 5.0, 1.0)
        assert claimed.run.uid == run.uid
        assert str(claimed.tasks[0].state) == "ready"
    await bench.clock.advance(10)
    bench.dispatcher(doors=doors({"db": 1}))
    await bench.settled()

    assert gate.waiting == 1
    gate.open()
    await bench.settled()
    assert {bench.state(run) for run in runs} == {RunState.SUCCEEDED}


def test_turns_go_round() -> None:
    """Who has had a turn stands behind those who have not; what is offered and not taken is passed on."""
    pools = Pools(lambda: {"db": 1, "api": 1})
    a, b, c = Waiter(), Waiter(), Waiter()
    assert pools.take(["db"], a)
    assert not pools.take(["db"], a)
    assert not pools.take(["db"], b)
    assert not pools.take(["db", "api"], c)
    pools.give(["db"])
    assert a.turn.is_set()
    assert not b.turn.is_set()
    assert not pools.take(["db"], b)  # the place is offered to another
    pools.end_turn(a)
    assert b.turn.is_set()
    assert pools.take(["db"], b)
    pools.give(["db"])
    assert pools.take(["db", "api"], c)
    assert pools.used() == {"db": 1, "api": 1}
    assert pools.take(["unbounded"], a)


def test_a_higher_limit_is_offered_at_once() -> None:
    """When limits change, those who wait are told."""
    limits = {"db": 1}
    pools = Pools(lambda: limits)
    a, b = Waiter(), Waiter()
    assert pools.take(["db"], a)
    assert not pools.take(["db"], b)
    limits["db"] = 2
    pools.offer()
    assert b.turn.is_set()
    assert pools.take(["db"], b)
