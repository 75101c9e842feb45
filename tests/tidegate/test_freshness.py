"""Datasets that are watched by the clock: stale once, fresh again, whoever looks, whatever restarts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from config.model import ServiceConfig
from tests.support.watch_works import (
    DAY,
    EVERYWHERE,
    HOUR,
    MINUTE,
    ROUTE,
    SECOND,
    Watch,
    dataset,
    on_own,
    own_clock,
    wrote,
)
from tests.support.works import T0, Works, make_config, make_pipeline, open_works
from tests.tidegate.conftest import OpenWorks
from tidegate.freshness import Answer
from tidegate.rules import compile_rules

# T0 is 2027-01-15T08:00:00Z, a Friday.


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    own_clock(monkeypatch, url)


@pytest.fixture
async def replica(url: str) -> AsyncIterator[Any]:
    """Make another replica over the same store."""
    opened: list[Works] = []

    async def make(house: Works) -> Works:
        other = Works(house.url, house.config, shard="two", clock=house.clock)
        if house.store.name != "postgresql":
            other.store = house.store  # one process has such a store; its replicas are those of its writes
        else:
            await other.store.open()
            opened.append(other)
        return other

    yield make
    for other in opened:
        await other.store.close()


def config(*datasets: Any, **fields: Any) -> ServiceConfig:
    triggers = [on_own("tidegate.dataset.stale", "mend"), on_own("tidegate.dataset.fresh", "mended", "f")]
    return make_config(
        triggers,
        [make_pipeline("daily")],
        datasets={one.name: one for one in datasets},
        alerts={"oncall": ROUTE},
        **fields,
    )


@EVERYWHERE
async def test_a_dataset_goes_stale_once_and_becomes_fresh(works: OpenWorks, replica: Any) -> None:
    """One event, one alert and one run when its age is reached, by whichever replica; a write ends it; and again."""
    house = await works(config(dataset(max_age=26 * 3600.0)))
    watch = Watch(house, await replica(house))
    await watch.at(T0)
    await watch.arm()
    await house.start("daily")
    await watch.work(wrote(at=T0))
    await watch.ring(T0 + 26 * HOUR - SECOND)
    before = await watch.told()
    await watch.ring(T0 + 26 * HOUR + 2 * SECOND)
    for n in range(1, 5):
        await watch.arm()  # as a restart does
        await watch.ring(T0 + (26 + n) * HOUR)
    stale, alerts = await watch.told(), await watch.alerts()
    await house.start("daily")
    await watch.work(wrote(at=T0 + 31 * HOUR))
    await watch.ring(T0 + 31 * HOUR + SECOND)
    await watch.ring(T0 + 60 * HOUR)

    assert before == []
    assert stale == [("dataset.stale", "daily")]
    assert alerts == [("dataset_stale", "error", False)]
    assert await watch.told() == [("dataset.stale", "daily"), ("dataset.fresh", "daily"), ("dataset.stale", "daily")]
    assert [ends for _, _, ends in await watch.alerts()] == [False, True, False]
    assert [run["pipeline"] for run in await house.all_runs() if run["trigger"]] == ["mend", "mended", "mend"]
    data = await watch.data(0)
    assert data["dataset"] == "daily"
    assert data["reason"] == "1d 2h old, allowed are 1d 2h"
    assert (data["updated_at"], data["stale_since"]) == ("2027-01-15T08:00:00Z", "2027-01-16T10:00:00Z")
    assert data["expected"] == "no older than 1d 2h"


async def test_a_restart_between_does_not_tell_again(works: OpenWorks) -> None:
    """What is stale was told; a new process with the same configuration knows it, and tells when it is fresh."""
    house = await works(config(dataset(max_age=3600.0)))
    watch = Watch(house)
    await watch.arm()
    await watch.ring(T0 + 2 * HOUR)
    await house.restart()
    await watch.arm()
    await watch.ring(T0 + 3 * HOUR)
    once = await watch.told()
    await house.start("daily")
    await watch.work(wrote(at=T0 + 3 * HOUR))
    await house.restart()
    await watch.ring(T0 + 3 * HOUR + SECOND)

    assert once == [("dataset.stale", "daily")]
    assert await watch.told() == [*once, ("dataset.fresh", "daily")]


async def test_a_dataset_that_was_never_written_is_not_stale_at_once(works: OpenWorks) -> None:
    """A watch begins without an alarm; what has not come when its time is over is stale all the same."""
    house = await works(config(dataset(max_age=3600.0)))
    watch = Watch(house)
    await watch.arm()
    await watch.ring()
    first = await watch.told()
    await watch.ring(T0 + HOUR + MINUTE)

    assert first == []
    assert await watch.told() == [("dataset.stale", "daily")]
    assert (await watch.data())["reason"] == "was never updated in 1h 1m, allowed are 1h"


async def test_data_is_due_by_a_calendar_on_the_clock_of_a_place(works: OpenWorks) -> None:
    """Due at 07:00 in Oslo: judged at that time there, with its grace, in summer and after the clock has changed."""
    house = await works(config(dataset(due="0 7 * * *", timezone="Europe/Oslo", grace=600.0)))
    watch = Watch(house)
    start = 1_761_289_200 * SECOND  # 2025-10-24T07:00:00Z, 09:00 in Oslo; on the 26th the clock goes back
    await watch.at(start)
    await watch.arm()
    await watch.ring()
    told = []
    seven = [start - 2 * HOUR + DAY, start - HOUR + 2 * DAY, start - HOUR + 3 * DAY]  # 05:00Z, then 06:00Z
    for n, tick in enumerate(seven):
        await watch.ring(tick + 9 * MINUTE)
        early = len(await watch.told())
        if n != 1:  # on the second day nothing is written
            await house.start("daily")
            await watch.work(wrote(at=tick - HOUR if n == 0 else tick + 9 * MINUTE))
            await watch.ring(tick + 9 * MINUTE + 30 * SECOND)
        await watch.ring(tick + 10 * MINUTE)
        await watch.ring(tick + 11 * MINUTE)
        told.append((early, [kind for kind, _ in await watch.told()]))

    assert told == [
        (0, []),
        (0, ["dataset.stale"]),
        (1, ["dataset.stale", "dataset.fresh"]),
    ]
    assert (await watch.data(0))["reason"] == (
        "an update was due at 2025-10-26T07:00:00+01:00, it was updated last at 2025-10-25T06:00:00+02:00"
    )


@EVERYWHERE
async def test_a_probe_tells_and_its_errors_are_not_staleness(works: OpenWorks, replica: Any) -> None:
    """Only the probe's answer makes data stale; while it fails the state is unknown, which is told as such, once."""
    house = await works(config(dataset(max_age=3600.0, probe="select max(at) from data", every=600.0)))
    watch = Watch(house, await replica(house))
    await watch.at(T0)
    await watch.arm()
    await watch.ring()
    asked = list(watch.asked)
    await watch.answer(Answer("daily", T0))
    await watch.ring(T0 + 599 * SECOND)
    quiet = list(watch.asked)
    await watch.ring(T0 + 601 * SECOND)
    await watch.at(T0 + 3 * HOUR)
    await watch.answer(Answer("daily", error="no such table"), Answer("daily", error="no such table"))
    unknown = await watch.told()
    await watch.at(T0 + 3 * HOUR + MINUTE)
    await watch.answer(Answer("daily", T0))
    await watch.at(T0 + 3 * HOUR + 2 * MINUTE)
    await watch.answer(Answer("daily", T0 + 3 * HOUR))

    assert asked == quiet == ["daily"]
    assert watch.asked == ["daily", "daily"]
    assert unknown == []  # no rule waits for `unknown`
    assert await watch.told() == [("dataset.stale", "daily"), ("dataset.fresh", "daily")]
    first, *later = await watch.alerts()
    assert first == ("probe_failed", "error", False)
    assert sorted(later[:2]) == [("dataset_stale", "error", False), ("probe_failed", "error", True)]
    assert later[2:] == [("dataset_stale", "error", True)]
    assert (await watch.texts())[0] == "no such table"


async def test_a_replica_that_dies_while_it_asks_is_followed(works: OpenWorks) -> None:
    """A question that nobody answered is asked again after a while; answers that come late do no harm."""
    house = await works(config(dataset(max_age=3600.0, probe="select 1", every=60.0)))
    watch = Watch(house)
    await watch.arm()
    await watch.ring()
    await watch.ring(T0 + 100 * SECOND)
    waiting = list(watch.asked)
    await watch.ring(T0 + 151 * SECOND)

    assert waiting == ["daily"]
    assert watch.asked == ["daily", "daily"]


async def test_data_that_is_gone_is_stale(works: OpenWorks) -> None:
    """A table that held something and now holds nothing is stale at once, whatever its age."""
    house = await works(config(dataset(max_age=86_400.0, probe="select max(at) from data")))
    watch = Watch(house)
    await watch.arm()
    await watch.answer(Answer("daily", None))
    empty = await watch.told()
    await watch.answer(Answer("daily", T0), Answer("daily", None))

    assert empty == []
    assert await watch.told() == [("dataset.stale", "daily")]
    assert (await watch.data())["reason"] == "it holds nothing any more"


async def test_what_is_not_watched_any_more_is_let_go(works: OpenWorks) -> None:
    """A dataset that leaves the configuration while it is stale ends its alert, and nobody looks at it again."""
    house = await works(config(dataset(max_age=3600.0)))
    watch = Watch(house)
    await watch.arm()
    await watch.ring(T0 + 2 * HOUR)
    house.rules.swap(compile_rules(config(), {}))
    await watch.arm()
    await watch.ring(T0 + 9 * HOUR)

    assert await watch.alerts() == [("dataset_stale", "error", False), ("dataset_stale", "error", True)]
    assert await house.store.read(lambda reader: dict(reader.settings("freshness/"))) == {}


async def test_a_replica_that_does_not_know_a_dataset_leaves_its_timer(works: OpenWorks) -> None:
    """While replicas differ in their configuration, the watch of the newer one is not lost to the older one."""
    house = await works(config(dataset(max_age=3600.0)))
    watch = Watch(house)
    await watch.arm()
    known = house.rules.current
    house.rules.swap(compile_rules(config(), {}))
    await watch.ring(T0 + 2 * HOUR)
    ignored = await watch.told()
    house.rules.swap(known)
    await watch.ring(T0 + 2 * HOUR + 61 * SECOND)

    assert ignored == []
    assert await watch.told() == [("dataset.stale", "daily")]


async def test_what_watches_nothing_costs_nothing(works: OpenWorks) -> None:
    """Without freshness and deadlines no timer and no setting is written, by starts, runs and writes of datasets."""
    house = await works(make_config([], [make_pipeline("daily")]))
    watch = Watch(house)
    await watch.arm()
    await house.start("daily")
    await watch.work(wrote())

    assert await house.store.read(lambda reader: dict(reader.settings(""))) == {}
    assert await watch._fire(house) == 0


@pytest.mark.parametrize(
    "url", [pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])], indirect=True
)
async def test_two_replicas_that_hear_two_answers_tell_one_event(database: str, url: str) -> None:
    """Even without a timer between them: answers that two processes write at once are one event and one alert."""
    made = config(dataset(max_age=3600.0, probe="select 1"))
    async with open_works(url, made) as one, open_works(url, made, shard="two") as two:
        watch = Watch(one, two)
        await watch.at(T0)
        await watch.arm()
        await watch.answer(Answer("daily", T0))
        await watch.at(T0 + 2 * HOUR)
        await _at_once(watch)

        assert await watch.told() == [("dataset.stale", "daily")]
        assert await watch.alerts() == [("dataset_stale", "error", False)]


async def _at_once(watch: Watch) -> None:
    import asyncio

    from tidegate.freshness import TellAnswers

    await asyncio.gather(
        *(
            house.store.submit(TellAnswers(house.rules, house.own, "svc"), Answer("daily", T0))
            for house in watch.houses
            for _ in range(3)
        )
    )
