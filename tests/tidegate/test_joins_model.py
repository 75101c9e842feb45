"""The whole way, events in and runs out, against the model: over real stores, with repeats, restarts and replicas."""

import asyncio
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.join_model import Came, CountModel, JoinModel, Looked, Story
from tests.support.join_works import Bells, came, part, waiting_for
from tests.support.postgres import wipe
from tests.support.works import T0, Works, make_config, open_works
from tests.tidegate.conftest import OpenWorks
from triggers.pattern import Count, Join, Late

STEP = 1_000_000
NAMES = ("a", "b", "c")
ON_POSTGRESQL = pytest.mark.parametrize(
    "url", [pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])], indirect=True
)
WHAT = st.sampled_from([*NAMES, *NAMES, *NAMES, "look", "restart", "again"])
STEPS = st.lists(st.tuples(WHAT, st.sampled_from(["k", "k", "m"]), st.integers(-2, 9)), max_size=18)
SIZES = st.lists(st.integers(1, 4), min_size=18, max_size=18)
Steps = list[tuple[str, str, int]]


def config_of(pattern: Join | Count) -> Any:
    return make_config([waiting_for(pattern, run={})])


def history_of(steps: Steps, key: str) -> list[Came | Looked]:
    """Return what a key lives through: its own events, once each, and every look."""
    now, history = T0, list[Came | Looked]()
    for number, (what, whose, moves) in enumerate(steps):
        now += moves * STEP
        if what == "look":
            history.append(Looked(now))
        elif what in NAMES and whose == key:
            history.append(Came(what, f"{number:03}", now, now))
    return history


async def live(house: Works, steps: Steps, sizes: Sequence[int], *others: Works, looks: bool = True) -> None:
    """Play the steps: events in bunches, each to one of the replicas; repeats come as the source would send them."""
    bells, now, bunch, taken = Bells(house), T0, list[Any](), list[Any]()
    room, dice = iter(sizes), random.Random(len(steps))

    async def put() -> None:
        if bunch:
            await dice.choice([house, *others]).put(*bunch)
            bunch.clear()

    for number, (what, key, moves) in enumerate(steps):
        now += moves * STEP
        if what in NAMES:
            bunch.append(came(what, key, now, id=f"{number:03}"))
            taken.append((what, key, now, f"{number:03}"))
            if len(bunch) >= next(room):
                await put()
            continue
        await put()
        if what == "again" and taken:
            kind, whose, then, id_ = taken[-1]
            await house.put(came(kind, whose, then, id=id_))
        elif what == "look" and looks:
            house.clock.at = now
            await bells.ring()
        elif what == "restart" and not others:
            await house.restart()
    await put()


async def story_of(house: Works, key: str) -> Story:
    """Read from the ledger what was concluded about a key."""
    story = Story()
    ids = {row["uid"]: row["id"] for row in await house.events()}
    whose = {row["uid"]: row["subject"] for row in await house.events()}
    for row in await house.decisions():
        events = [uid for uid in row["events"] if whose[uid] == key]
        if not events:
            continue
        names = frozenset(ids[uid] for uid in events)
        if row["outcome"] == "fired":
            story.fired.append((names, frozenset()))
        elif row["outcome"] == "waiting":
            story.open = names
        else:
            if row["outcome"] == "overdue":
                story.overdue.append((names, frozenset(row["details"]["missing"])))
            story.decided.extend((row["outcome"], name) for name in names)
    return story


def told(story: Story) -> tuple[Any, ...]:
    """Return what must agree: firings (with the events of each), overdue keys, decisions, and what still waits."""
    fired = sorted(sorted(names) for names, _ in story.fired)
    overdue = sorted((sorted(names), sorted(missing)) for names, missing in story.overdue)
    return fired, overdue, sorted(story.decided), sorted(story.open)


TAKES = st.tuples(*(st.sampled_from(["first", "latest", "all"]) for _ in NAMES))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, SIZES, TAKES, st.integers(2, 3), st.integers(2, 30), st.sampled_from(["ignore", "refire"]))
@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_joins_live_through_anything(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    steps: Steps,
    sizes: list[int],
    takes: tuple[str, ...],
    need: int,
    within: int,
    late: str,
) -> None:
    """Same firings and same decisions as the model, however events are bunched, repeated and restarted between."""
    join = Join(
        parts=tuple(part(name, take) for name, take in zip(NAMES, takes, strict=True)),
        within=within * STEP,
        require=str(need),
        late=Late(late),
        remember=20 * STEP,
    )
    model = JoinModel(NAMES, within * STEP, dict(zip(NAMES, takes, strict=True)), need, late, 20 * STEP)
    url = "memory:" if kind == "memory" else f"sqlite:///{tmp_path_factory.mktemp('joins') / 'store.db'}"

    async def whole() -> list[Story]:
        async with open_works(url, config_of(join)) as house:
            await live(house, steps, sizes)
            return [await story_of(house, key) for key in ("k", "m")]

    for key, story in zip(("k", "m"), asyncio.run(whole()), strict=True):
        assert told(story) == told(model.tell(history_of(steps, key))), key


@settings(max_examples=15, deadline=None)
@given(STEPS, SIZES, st.integers(2, 4), st.integers(2, 30))
def test_counts_live_through_anything(steps: Steps, sizes: list[int], reach: int, within: int) -> None:
    """The window slides over transactions and restarts alike."""
    steps = [("a" if what in NAMES else what, key, moves) for what, key, moves in steps]
    count = Count(part=part("a", "all"), reach=reach, within=within * STEP)

    async def whole() -> list[Story]:
        async with open_works("memory:", config_of(count)) as house:
            await live(house, steps, sizes)
            return [await story_of(house, key) for key in ("k", "m")]

    for key, story in zip(("k", "m"), asyncio.run(whole()), strict=True):
        assert told(story) == told(CountModel(reach, within * STEP).tell(history_of(steps, key))), key


@ON_POSTGRESQL
async def test_two_replicas_tell_one_story(works: OpenWorks, url: str) -> None:
    """On PostgreSQL, with events going now to one replica and now to the other: what the model says."""
    join = Join(parts=tuple(part(name, "latest") for name in NAMES), within=20 * STEP, require="3", remember=20 * STEP)
    model = JoinModel(NAMES, 20 * STEP, dict.fromkeys(NAMES, "latest"), 3, "ignore", 20 * STEP)
    one, two = await works(config_of(join)), await works(config_of(join), shard="two")
    dice = random.Random(7)
    for _ in range(12):
        await asyncio.to_thread(wipe, url)
        steps = [(dice.choice(NAMES), dice.choice("km"), dice.randint(-2, 9)) for _ in range(25)]
        await live(one, steps, [dice.randint(1, 4) for _ in steps], two, looks=False)
        for key in ("k", "m"):
            assert told(await story_of(one, key)) == told(model.tell(history_of(steps, key)))


@ON_POSTGRESQL
async def test_replicas_that_race_with_all_parts_fire_each_key_once(works: OpenWorks, url: str) -> None:
    """Both get all parts of every key, in opposite orders, at once: one firing per key, and no part is lost."""
    join = Join(parts=tuple(part(name) for name in NAMES), within=3_600 * STEP)
    one, two = await works(config_of(join)), await works(config_of(join), shard="two")
    keys = [f"k{n:02}" for n in range(25)]
    events = [(name, key) for key in keys for name in NAMES]
    await asyncio.gather(
        *(one.put(*(came(name, key, id=f"{name}{key}") for name, key in events[n : n + 5])) for n in range(0, 75, 5)),
        *(two.put(came(name, key, id=f"{name}{key}")) for name, key in reversed(events)),
    )
    runs = await one.all_runs()
    decisions = await one.decisions()

    assert len(runs) == len(keys)
    assert [row["outcome"] for row in decisions] == ["fired"] * len(keys)
    assert all(len(row["events"]) == 3 for row in decisions)


@ON_POSTGRESQL
async def test_a_deadline_and_a_last_part_that_race_end_in_one_story(works: OpenWorks) -> None:
    """While timers ring here, the last parts come there: each key fires, or it is overdue and its last part late."""
    join = Join(parts=tuple(part(name) for name in "ab"), within=3_600 * STEP)
    one, two = await works(config_of(join)), await works(config_of(join), shard="two")
    due = time.time_ns() // 1000 + STEP // 2
    keys = [f"k{n:02}" for n in range(60)]
    for start in range(0, 60, 20):
        await one.put(*(came("a", key, due - 3_600 * STEP) for key in keys[start : start + 20]))
    while time.time_ns() // 1000 < due - STEP // 50:
        await asyncio.sleep(0.005)
    puts = [two.put(*(came("b", key, due - 1) for key in keys[start : start + 3])) for start in range(0, 60, 3)]
    rings = [Bells(one).ring() for _ in range(6)]
    await asyncio.gather(*puts, *rings)
    while len(await one.decisions(outcome="waiting")):
        await Bells(one).ring()
        await asyncio.sleep(0.02)
    outcomes: dict[str, list[str]] = {key: [] for key in keys}
    whose = {row["uid"]: row["subject"] for row in await one.events()}
    for row in await one.decisions():
        outcomes[whose[row["events"][0]]].append(row["outcome"])

    assert all(sorted(found) in (["fired"], ["late", "overdue"]) for found in outcomes.values()), outcomes
    assert len(await one.all_runs()) == sum(found == ["fired"] for found in outcomes.values())


def test_the_model_needs_every_part(tmp_path: Path) -> None:
    """The comparison can fail: a model that asks for less tells another story of the same events."""
    steps = [("a", "k", 1), ("b", "k", 1)]
    history = history_of(steps, "k")
    take = dict.fromkeys(NAMES, "first")

    assert told(JoinModel(NAMES, STEP, take, 2).tell(history)) != told(JoinModel(NAMES, STEP, take, 3).tell(history))
