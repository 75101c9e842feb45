"""The schedule sensor: one event per tick, whatever happens to process and clock."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError

from sensors.batch import Batch, Cursor
from sensors.errors import NotConnected
from sensors.event import Event
from sensors.kind import SensorContext
from sensors.kinds.schedule import KIND, Schedule, ScheduleOptions
from sensors.testing import EverythingWanted, FakeInbox, settle
from tests.support.clocks import SetClock

NAME = "nightly"


def _at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


class Rig:
    """A sensor with a store of its own, on a clock that is set by hand; `restart` makes a new process of it."""

    def __init__(self, start: str, **options: Any) -> None:
        self.clock = SetClock(_at(start))
        self.inbox = FakeInbox()
        self.options = options
        self.sensor = self._build()
        self._reading: asyncio.Task[None] | None = None

    def _build(self) -> Schedule:
        sensor = KIND.build(
            ScheduleOptions.model_validate(self.options), SensorContext(NAME, "svc", self.clock, Path())
        )
        assert isinstance(sensor, Schedule)
        return sensor

    async def start(self) -> None:
        await self.sensor.connect(await self.inbox.cursors(NAME), self.inbox.lookup(NAME), EverythingWanted())
        self._reading = asyncio.ensure_future(self._read())
        await settle()

    async def _read(self) -> None:
        while True:
            batch = await self.sensor.read()
            if not batch.empty:
                await self.inbox.put(NAME, batch)

    async def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None

    async def restart(self, after: float = 0.0, **options: Any) -> None:
        """End without a word, be away for so many seconds, and begin as a new process."""
        await self.stop()
        self.clock.jump(after)
        self.options = {**self.options, **options}
        self.sensor = self._build()
        await self.start()

    async def run(self, seconds: float) -> None:
        await self.clock.advance(seconds)

    @property
    def ticks(self) -> list[str]:
        return [event.id for event in self.inbox.events]

    @property
    def missed(self) -> int:
        return self.inbox.counts.get("missed", 0)


@pytest.fixture
async def rigs() -> Any:
    made: list[Rig] = []

    async def make(start: str, **options: Any) -> Rig:
        rig = Rig(start, **options)
        made.append(rig)
        await rig.start()
        return rig

    yield make
    for rig in made:
        await rig.stop()


def _data(event: Event) -> Any:
    return orjson.loads(event.data or b"")


async def test_a_tick_is_an_event_at_its_instant(rigs: Any) -> None:
    """Six o'clock in Oslo on a Friday: named by the instant, with the ticks before and after, and the local time."""
    rig = await rigs("2026-01-30T05:59:30+01:00", cron="0 6 * * 1-5", timezone="Europe/Oslo")
    await rig.run(31)
    (event,) = rig.inbox.events

    assert (event.id, event.type, event.time) == (
        "2026-01-30T05:00:00Z",
        "schedule.tick",
        _at("2026-01-30T06:00:00+01:00"),
    )
    assert event.source == "schedule://svc/nightly"
    assert _data(event) == {
        "scheduled": "2026-01-30T05:00:00Z",
        "previous": "2026-01-29T05:00:00Z",
        "next": "2026-02-02T05:00:00Z",
        "local": "2026-01-30T06:00:00+01:00",
        "timezone": "Europe/Oslo",
        "late_by": 0.0,
        "caught_up": False,
    }


async def test_a_new_schedule_tells_of_nothing_that_was_before_it(rigs: Any) -> None:
    """The past of a schedule that has just been written is not made up for, and the first tick is the next one."""
    rig = await rigs("2026-01-30T06:03:00+00:00", every="10m", catch_up="all")
    await rig.run(6 * 60)
    assert rig.ticks == []
    await rig.run(61)
    assert rig.ticks == ["2026-01-30T06:10:00Z"]


async def test_a_schedule_that_was_changed_begins_anew(rigs: Any) -> None:
    """The new line's past is none of ours; `cursor: keep` says that it is."""
    rig = await rigs("2026-01-30T06:03:00+00:00", cron="0 6 * * *")
    await rig.restart(6 * 3600.0, cron="0 7 * * *", catch_up="all")
    assert rig.ticks == []
    await rig.restart(3600.0, cron="0 8 * * *", catch_up="all", cursor="keep")
    assert rig.ticks == []
    await rig.restart(24 * 3600.0, cron="0 9 * * *", catch_up="all", cursor="keep")
    assert rig.ticks == ["2026-01-31T09:00:00Z"]


@pytest.mark.parametrize(
    ("catch_up", "limit", "ticks", "missed"),
    [
        ("all", 100, ["06:10", "06:20", "06:30", "06:40", "06:50"], 0),
        ("all", 3, ["06:30", "06:40", "06:50"], 2),
        ("latest", 100, ["06:50"], 4),
        ("none", 100, [], 5),
    ],
)
async def test_what_was_missed_is_made_up_for_as_asked(
    rigs: Any, catch_up: str, limit: int, ticks: Sequence[str], missed: int
) -> None:
    """After an hour away: all, the newest few, the latest, or none; what is left out is counted, and never comes."""
    rig = await rigs("2026-01-30T06:03:00+00:00", every="10m", catch_up=catch_up, catch_up_limit=limit)
    await rig.restart(52 * 60.0)
    await rig.run(1)

    assert rig.ticks == [f"2026-01-30T{tick}:00Z" for tick in ticks]
    assert rig.missed == missed
    assert all(_data(event)["caught_up"] for event in rig.inbox.events)
    await rig.restart()
    await rig.run(6 * 60)
    assert rig.ticks[len(ticks) :] == ["2026-01-30T07:00:00Z"]
    assert rig.missed == missed


@pytest.mark.parametrize("catch_up", ["all", "latest", "none"])
async def test_a_tick_within_grace_was_not_missed(rigs: Any, catch_up: str) -> None:
    """A restart of half a minute over the tick loses nothing, whatever the policy."""
    rig = await rigs("2026-01-30T05:59:45+00:00", cron="0 6 * * *", catch_up=catch_up)
    await rig.restart(45.0)
    await rig.run(1)
    (event,) = rig.inbox.events

    assert (event.id, rig.missed, _data(event)["late_by"], _data(event)["caught_up"]) == (
        "2026-01-30T06:00:00Z",
        0,
        30.0,
        False,
    )


async def test_the_latest_is_enough_when_it_is_on_time(rigs: Any) -> None:
    """Back just after a tick: that one is told, and no older one beside it."""
    rig = await rigs("2026-01-30T06:03:00+00:00", every="10m")
    await rig.restart(57 * 60.0 + 5)
    await rig.run(1)

    assert (rig.ticks, rig.missed) == (["2026-01-30T07:00:00Z"], 5)


@pytest.mark.parametrize("back", [5.0, 300.0, 3 * 3600.0])
async def test_a_clock_that_is_set_back_doubles_nothing(rigs: Any, back: float) -> None:
    """Every instant is told once, however often the clock shows it, and those to come are still told."""
    rig = await rigs("2026-01-30T06:59:00+00:00", every="1h", catch_up="all")
    for _ in range(3):
        await rig.run(120)
        rig.clock.jump(-back)
    await rig.run(back * 3 + 4 * 3600.0)

    assert len(rig.ticks) == len(set(rig.ticks))
    assert rig.inbox.duplicates > 0 or back < 60
    assert {"2026-01-30T07:00:00Z", "2026-01-30T08:00:00Z", "2026-01-30T10:00:00Z"} <= set(rig.ticks)


async def test_a_clock_that_was_years_ahead_does_not_silence_the_schedule(rigs: Any) -> None:
    """What was stored under the wrong time does not keep the right one from coming."""
    rig = await rigs("2026-01-30T06:59:00+00:00", every="1h")
    rig.clock.jump(10 * 365 * 86_400.0)
    await rig.run(20)
    rig.clock.jump(-10 * 365 * 86_400.0)
    before = len(rig.ticks)
    await rig.run(3600)

    assert rig.ticks[before:] == ["2026-01-30T07:00:00Z"]


async def test_a_clock_that_is_set_forward_is_time_away(rigs: Any) -> None:
    """What was jumped over was missed, and the policy says what becomes of it."""
    rig = await rigs("2026-01-30T06:59:30+00:00", every="1h", catch_up="all", catch_up_limit=2)
    rig.clock.jump(5 * 3600.0)
    await rig.run(20)

    assert rig.ticks == ["2026-01-30T10:00:00Z", "2026-01-30T11:00:00Z"]
    assert rig.missed == 3


async def test_jitter_is_the_same_in_every_process(rigs: Any) -> None:
    """A tick comes later by what sensor and instant decide: within bounds, spread, in order, and under its own name."""
    one = await rigs("2026-01-30T05:59:00+00:00", every="10m", jitter="5m")
    other = await rigs("2026-01-30T05:59:00+00:00", every="10m", jitter="5m")
    await one.run(4 * 3600.0)
    await other.run(4 * 3600.0)
    delays = [_data(event)["late_by"] for event in one.inbox.events]

    assert one.ticks == other.ticks
    assert delays == [_data(event)["late_by"] for event in other.inbox.events]
    assert [event.id for event in one.inbox.events][:2] == ["2026-01-30T06:00:00Z", "2026-01-30T06:10:00Z"]
    assert all(0 <= delay <= 300 + 1 for delay in delays)
    assert len({round(delay) for delay in delays}) > 10
    assert not any(_data(event)["caught_up"] for event in one.inbox.events)


async def test_a_crash_between_ticks_told_and_stored_loses_nothing(rigs: Any) -> None:
    """What was read and not stored is read again; the position never passes an event that is not durable."""
    rig = await rigs("2026-01-30T06:03:00+00:00", every="10m", catch_up="all")
    await rig.stop()
    rig.clock.jump(3600.0)
    await rig.sensor.connect(await rig.inbox.cursors(NAME), rig.inbox.lookup(NAME), EverythingWanted())
    assert (await rig.sensor.read()).empty  # it says at once that it works
    lost = await rig.sensor.read()
    await rig.restart()
    await rig.run(1)

    assert [event.id for event in lost.events] == rig.ticks
    assert len(rig.ticks) == 6


async def test_many_missed_ticks_come_in_batches_that_stand_alone(rigs: Any) -> None:
    """Ten thousand ticks: no batch is large, and a crash after any of them goes on behind it."""
    rig = await rigs("2026-01-30T00:00:00+00:00", every="1s", catch_up="all", catch_up_limit=10_000)
    await rig.stop()
    rig.clock.jump(12_000.0)
    await rig.sensor.connect(await rig.inbox.cursors(NAME), rig.inbox.lookup(NAME), EverythingWanted())
    sizes = []
    for _ in range(8):
        batch: Batch = await rig.sensor.read()
        sizes.append(len(batch.events))
        await rig.inbox.put(NAME, batch)
    await rig.restart()
    await rig.run(1)

    assert max(sizes) <= 500
    assert len(rig.ticks) == len(set(rig.ticks))
    assert rig.ticks == sorted(rig.ticks)
    assert len(rig.ticks) + rig.missed == 12_001
    assert rig.missed == 12_000 - 10_000 - 61  # those of the last minute were on time


async def test_peeking_shows_what_is_due_and_what_will_be(rigs: Any) -> None:
    """A schedule is asked for its next ticks; nothing becomes durable and its position stays."""
    rig = await rigs("2026-01-30T06:03:00+00:00", every="10m")
    await rig.restart(15 * 60.0)
    await rig.stop()
    cursors = await rig.inbox.cursors(NAME)
    batch = await rig._build().peek(cursors, rig.inbox.lookup(NAME), 3)

    assert [event.id[11:16] for event in batch.events] == ["06:20", "06:30", "06:40"]
    assert await rig.inbox.cursors(NAME) == cursors


@pytest.mark.parametrize("value", ['{"v":9,"after":1,"rule":""}', "[]", "x"])
async def test_a_position_of_another_form_is_told_of(value: str) -> None:
    """A position that a newer version wrote stops the sensor with a sentence instead of beginning anew."""
    rig = Rig("2026-01-30T06:03:00+00:00", every="10m")
    with pytest.raises(NotConnected, match="written by a newer version"):
        await rig.sensor.connect({"": Cursor("", value)}, rig.inbox.lookup(NAME), EverythingWanted())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs either `cron` or `every`"),
        ({"every": "10m", "timezone": "Europe/Oslo"}, "`timezone` has no effect on `every`"),
        ({"every": "10m", "jitter": "10m"}, "`jitter` must be shorter"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], said: str) -> None:
    """Each with a sentence that says why."""
    with pytest.raises(ValidationError, match=said):
        ScheduleOptions.model_validate(options)
