"""Deadlines of runs: told when they are missed, before that where it can be known, and over when the run ends."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from config.model import SensorEntry, ServiceConfig
from pipelines.run import RunState
from sensors.kinds.schedule import KIND as SCHEDULE
from tests.support.watch_works import DAY, EVERYWHERE, HOUR, MINUTE, ROUTE, SECOND, Watch, on_own, own_clock
from tests.support.works import T0, Works, make_config, make_pipeline, make_trigger
from tests.tidegate.conftest import OpenWorks
from tidegate.rules import compile_rules

# T0 is 2027-01-15T08:00:00Z, a Friday: 09:00 in Oslo.
OSLO = ZoneInfo("Europe/Oslo")  # read here, not within a test: its file is one
LATE = ("run.late", "model")
RISK = ("run.late_risk", "model")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    own_clock(monkeypatch, url)


def config(cron: str = "", timezone: str = "UTC", **deadlines: Any) -> ServiceConfig:
    """Return a configuration with the pipeline `model`; `cron` is when a trigger of it starts one."""
    triggers = [on_own("tidegate.run.late", "page"), on_own("tidegate.run.late_risk", "warn", "w")]
    sensors = {}
    if cron:
        options = SCHEDULE.options.model_validate({"cron": cron, "timezone": timezone})
        sensors = {"clock": SensorEntry("clock", SCHEDULE, options)}
        triggers.append(make_trigger("nightly", "model", sensor="clock"))
    pipelines = [make_pipeline("model", concurrency=1, **deadlines), make_pipeline("page"), make_pipeline("warn")]
    return make_config(triggers, pipelines, sensors=sensors, alerts={"oncall": ROUTE})


async def took(watch: Watch, seconds: int, times: int = 3) -> None:
    """Let runs of `model` succeed that took so long."""
    for _ in range(times):
        await watch.house.start("model")
        (claimed,) = await watch.house.claim(1)
        await watch.at(watch.house.clock.at + seconds * SECOND)
        assert await watch.house.end(claimed)


async def claimed_one(house: Works, pipeline: str = "model") -> Any:
    (claimed,) = [one for one in await house.claim() if one.run.pipeline == pipeline]
    return claimed


@EVERYWHERE
async def test_a_run_that_does_not_start_in_time_is_late(works: OpenWorks) -> None:
    """Told once, with how long it has waited; over when it ends; a run that started in time is told of nothing."""
    house = await works(config(start_within=60.0))
    watch = Watch(house)
    await watch.at(T0)
    first, _ = await house.start("model")
    held = await claimed_one(house)
    second, _ = await house.start("model")  # waits: one at a time
    await watch.ring(T0 + 59 * SECOND)
    early = await watch.told()
    await watch.ring(T0 + 61 * SECOND)
    await watch.ring(T0 + 3 * HOUR)
    late, alerts, data = await watch.told(), await watch.alerts(), await watch.data()
    assert await house.end(held)
    still = await watch.alerts()
    await watch.at(T0 + 3 * HOUR + MINUTE)
    assert await house.end(await claimed_one(house))

    assert early == []
    assert late == [LATE]
    assert alerts == still == [("run_late", "error", False)]
    assert data["run"] == second.uid != first.uid
    assert data["reason"] == f"run {second.uid} waits for its start since 1m 1s, allowed are 1m"
    assert await watch.alerts() == [("run_late", "error", False), ("run_late", "error", True)]
    assert [run["pipeline"] for run in await house.all_runs() if run["trigger"]] == ["page"]


@EVERYWHERE
async def test_a_run_that_will_be_late_is_told_of_before_and_when_it_is(works: OpenWorks) -> None:
    """At 07:00 less what a run usually takes it is a risk, at 07:00 it is late; both end with the run."""
    house = await works(config(finish_by="07:00 Europe/Oslo"))
    watch = Watch(house)
    await watch.at(T0)
    await took(watch, 1_800)
    due = T0 - 2 * HOUR + DAY  # 06:00Z on the next day
    await watch.at(due - 2 * HOUR)
    run, _ = await house.start("model")
    await watch.ring(due - 31 * MINUTE)
    early = await watch.told()
    await watch.ring(due - 30 * MINUTE)
    risk, warned = await watch.told(), await watch.alerts()
    await watch.at(due - 20 * MINUTE)
    held = await claimed_one(house)
    await house.restart()
    await watch.ring(due)
    await watch.ring(due + SECOND)
    late, texts = await watch.told(), await watch.texts()
    await watch.at(due + HOUR)
    await house.runs.claim("me", 100, 60.0, 0.0)
    await house.end(held, RunState.FAILED)
    alerts = await watch.alerts()

    assert early == []
    assert risk == [RISK]
    assert warned == [("run_late", "warning", False)]
    assert late == [RISK, LATE]
    assert texts == [
        f"run {run.uid} is to be done by 2027-01-16T07:00:00+01:00, usually takes 30m and has not started",
        f"run {run.uid} was to be done by 2027-01-16T07:00:00+01:00 and is running since 2027-01-16T06:40:00+01:00",
    ]
    assert len(alerts) in (2, 3)  # the claim of the old process may have been lost with it


async def test_a_run_that_began_early_enough_is_no_risk(works: OpenWorks) -> None:
    """What has begun with enough time left is left alone, also when it is done on the stroke."""
    house = await works(config(finish_by="07:00"))
    watch = Watch(house)
    await took(watch, 1_800)
    due = T0 - HOUR + DAY
    await watch.at(due - 2 * HOUR)
    await house.start("model")
    held = await claimed_one(house)
    await watch.ring(due - 29 * MINUTE)
    await watch.at(due - SECOND)
    assert await house.end(held)
    await watch.ring(due + SECOND)

    assert await watch.told() == []


async def test_a_run_that_comes_too_late_is_a_risk_at_once(works: OpenWorks) -> None:
    """Ten minutes before its deadline a run that usually takes thirty cannot be done in time."""
    house = await works(config(finish_by="07:00"))
    watch = Watch(house)
    await took(watch, 1_800)
    await watch.at(T0 - HOUR + DAY - 10 * MINUTE)
    await house.start("model")
    await watch.ring()

    assert await watch.told() == [RISK]


@EVERYWHERE
async def test_a_day_on_which_no_run_came_is_late(works: OpenWorks) -> None:
    """A schedule was to start a run, none came: told at the deadline, once by two replicas; over with a success."""
    house = await works(config("0 5 * * *", finish_by="07:00"))
    watch = Watch(house)
    await watch.at(T0)
    await watch.arm()
    due = T0 - HOUR + DAY
    await watch.ring(due - SECOND)
    early = await watch.told()
    await watch.arm()  # a restart at a bad moment
    await watch.ring(due + SECOND)
    await watch.ring(due + HOUR)
    late, data = await watch.told(), await watch.data()
    await house.start("model")
    await watch.work()

    assert early == []
    assert late == [LATE]
    assert (data["run"], data["due"]) == (None, "2027-01-16T07:00:00Z")
    assert data["reason"] == "model was to be done by 2027-01-16T07:00:00Z, and no run has come"
    assert await watch.alerts() == [("run_late", "error", False), ("run_late", "error", True)]


@pytest.mark.parametrize(
    ("state", "told"),
    [(RunState.SUCCEEDED, []), (RunState.FAILED, [LATE]), (RunState.CANCELLED, [LATE]), (None, [LATE])],
)
async def test_a_day_is_saved_by_a_success_only(works: OpenWorks, state: RunState | None, told: Any) -> None:
    """A run that failed does not make the deadline; one that goes on is late by itself, and told of once."""
    house = await works(config("0 5 * * *", finish_by="07:00"))
    watch = Watch(house)
    await watch.arm()
    due = T0 - HOUR + DAY
    await watch.at(due - HOUR)
    run, _ = await house.start("model")
    if state is None:
        await claimed_one(house)
    else:
        await watch.work(state=state)
    await watch.ring(due + SECOND)

    assert await watch.told() == told
    if told:
        assert run.uid in (await watch.data())["reason"]


@pytest.mark.parametrize(
    ("cron", "finish_by", "late"),
    [
        ("", "07:00", 0),  # nothing says that one was to come
        ("", "07:00 expect:daily", 3),
        ("", "07:00 mon-fri expect:daily", 1),  # Saturday and Sunday are free, Monday is not
        ("0 5 * * 1-5", "07:00", 1),
        ("0 5 * * *", "07:00 expect:never", 0),
        ("0 8 * * 5", "07:00", 0),  # has ticked when the watch began, and ticks again on Friday
    ],
)
async def test_a_run_is_missed_only_where_one_was_expected(
    works: OpenWorks, cron: str, finish_by: str, late: int
) -> None:
    """Three days without a run: by a schedule, on the days that are named, or never."""
    house = await works(config(cron, finish_by=finish_by))
    watch = Watch(house)
    await watch.at(T0 + SECOND)
    await watch.arm()
    for day in range(1, 4):  # Saturday, Sunday, Monday
        await watch.ring(T0 - HOUR + day * DAY + SECOND)

    assert await watch.told() == [LATE] * late


async def test_a_run_that_does_not_come_is_a_risk_before(works: OpenWorks) -> None:
    """Where runs usually take half an hour, their absence is told half an hour before the deadline."""
    house = await works(config("0 5 * * *", finish_by="07:00"))
    watch = Watch(house)
    await took(watch, 1_800)
    await watch.arm()
    due = T0 - HOUR + 2 * DAY
    await watch.ring(due - DAY + SECOND)
    await watch.ring(due - 30 * MINUTE + SECOND)
    risk = await watch.told()
    await house.start("model")
    await watch.work()
    await watch.ring(due + SECOND)

    assert risk == [RISK]
    assert await watch.told() == [RISK]
    assert [ends for _, _, ends in await watch.alerts()] == [False, True]


async def test_of_days_that_were_slept_through_only_the_last_is_told(works: OpenWorks) -> None:
    """A service that was down for a week does not tell of seven mornings."""
    house = await works(config("0 5 * * *", finish_by="07:00"))
    watch = Watch(house)
    await watch.arm()
    await house.restart()
    await watch.arm()
    await watch.ring(T0 + 7 * DAY)

    assert await watch.told() == [LATE]
    assert (await watch.data())["due"] == "2027-01-22T07:00:00Z"


async def test_a_deadline_follows_the_clock_of_its_place(works: OpenWorks) -> None:
    """07:00 in Oslo is an hour earlier in UTC once summer has begun there."""
    house = await works(config(finish_by="07:00 Europe/Oslo"))
    watch = Watch(house)
    winter = 1_806_105_600 * SECOND  # 2027-03-27T00:00Z; the clock goes forward on the 28th at 01:00Z
    for start in (winter, winter + DAY):
        await watch.at(start)
        await house.start("model")
        await watch.work()
        await house.start("model")
    timers = await _due(house, "finish/")

    assert timers == [winter + 6 * HOUR] * 2 + [winter + DAY + 5 * HOUR] * 2


async def _due(house: Works, prefix: str) -> list[int]:
    from tests.support.stores import do

    def look(tx: Any) -> list[int]:
        house.clock.at += 30 * DAY
        tx._s.tick() if hasattr(tx, "_s") else setattr(tx, "_now", house.clock.at)
        return [timer.due for timer in tx.due_timers(100) if timer.key.startswith(prefix)]

    return await do(house.store, look)


async def test_deadlines_that_are_taken_away_are_forgotten(works: OpenWorks) -> None:
    """A pipeline that promises nothing any more ends its alert, and its timers tell of nothing."""
    house = await works(config("0 5 * * *", finish_by="07:00"))
    watch = Watch(house)
    await watch.arm()
    await watch.ring(T0 + DAY)
    house.rules.swap(compile_rules(config("0 5 * * *"), {}))
    await watch.arm()
    await watch.ring(T0 + 5 * DAY)

    assert await watch.told() == [LATE]
    assert [ends for _, _, ends in await watch.alerts()] == [False, True]
    assert await house.store.read(lambda reader: dict(reader.settings("late/"))) == {}
    assert await house.store.read(lambda reader: dict(reader.settings("deadline/"))) == {}


@pytest.mark.parametrize(
    "url", [pytest.param("postgresql", marks=[pytest.mark.postgres, pytest.mark.integration])], indirect=True
)
async def test_late_runs_that_end_at_once_are_over_once(works: OpenWorks, url: str) -> None:
    """Two replicas end the last two late runs at the same moment: one of them sees that none is late any more."""
    import asyncio

    made = make_config(
        [], [make_pipeline("model", start_within=60.0), make_pipeline("other")], alerts={"oncall": ROUTE}
    )
    one, two = await works(made), await works(made, shard="two")
    watch = Watch(one, two)
    await watch.at(T0)
    for _ in range(6):
        await one.start("model")
    await watch.ring(T0 + 2 * MINUTE)
    assert await watch.alerts() == [("run_late", "error", False)] * 6
    mine, theirs = await one.claim(3), await two.claim(3, "other")
    await watch.at(T0 + 3 * MINUTE)
    await asyncio.gather(*(one.end(run) for run in mine), *(two.end(run) for run in theirs))

    assert [ends for _, _, ends in await watch.alerts()] == [False] * 6 + [True]
