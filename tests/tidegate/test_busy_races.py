"""What is busy, under races: events come to two replicas while both claim and end runs; every mode keeps its word.

On SQLite and in memory the two are one, whose writes come in any order; on PostgreSQL they are two with a store each.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipelines.ports import Claimed
from pipelines.run import Run, RunState
from tests.support.works import Works, make_config, make_event, make_pipeline, make_trigger
from tests.tidegate.conftest import OpenWorks
from triggers.trigger import WhenBusy

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
EVENTS, LANES = 36, "abc"


@dataclass
class Race:
    """Two houses in a race; `going` are the runs under way by lane, `order` those that started, in order."""

    houses: tuple[Works, Works]
    dice: random.Random
    going: dict[str, set[str]] = field(default_factory=dict)
    order: dict[str, list[Run]] = field(default_factory=dict)
    most: int = 0
    done: bool = False

    async def send(self, house: Works, names: Sequence[str]) -> None:
        """Send events to one of them, a few at a time."""
        left = list(names)
        while left:
            few = [left.pop(0) for _ in range(min(len(left), self.dice.randint(1, 3)))]
            await house.put(*(make_event(name, subject=name[0]) for name in few))

    async def work(self, house: Works, holder: str) -> None:
        """Claim and end runs until nothing is left."""
        while True:
            claims = await house.claim(limit=self.dice.randint(1, 3), holder=holder)
            for claimed in claims:
                self._started(claimed)
            await asyncio.sleep(0)
            for claimed in self.dice.sample(claims, len(claims)):
                self._ended(claimed)
                await self._end(house, claimed)
            if self.done and not claims and not await house.all_runs(state="queued"):
                return

    def _started(self, claimed: Claimed) -> None:
        lane = claimed.run.lane or ""
        going = self.going.setdefault(lane, set())
        assert not (lane and going), f"{claimed.run.uid} overlaps {going} in lane {lane}"
        going.add(claimed.run.uid)
        self.most = max(self.most, sum(len(runs) for runs in self.going.values()))
        self.order.setdefault(lane, []).append(claimed.run)

    def _ended(self, claimed: Claimed) -> None:
        self.going[claimed.run.lane or ""].discard(claimed.run.uid)

    async def _end(self, house: Works, claimed: Claimed) -> None:
        """End a run as its holder would: one that was asked to stop is cancelled."""
        now = await house.store.read(lambda reader: reader.run(claimed.run.uid))
        assert now is not None
        state = RunState.CANCELLED if now.state is RunState.CANCELLING else RunState.SUCCEEDED
        assert await house.end(claimed, state)


async def race(works: OpenWorks, url: str, mode: WhenBusy, *, lane: bool = True, seed: int = 1) -> tuple[Race, Works]:
    """Let events come to two houses while both work; return it when all is done."""
    run = {"lane": "event.subject"} if lane else {}
    config = make_config([make_trigger(when_busy=mode, run=run)], [make_pipeline(concurrency=2)])
    one = await works(config)
    two = await works(config, shard="two") if url.startswith("postgres") else one
    race = Race((one, two), random.Random(seed))
    names = [f"{dice}{n:02}" for n in range(EVENTS // 3) for dice in LANES]
    half = [names[::2], names[1::2]]

    async def send_all() -> None:
        await asyncio.gather(*(race.send(house, mine) for house, mine in zip(race.houses, half, strict=True)))
        race.done = True

    await asyncio.gather(send_all(), race.work(one, "one"), race.work(two, "two"))
    return race, one


async def causes(house: Works) -> Counter[str]:
    """Return how many runs each event caused, by its id."""
    names = {row["uid"]: row["id"] for row in await house.events()}
    found: Counter[str] = Counter()
    for row in await house.all_runs():
        run = await house.store.read(lambda reader, uid=row["uid"]: reader.run(uid))  # type: ignore[misc]
        found.update(names[event] for event in run.events)
    return found


@EVERYWHERE
async def test_queue_runs_everything_once_and_in_order(works: OpenWorks, url: str) -> None:
    """Each event has its run; those of a lane go one at a time, in the order in which they came to be."""
    race_, house = await race(works, url, WhenBusy.QUEUE)
    ids = {row["id"] for row in await house.events()}
    found = await causes(house)

    assert set(found) == ids
    assert set(found.values()) == {1}
    assert race_.most <= 2
    for runs in race_.order.values():
        assert [run.seq for run in runs] == sorted(run.seq for run in runs)


@EVERYWHERE
@pytest.mark.parametrize("lane", [True, False])
async def test_coalesce_loses_no_event(works: OpenWorks, url: str, lane: bool) -> None:
    """Each event is a cause of exactly one run, of its own or of the one that waited, and never of one that ran."""
    _, house = await race(works, url, WhenBusy.COALESCE, lane=lane)
    ids = {row["id"] for row in await house.events()}
    found = await causes(house)
    outcomes = Counter(await house.outcomes())

    assert set(found) == ids
    assert set(found.values()) == {1}
    assert set(outcomes) <= {"fired", "coalesced"}
    assert outcomes.total() == len(ids)
    assert outcomes["fired"] == len(await house.all_runs())


@EVERYWHERE
@pytest.mark.parametrize("lane", [True, False])
async def test_skip_starts_only_where_there_is_room(works: OpenWorks, url: str, lane: bool) -> None:
    """Each event has its run or a decision that names the one in its way; no run ever waits behind another."""
    race_, house = await race(works, url, WhenBusy.SKIP, lane=lane)
    outcomes = Counter(await house.outcomes())
    skipped = await house.decisions(outcome="skipped_busy")
    runs = {run["uid"] for run in await house.all_runs()}

    assert outcomes.total() == len(await house.events())
    assert outcomes["fired"] == len(runs)
    assert race_.most <= 2
    assert all(row["run"] in runs for row in skipped)


@EVERYWHERE
@pytest.mark.parametrize("lane", [True, False])
async def test_cancel_running_lets_the_last_one_through(works: OpenWorks, url: str, lane: bool) -> None:
    """Each event has its run; of a lane the newest always succeeds, and none runs beside one that is on its way out."""
    race_, house = await race(works, url, WhenBusy.CANCEL_RUNNING, lane=lane)
    runs = await house.all_runs()
    states = Counter(run["state"] for run in runs)

    assert len(runs) == len(await house.events())
    assert set(states) <= {"succeeded", "cancelled"}
    assert race_.most <= 2
    for name in LANES if lane else ():
        assert [run["state"] for run in runs if run["lane"] == name][-1] == "succeeded"
    assert runs[-1]["state"] == "succeeded"


@EVERYWHERE
async def test_lanes_outlive_holders_that_die(works: OpenWorks, url: str) -> None:
    """Runs whose holder is gone keep their lane until another takes them over; then the lane goes on in its order."""
    config = make_config([make_trigger(run={"lane": "event.subject"})], [make_pipeline(concurrency=9)])
    one = await works(config)
    two = await works(config, shard="two") if url.startswith("postgres") else one
    await one.put(*(make_event(f"{lane}{n}", subject=lane) for n in range(3) for lane in LANES))
    order: list[tuple[str, Any]] = []
    held = await one.runs.claim("dead", 9, 0.0, 0.0)  # its lease is over at once: it has died
    for claimed in held:
        order.append((claimed.run.lane or "", claimed.run.seq))
    waits = await two.runs.claim("two", 9, 60.0, 3_600.0)  # and nobody may take over yet
    await two.restart()
    taken = await two.runs.claim("two", 9, 60.0, 0.0)
    stale = [await one.end(claimed) for claimed in held]
    for claimed in taken:
        assert await two.end(claimed)
    while claims := await two.claim():
        for claimed in claims:
            order.append((claimed.run.lane or "", claimed.run.seq))
            assert await two.end(claimed)

    assert len(held) == len(taken) == 3
    assert waits == []
    assert all(claimed.taken_over for claimed in taken)
    assert stale == [False] * 3
    for lane in LANES:
        mine = [seq for name, seq in order if name == lane]
        assert mine == sorted(mine)
        assert len(mine) == 3
