"""Silences: their clocks run only while the sensor can be heard; counts and absences across transactions."""

from typing import Any

import pytest

from sensors.testing import VirtualClock
from tests.support.join_works import HOUR, Bells, came, part, waiting_for
from tests.support.works import T0, Works, make_config
from tests.tidegate.conftest import OpenWorks
from tidegate.watched import SensorWatch, keep_watch
from triggers.pattern import SECOND, Absence, Count
from triggers.trigger import Paused

MINUTE = 60 * SECOND
QUIET = Absence(part=part("p", by=None), silence=15 * MINUTE)
HEALTHY = {"s": {"state": "healthy", "lag": None}}
SICK = {"s": {"state": "unhealthy", "lag": None}}


def config(pattern: Any = QUIET, **fields: Any) -> Any:
    return make_config([waiting_for(pattern, run={"params": {"since": "${{ since }}"}}, **fields)])


async def listen(bells: Bells, minutes: int, health: Any = HEALTHY) -> None:
    """Let minutes pass, looking at the sensor every ten seconds, and the timers every minute."""
    clock = bells.house.clock
    for _ in range(minutes):
        for _ in range(6):
            clock.at += 10 * SECOND - 1
            bells.watch.look(["s"], health, clock.now())
        await bells.ring()


async def fired(house: Works) -> list[str]:
    return [row["params"]["since"] for row in await house.all_runs()]


async def test_a_sensor_that_is_silent_from_the_start_is_missed_once(works: OpenWorks) -> None:
    """Nothing ever came: after so long one run; an event ends the silence; the next silence is another one."""
    house = await works(config())
    bells = Bells(house)
    await bells.arm()
    await listen(bells, 14)
    early = await fired(house)
    await listen(bells, 30)
    once = await fired(house)
    await house.put(came("p", at=house.clock.at))
    await listen(bells, 20)

    assert early == []
    assert len(once) == 1
    assert len(await fired(house)) == 2
    assert await house.outcomes(outcome="fired") == ["fired", "fired"]


async def test_a_sensor_that_is_ill_makes_nothing_look_silent(works: OpenWorks) -> None:
    """While it cannot be heard the clock stands still, and goes on where it stood when it can be again."""
    house = await works(config())
    bells = Bells(house)
    await bells.arm()
    await listen(bells, 10)
    await listen(bells, 60, SICK)
    ill = await fired(house)
    await listen(bells, 4)
    almost = await fired(house)
    await listen(bells, 5)

    assert (ill, almost) == ([], [])
    assert len(await fired(house)) == 1


async def test_a_restart_is_no_silence(works: OpenWorks) -> None:
    """Time in which no process looked does not count; a silence that was told before is not told again."""
    house = await works(config())
    bells = Bells(house)
    await bells.arm()
    await listen(bells, 10)
    house.clock.at += 5 * HOUR
    await house.restart()
    bells = Bells(house)
    await bells.arm()
    await listen(bells, 4)
    between = await fired(house)
    await listen(bells, 14)
    once = await fired(house)
    await house.restart()
    bells = Bells(house)
    await bells.arm()
    await listen(bells, 40)

    assert between == []
    assert len(once) == 1
    assert len(await fired(house)) == 1


async def test_silences_are_told_by_key(works: OpenWorks) -> None:
    """Only the key of which nothing comes any more fires; one that was never heard of is not missed."""
    house = await works(config(Absence(part=part("p"), silence=15 * MINUTE)))
    bells = Bells(house)
    await house.put(came("p", "loud"), came("p", "quiet"))
    for _ in range(3):
        await listen(bells, 10)
        await house.put(came("p", "loud", at=house.clock.at))
    rows = await house.decisions(outcome="fired")

    assert len(rows) == 1
    assert "for key 'quiet'" in rows[0]["reason"]
    assert (await house.counts("candidates"))["s|p", "c1"] == 5
    assert ("j", "c1") not in await house.counts("matched")


async def test_what_follows_in_time_is_recorded_and_what_does_not_is_missed(works: OpenWorks) -> None:
    """The events that were not answered are the causes of the run; an answer closes the open decision."""
    after = Absence(part=part("b"), silence=15 * MINUTE, after=part("a", "all"))
    house = await works(config(after))
    bells = Bells(house)
    await house.put(came("a", "x"), came("a", "y"))
    await listen(bells, 5)
    await house.put(came("b", "x", at=house.clock.at))
    answered = sorted(await house.outcomes())
    await listen(bells, 15)
    run = await house.store.read(lambda reader: reader.run(reader.runs(limit=1)[0][0]["uid"]))
    await house.put(came("b", "y", at=house.clock.at))

    assert answered == ["filtered", "waiting"]
    assert run is not None
    assert len(run.events) == 1
    assert sorted(await house.outcomes()) == ["filtered", "fired", "late"]


async def test_the_clock_of_a_paused_trigger_stands_still(works: OpenWorks) -> None:
    """What a paused trigger would not be shown cannot be missed."""
    house = await works(config())
    bells = Bells(house)
    await bells.arm()
    house.rules.pause("j", Paused.DROP)
    await listen(bells, 40)
    paused = await fired(house)
    house.rules.pause("j", None)
    await listen(bells, 16)

    assert paused == []
    assert len(await fired(house)) == 1


async def test_a_count_goes_on_over_transactions(works: OpenWorks) -> None:
    """Events of one key add up whoever brought them; when the window has passed, what it held is out of it."""
    house = await works(make_config([waiting_for(Count(part=part("e", "all"), reach=3, within=MINUTE), run={})]))
    bells = Bells(house)
    for n in range(4):
        await house.put(came("e", id=str(n), at=T0 + n * SECOND))
        await house.restart()
    await Bells(house).ring(T0 + 2 * MINUTE)
    outcomes = sorted(await house.outcomes())
    (run,) = await house.all_runs()
    whole = await house.store.read(lambda reader: reader.run(run["uid"]))

    assert outcomes == ["fired", "out_of_window"]
    assert whole is not None
    assert len(whole.events) == 3
    assert await bells.ring(T0 + HOUR) == 0


@pytest.mark.parametrize(
    ("looks", "heard"),
    [
        ([("healthy", 0)] * 5, 4),
        ([("healthy", 0), ("unhealthy", 0), ("healthy", 0), ("healthy", 0)], 1),
        ([("healthy", 9), ("healthy", 9), ("healthy", 0), ("healthy", 0)], 1),
        ([("healthy", 0), ("healthy", 9), ("healthy", 9), ("healthy", 0)], 3),
        ([("healthy", 0), ("healthy", 9), ("unhealthy", 9), ("healthy", 0)], 0),
        ([("paused", None), ("paused", None)], 0),
    ],
)
def test_time_counts_while_a_sensor_is_healthy_and_caught_up(looks: list[tuple[str, Any]], heard: int) -> None:
    """What was behind counts once it has caught up without a break; what was ill in between does not."""
    watch = SensorWatch()
    for second, (state, lag) in enumerate(looks):
        watch.look(["s"], {"s": {"state": state, "lag": lag}}, second * SECOND)

    assert watch.heard("s", 0, 10 * SECOND) == heard * SECOND
    assert watch.heard("s", 10 * SECOND, 20 * SECOND) == 0
    assert watch.heard("other", 0, 10 * SECOND) == 0


def test_a_time_without_a_look_does_not_count() -> None:
    """A process that slept did not listen; the house's own events can always be heard."""
    watch = SensorWatch()
    for second in (0, 1, 60, 61):
        watch.look(["s", "tidegate"], HEALTHY, second * SECOND)

    assert watch.heard("s", 0, 100 * SECOND) == 2 * SECOND
    assert watch.heard("tidegate", 0, 100 * SECOND) == 2 * SECOND


async def test_nothing_is_looked_at_while_nobody_waits() -> None:
    """Without a trigger that waits for a silence the health of sensors is not asked for."""
    import asyncio

    clock, asked = VirtualClock(), list[int]()

    def health() -> Any:
        asked.append(1)
        return HEALTHY

    wanted: set[str] = set()
    task = asyncio.create_task(keep_watch(SensorWatch(), lambda: wanted, health, clock))
    await clock.advance(5.0)
    quiet = len(asked)
    wanted.add("s")
    await clock.advance(5.0)
    task.cancel()

    assert quiet == 0
    assert len(asked) == 5
