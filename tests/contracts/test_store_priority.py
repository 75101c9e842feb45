"""What every store promises about priorities: who goes first, that nobody waits for ever, and that lanes keep order."""

import random
from typing import Any

import pytest

from pipelines.run import HEAD_START, Run, RunState
from tests.support.stores import add_runs, claim, do, run, uids
from tidegate.store.records import RunUpdate
from tidegate.store.tx import Store


async def test_the_higher_priority_goes_first(store: Store) -> None:
    """Of runs that wait together the highest priority is claimed first; among equals the one that came first."""
    await add_runs(
        store, run("a"), run("b", priority=1), run("c", priority=9), run("d"), run("e", priority=9), run("f")
    )

    order = [uids(await claim(store, 1)) for _ in range(6)]

    assert order == [["c"], ["e"], ["b"], ["a"], ["d"], ["f"]]


async def test_priority_counts_among_pipelines(store: Store) -> None:
    """A pipeline with older runs does not take the last place from an urgent run of another."""
    await add_runs(store, run("old"), run("older", pipeline="r"), run("urgent", pipeline="q", priority=3))

    assert uids(await claim(store, 1)) == ["urgent"]
    assert uids(await claim(store, 2)) == ["old", "older"]


async def test_nobody_waits_for_ever(store: Store) -> None:
    """One level is worth so many places: a run is overtaken by no more later ones, however urgent they are."""
    await add_runs(store, run("low"))
    await add_runs(store, *(run(f"h{n:04}", priority=1) for n in range(HEAD_START + 5)))

    order = uids(await claim(store, HEAD_START + 1, concurrency={"p": 5_000}))
    left = uids(await claim(store, 10, concurrency={"p": 5_000}))

    assert "low" in order
    assert left == [f"h{n:04}" for n in range(HEAD_START, HEAD_START + 5)]


async def test_nothing_overtakes_in_its_lane(store: Store) -> None:
    """An urgent run waits for those before it in its lane, while urgent ones of other lanes and without one go."""
    await add_runs(
        store,
        run("n1", lane="n"),
        run("n2", lane="n", priority=9),
        run("s1", lane="s", priority=5),
        run("x", priority=5),
    )

    first = uids(await claim(store, 2))
    second = uids(await claim(store, 9))
    running = await do(store, lambda tx: tx.fences(["n1"]))
    await do(store, lambda tx: tx.update_runs([RunUpdate(run="n1", fence=running["n1"], state=RunState.SUCCEEDED)]))

    assert first == ["s1", "x"]
    assert second == ["n1"]
    assert uids(await claim(store, 9)) == ["n2"]


async def test_an_urgent_run_is_found_behind_many(store: Store) -> None:
    """Also behind more waiting runs of lanes than one claim looks at."""
    await add_runs(store, *(run(f"r{n:04}", lane=f"l{n}") for n in range(700)))
    await add_runs(store, run("laned", lane="z", priority=1), run("free", priority=2))

    assert uids(await claim(store, 1)) == ["free"]
    assert uids(await claim(store, 1)) == ["laned"]


async def test_the_priority_stays_with_the_run(store: Store) -> None:
    """It is read as it was written."""
    await add_runs(store, run("a", priority=7))
    found = await store.read(lambda reader: reader.run("a"))

    assert found is not None
    assert found.priority == 7


@pytest.mark.parametrize("seed", range(5))
async def test_every_store_chooses_alike(store: Store, seed: int) -> None:
    """Random runs, lanes and room: at each claim exactly those that the plainest reading of the rules names."""
    dice = random.Random(seed)
    waiting = [
        run(
            f"r{n:02}",
            pipeline=dice.choice("pq"),
            lane=dice.choice([None, None, "a", "b"]),
            priority=dice.choice([0, 0, 1, 9]),
        )
        for n in range(14)
    ]
    await add_runs(store, *waiting)
    room = {"p": dice.randint(1, 3), "q": dice.randint(1, 3)}
    active: list[Run] = []
    while waiting or active:
        limit = dice.randint(1, 4)
        expected = _chosen(waiting, active, limit, room)
        claimed = uids(await claim(store, limit, concurrency=room))

        assert sorted(claimed) == sorted(one.uid for one in expected)
        active += expected
        waiting = [one for one in waiting if one not in expected]
        done = active.pop(dice.randrange(len(active))) if active else None
        if done is not None:
            await _end(store, done)


async def _end(store: Store, done: Run) -> None:
    def end(tx: Any) -> None:
        fence = tx.fences([done.uid])[done.uid]
        tx.update_runs([RunUpdate(run=done.uid, fence=fence, state=RunState.SUCCEEDED)])

    await do(store, end)


def _chosen(waiting: list[Run], active: list[Run], limit: int, room: dict[str, int]) -> list[Run]:
    """Choose by reading the rules aloud: the first by rank that may start, again and again."""
    chosen: list[Run] = []
    order = {one.uid: n for n, one in enumerate(waiting)}
    for one in sorted(waiting, key=lambda one: (-one.priority, order[one.uid])):  # all came within one head start
        under_way = [*active, *chosen]
        before = [other for other in waiting if other.lane and order[other.uid] < order[one.uid]]
        same = [other for other in (*before, *under_way) if (other.pipeline, other.lane) == (one.pipeline, one.lane)]
        full = sum(other.pipeline == one.pipeline for other in under_way) >= room[one.pipeline]
        if len(chosen) < limit and not full and not (one.lane and same):
            chosen.append(one)
    return chosen
