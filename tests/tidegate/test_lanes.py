"""Lanes with real dispatchers over real stores: runs of one never overlap or overtake, also when a holder dies."""

import asyncio
import itertools
import random
from dataclasses import dataclass, field

import pytest

from pipelines.dispatcher import Dispatcher
from pipelines.hands import DispatchSettings, Doors
from pipelines.ports import TaskContext, TaskResult
from sensors.clock import SystemClock
from tests.pipelines.test_dispatch_chaos import kill
from tests.support.scripted_engine import NotingObserver, ScriptedEngine
from tests.support.works import Works, make_config, make_event, make_pipeline, make_trigger
from tests.tidegate.conftest import OpenWorks

BOTH = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])], indirect=True
)
LANES, EACH = "abcd", 6
SETTINGS = DispatchSettings(lease=0.9, grace=0.3, runs=3, poll=0.05)


@dataclass
class Diary:
    """What the engine saw: the attempts of each lane, as (run's place, begins, ends)."""

    dice: random.Random
    clock: SystemClock = field(default_factory=SystemClock)
    seen: dict[str, list[list[float]]] = field(default_factory=dict)

    async def work(self, context: TaskContext) -> TaskResult:
        """Work for a moment; an attempt that is torn away ends where it was torn."""
        entry = [float(context.run.seq), self.clock.monotonic(), 0.0]
        self.seen.setdefault(context.run.lane or "", []).append(entry)
        try:
            for _ in range(self.dice.randint(1, 30)):
                await asyncio.sleep(0)
            await self.clock.sleep(self.dice.choice([0.0, 0.01, 0.05]))
        finally:
            entry[2] = self.clock.monotonic()
        return TaskResult(output="done")


def hold(house: Works, engine: ScriptedEngine, name: str) -> Dispatcher:
    """Start a holder over a house's runs."""
    holder = Dispatcher(name, house.runs, {"e": engine}, NotingObserver(), SystemClock(), SETTINGS, Doors())
    holder.start()
    return holder


@BOTH
async def test_lanes_keep_their_order_through_the_death_of_a_holder(works: OpenWorks, url: str) -> None:
    """Two holders work on the same lanes while events come to both; one dies with runs in hand and another comes: of
    each lane one run goes at a time, and none begins before those that came before it have ended."""
    clock = SystemClock()
    config = make_config([make_trigger(run={"lane": "event.subject"})], [make_pipeline(concurrency=16)])
    one = await works(config, clock=clock)
    two = await works(config, clock=clock, shard="two") if url.startswith("postgres") else one
    diary = Diary(random.Random(3))
    engine = ScriptedEngine(work=diary.work)
    holders = [hold(one, engine, "one"), hold(two, engine, "two")]
    for n in range(EACH):
        for house, lanes in ((one, LANES[:2]), (two, LANES[2:])):
            await house.put(*(make_event(f"{lane}{n}", subject=lane) for lane in lanes))
        if n == EACH // 2:
            while holders[0].active == 0:
                await asyncio.sleep(0.005)
            kill(holders[0])
            holders.append(hold(two, engine, "three"))
    while any(run["state"] != "succeeded" for run in await one.all_runs()):
        await asyncio.sleep(0.05)
    for holder in holders[1:]:
        await holder.stop()
    runs = await one.all_runs()

    assert len(runs) == len(LANES) * EACH
    assert sorted(diary.seen) == list(LANES)
    for attempts in diary.seen.values():
        places = [place for place, _, _ in attempts]
        assert places == sorted(places)
        assert len(set(places)) == EACH
        for (_, _, ended), (_, begins, _) in itertools.pairwise(attempts):
            assert ended <= begins
