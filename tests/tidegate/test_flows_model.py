"""The whole way, events in and runs out, against the model: over real stores, with repeats, restarts and replicas."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.run import Run
from tests.support.flow_cases import Case, cases
from tests.support.flow_model import STEP, Came, FlowModel, Looked, Story, Together
from tests.support.join_works import Bells
from tests.support.postgres import wipe
from tests.support.works import T0, Works, make_config, make_event, make_trigger, open_works
from tests.tidegate.conftest import OpenWorks
from triggers.control import Active, Batch, Control, Debounce, Over, Throttle, Window

ON_POSTGRESQL = pytest.mark.parametrize(
    "url", [pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])], indirect=True
)
WHAT = st.sampled_from(["a", "b", "a", "look", "restart", "again"])
STEPS = st.lists(st.tuples(WHAT, st.integers(-2, 9), st.integers(0, 5)), max_size=18)
SIZES = st.lists(st.integers(1, 4), min_size=18, max_size=18)
Steps = Sequence[tuple[str, int, int]]
WAITS = ("buffered", "held")


def config_of(control: Control, **fields: Any) -> Any:
    return make_config([make_trigger("t", control=control, **fields)])


def event(id: str, subject: str, at: int, size: int = 0) -> Any:
    return make_event(id, subject=subject, received_at=at, data=b"x" * size)


async def live(house: Works, steps: Steps, sizes: Sequence[int], *others: Works, looks: bool = True) -> list[Any]:
    """Play the steps, each bunch on one of the replicas; repeats come as a source sends them. Returns the history."""
    now, bunch, room, taken = T0, list[Came](), iter(sizes), list[Came]()
    dice, history = random.Random(len(steps)), list[Together | Looked]()

    async def put() -> None:
        if bunch:
            target = dice.choice([house, *others])
            await target.put(*(event(one.event, one.key, one.at, one.size) for one in bunch))
            history.append(Together(tuple(bunch), 0))
            bunch.clear()

    for number, (what, moves, size) in enumerate(steps):
        now += moves * STEP
        if what in ("a", "b"):
            bunch.append(Came(f"{number:02}", what, size, now))
            taken.append(bunch[-1])
            if len(bunch) >= next(room):
                await put()
            continue
        await put()
        if what == "again" and taken:
            one = dice.choice(taken)
            await house.put(event(one.event, one.key, one.at, one.size))
        elif what == "look" and looks:
            house.clock.at = now
            await Bells(house).ring()
            history.append(Looked(now))
        elif what == "restart" and not others:
            await house.restart()
    await put()
    return history


async def run_of(house: Works, uid: str) -> Run:
    run = await house.store.read(lambda reader: reader.run(uid))
    assert run is not None
    return run


async def story_of(house: Works) -> Story:
    """Read from the ledger what was concluded."""
    story = Story()
    rows = {row["uid"]: row for row in await house.events()}
    for run in await house.all_runs():
        whole = await run_of(house, run["uid"])
        names = tuple(rows[uid]["id"] for uid in whole.events)
        story.fired.setdefault(rows[whole.events[0]]["subject"], []).append(names)
    for row in await house.decisions():
        if row["outcome"] in WAITS:
            story.waits |= {(row["outcome"], rows[uid]["id"]) for uid in row["events"]}
    for (_, outcome), n in (await house.counts("trigger")).items():
        if outcome not in (*WAITS, "fired"):
            story.ended[outcome] += n
    return story


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases(8), STEPS, SIZES)
@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_flows_live_through_anything(
    tmp_path_factory: pytest.TempPathFactory, kind: str, case: Case, steps: Steps, sizes: list[int]
) -> None:
    """Same runs and same decisions as the model, however events are bunched, repeated and restarted between."""
    url = "memory:" if kind == "memory" else f"sqlite:///{tmp_path_factory.mktemp('flows') / 'store.db'}"

    async def whole() -> tuple[Story, Story]:
        async with open_works(url, config_of(case.control)) as house:
            history = await live(house, steps, sizes)
            return await story_of(house), case.model.tell(history)

    told, expected = asyncio.run(whole())

    assert told.fired == expected.fired
    assert told.ended == expected.ended
    assert told.waits == expected.waits


@ON_POSTGRESQL
async def test_two_replicas_tell_one_story(works: OpenWorks, url: str) -> None:
    """On PostgreSQL, with events going now to one replica and now to the other: what the model says."""
    rate, batch = (2, 7 * STEP, 2), (3, 9, 8 * STEP)
    throttle = Throttle(events=rate[0], per=rate[1], burst=rate[2], by="event.subject", over=Over.HOLD)
    control = Control(throttle=throttle, gather=Batch(count=3, bytes=9, within=8 * STEP, by="event.subject"))
    model = FlowModel(rate=rate, rate_holds=True, batch=batch)
    one, two = await works(config_of(control)), await works(config_of(control), shard="two")
    dice = random.Random(7)
    for _ in range(10):
        await asyncio.to_thread(wipe, url)
        steps = [(dice.choice("ab"), dice.randint(-2, 9), dice.randint(0, 5)) for _ in range(25)]
        history = await live(one, steps, [dice.randint(1, 4) for _ in steps], two, looks=False)
        told, expected = await story_of(one), model.tell(history)

        assert (told.fired, told.ended, told.waits) == (expected.fired, expected.ended, expected.waits)


@ON_POSTGRESQL
@pytest.mark.parametrize("by", [None, "event.subject"])
async def test_replicas_that_race_on_one_batch_put_each_event_into_one_run(works: OpenWorks, by: str | None) -> None:
    """Two replicas get every event of every key at once, in opposite orders, while timers ring on both: each event is
    in exactly one run, and no run has more events than allowed."""
    control = Control(gather=Batch(count=7, within=STEP // 100, by=by))
    one, two = await works(config_of(control)), await works(config_of(control), shard="two")
    names = [(f"{key}{n:03}", key) for n in range(40) for key in "abc"]
    at = time.time_ns() // 1000

    async def put(house: Works, mine: list[tuple[str, str]]) -> None:
        await asyncio.gather(*(house.put(event(name, key, at + n)) for n, (name, key) in enumerate(mine)))

    rings = [Bells(house).ring() for house in (one, two) for _ in range(4)]
    await asyncio.gather(put(one, names), put(two, names[::-1]), *rings)
    while await one.outcomes(outcome="buffered"):
        await asyncio.gather(Bells(one).ring(), Bells(two).ring())
        await asyncio.sleep(0.02)
    runs = [await run_of(one, run["uid"]) for run in await one.all_runs()]
    events = Counter(uid for run in runs for uid in run.events)

    assert len(events) == len(names) == len(await one.events())
    assert set(events.values()) == {1}
    assert max(len(run.events) for run in runs) <= 7
    assert set(await one.outcomes()) == {"fired"}


@ON_POSTGRESQL
@pytest.mark.parametrize("gate", ["throttle", "active"])
async def test_replicas_that_race_at_a_gate_keep_its_order(works: OpenWorks, gate: str) -> None:
    """Events of one key come to two replicas while its line is worked off on both: none is lost, none goes twice, and
    those that stood in line go in the order in which they joined it."""
    now = time.time_ns() // 1000
    ever = Active(windows=(Window(),), outside=Over.HOLD)
    throttle = Throttle(events=1, per=STEP // 50, burst=1, over=Over.HOLD)
    control = Control(throttle=throttle) if gate == "throttle" else Control(active=ever)
    one, two = await works(config_of(control)), await works(config_of(control), shard="two")

    async def put(house: Works, name: str) -> None:
        for n in range(12):
            await house.put(event(f"{name}{n:02}", name, now))

    async def ring(house: Works) -> None:
        for _ in range(25):
            await Bells(house).ring()
            await asyncio.sleep(0.002)

    await asyncio.gather(put(one, "a"), put(two, "b"), ring(one), ring(two))
    while await one.outcomes(outcome="held"):
        await asyncio.gather(Bells(one).ring(), Bells(two).ring())
        await asyncio.sleep(0.02)
    names = {row["uid"]: row["id"] for row in await one.events()}
    fired = [names[row["events"][0]] for row in await one.decisions(outcome="fired")]
    runs = await one.all_runs()

    assert Counter(fired) == Counter(f"{key}{n:02}" for key in "ab" for n in range(12))
    assert len(runs) == 24
    started = [names[(await run_of(one, run["uid"])).events[0]] for run in runs]
    for key in "ab":
        order = [name for name in started if name[0] == key]
        assert order == sorted(order)


@ON_POSTGRESQL
async def test_a_key_that_is_quiet_goes_once_on_two_replicas(works: OpenWorks) -> None:
    """Timers of the same keys ring on both at once: one run for each."""
    control = Control(gather=Debounce(quiet=STEP // 10, max_wait=STEP, by="event.subject"))
    one, two = await works(config_of(control)), await works(config_of(control), shard="two")
    at = time.time_ns() // 1000 - STEP
    await asyncio.gather(*(one.put(event(f"{n}", f"k{n % 30}", at)) for n in range(60)))
    while await one.outcomes(outcome="buffered"):
        await asyncio.gather(*(Bells(house).ring() for house in (one, two, one, two)))
    runs = await one.all_runs()

    assert len(runs) == 30
    assert await one.outcomes() == ["fired"] * 30
