"""Partitions: runs of one partition go one at a time when told to, and what arrives meanwhile is one run."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from config.load import load_config
from config.problems import ConfigProblems
from sensors.event import Event
from tests.support.running import load
from tests.support.works import Works, make_config, make_event, make_pipeline, open_works
from tests.tidegate.conftest import OpenWorks

EVERYWHERE = pytest.mark.parametrize(
    "url",
    ["sqlite", "memory", pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])],
    indirect=True,
)
TEXT = """
service: {name: svc}
sensors: {s: {kind: webhook, path: /hooks/in, verify: none}}
triggers:
  days:
    on: {sensor: s, type: test}
    run: {pipeline: p, partition: event.data.day}
    when_busy: coalesce
    busy: partition
  others:
    on: {sensor: s, type: other}
    run: {pipeline: p, partition: event.data.day}
  apart:
    on: {sensor: s, type: apart}
    run: {pipeline: q, partition: event.data.day}
pipelines:
  p: {engine: command, argv: ["true"]}
  q: {engine: command, argv: ["true"]}
"""
DAY = "2026-01-01"


def of_day(day: str = DAY, type: str = "test") -> Event:
    return make_event(type=type, data=json.dumps({"day": day}).encode(), content_type="application/json")


@pytest.fixture
async def triggers(tmp_path: Path) -> Any:
    return list((await load(tmp_path, TEXT)).triggers.values())


async def _waiting(house: Works) -> list[tuple[str, int]]:
    """Return the partition and the number of events of each run that waits."""
    rows = await house.all_runs(state="queued")
    found = [await house.store.read(lambda reader, uid=row["uid"]: reader.run(uid)) for row in rows]  # type: ignore[misc]
    return [(run.partition or "", len(run.events)) for run in found if run is not None]


@EVERYWHERE
async def test_what_arrives_while_a_partition_runs_is_one_run(works: OpenWorks, triggers: Any) -> None:
    """While one run makes a day, all that comes of that day waits as one run; another day runs beside it."""
    house = await works(make_config(triggers, [make_pipeline("p"), make_pipeline("q")]))
    await house.put(of_day())
    (running,) = await house.claim()
    for _ in range(5):
        await house.put(of_day())
    await house.put(of_day("2026-01-02"))
    waiting = await _waiting(house)
    beside = await house.claim()
    await house.end(running)
    (after,) = await house.claim()
    outcomes = await house.outcomes()

    assert waiting == [(DAY, 5), ("2026-01-02", 1)]
    assert [one.run.partition for one in beside] == ["2026-01-02"]
    assert (after.run.partition, len(after.run.events)) == (DAY, 5)
    assert outcomes.count("coalesced") == 4
    assert outcomes.count("fired") == 3


@EVERYWHERE
async def test_a_partition_runs_whoever_started_it(works: OpenWorks, triggers: Any) -> None:
    """A run by hand and one of a trigger that says nothing about it are in the way too, and wait their turn."""
    house = await works(make_config(triggers, [make_pipeline("p"), make_pipeline("q")]))
    by_hand, _ = await house.start("p", partition=DAY)
    (first,) = await house.claim()
    await house.put(of_day())
    await house.put(of_day(type="other"))
    meanwhile = await house.claim()
    await house.end(first)
    (second,) = await house.claim()
    await house.end(second)
    (third,) = await house.claim()

    assert first.run.uid == by_hand.uid
    assert meanwhile == []
    assert [one.run.trigger for one in (second, third)] == ["days", "others"]


@EVERYWHERE
async def test_other_pipelines_run_partitions_side_by_side(works: OpenWorks, triggers: Any) -> None:
    """Nothing changes for a pipeline of which nobody says so: two runs of one partition may go at once."""
    house = await works(make_config(triggers, [make_pipeline("p"), make_pipeline("q")]))
    await house.put(of_day(type="apart"))
    await house.put(of_day(type="apart"))
    await house.start("q", partition=DAY)

    assert [one.run.lane for one in await house.claim()] == [None, None, None]


async def _race(one: Works, two: Works) -> tuple[int, list[tuple[str, int]], int]:
    """Let events of one partition come by both while its run is under way; return how many came, what waits, and how
    many runs began meanwhile."""
    await one.put(of_day())
    (running,) = await one.claim()
    began = 0

    async def look(house: Works) -> None:
        nonlocal began
        for _ in range(10):
            began += len(await house.claim(holder=house.shard))

    both = (one, two)
    await asyncio.gather(*(both[n % 2].put(of_day()) for n in range(60)), look(one), look(two))
    waiting = await _waiting(one)
    await one.end(running)
    return 60, waiting, began


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_events_that_race_make_one_run(works: OpenWorks, triggers: Any) -> None:
    """Sixty events that come at once while the dispatcher claims: exactly one run waits, with all of them."""
    house = await works(make_config(triggers, [make_pipeline("p"), make_pipeline("q")]))
    came, waiting, began = await _race(house, house)

    assert (waiting, began) == ([(DAY, came)], 0)
    assert len(await house.work()) == 1


@pytest.mark.postgres
@pytest.mark.integration
async def test_replicas_that_race_make_one_run(database: str, triggers: Any) -> None:
    """Two replicas take in events of one partition and both claim: exactly one run waits, with all of them."""
    config = make_config(triggers, [make_pipeline("p"), make_pipeline("q")])
    async with open_works(database, config) as one, open_works(database, config, shard="two") as two:
        for _ in range(3):
            came, waiting, began = await _race(one, two)
            ended = await one.work()
            assert (waiting, began) == ([(DAY, came)], 0)
            assert len(ended) == 1


WITHOUT = ("partition: event.data.day}\n    when", "key: event.id}\n    when")
IN_LANE = ("event.data.day}\n    when", "event.data.day, lane: event.id}\n    when")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(WITHOUT, "no run has a `partition`", id="no partition"),
        pytest.param(IN_LANE, "beside a `lane`", id="a lane"),
        pytest.param(("busy: partition", "busy: day"), "lane", id="no such word"),
    ],
)
async def test_what_makes_no_sense_is_refused(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    """`busy: partition` without a partition, or beside a lane, is a problem with its place and remedy."""
    assert change[0] in TEXT
    path = tmp_path / "bad.yaml"
    await asyncio.to_thread(path.write_text, TEXT.replace(*change))
    with pytest.raises(ConfigProblems) as found:
        await asyncio.to_thread(load_config, [path], environ={})

    assert problem in str(found.value)
    assert "triggers.days.busy" in str(found.value)
