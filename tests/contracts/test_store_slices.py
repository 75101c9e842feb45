"""What every store promises about the slices of tasks that fan out."""

from dataclasses import replace

from pipelines.run import TaskState
from tests.support.stores import do, run, task
from tidegate.store.tx import Store


async def test_slices_are_listed_beside_their_task(store: Store) -> None:
    """The task stands among the run's tasks; its slices are counted by state and listed by page, in their order."""
    fan = task("tsk_fan", "run_1", task="fan")
    states = [TaskState.SUCCEEDED, TaskState.FAILED, TaskState.READY, TaskState.FAILED, TaskState.FAILED]
    slices = [
        task(
            f"tsk_{9 - n}", "run_1", task="fan", partition=f"p{n}", state=state, item=f'{{"n":{n}}}', first_started_at=n
        )
        for n, state in enumerate(states)
    ]
    other = task("tsk_other", "run_1", task="other", partition="x")
    await do(store, lambda tx: tx.insert_runs([run("run_1"), run("run_2")], [fan, task("tsk_2", "run_2")]))
    await do(store, lambda tx: tx.upsert_tasks([*slices, other]))
    await do(store, lambda tx: tx.upsert_tasks([replace(slices[2], state=TaskState.RUNNING, attempt=1)]))

    assert await store.read(lambda reader: list(reader.nodes("run_1"))) == [fan]
    counts = await store.read(lambda reader: reader.slice_counts("run_1"))
    assert counts == {"fan": {"succeeded": 1, "failed": 3, "running": 1}, "other": {"pending": 1}}
    first, cursor = await store.read(lambda reader: reader.slices("run_1", task="fan", limit=3))
    rest, end = await store.read(lambda reader: reader.slices("run_1", task="fan", limit=3, cursor=cursor))
    assert [one.partition for one in (*first, *rest)] == ["p0", "p1", "p2", "p3", "p4"]
    assert end is None
    assert first[0] == slices[0]
    failed, _ = await store.read(lambda reader: reader.slices("run_1", state="failed", limit=50))
    assert [one.partition for one in failed] == ["p1", "p3", "p4"]
    assert await store.read(lambda reader: reader.slices("run_2", limit=5)) == ([], None)


async def test_ten_thousand_slices_are_one_step(store: Store) -> None:
    """A fan-out is inserted by one transaction, and comes back in the order of its elements."""
    await do(store, lambda tx: tx.insert_runs([run("run_1")], [task("tsk_fan", "run_1", task="fan")]))
    slices = [
        task(f"tsk_{(n * 7919) % 10_000:05}", "run_1", task="fan", partition=f"p{n}", item=f'"{n}"')
        for n in range(10_000)
    ]
    await do(store, lambda tx: tx.upsert_tasks(slices))

    found = await do(store, lambda tx: tx.get_tasks("run_1"))
    assert [one.partition for one in found[1:]] == [f"p{n}" for n in range(10_000)]
