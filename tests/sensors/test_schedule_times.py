"""When schedules tick: against a calendar gone through minute by minute, over both changes of the clock."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from sensors.adapters.schedule_times import Cron, Every, before, rfc3339, zone_of

ZONES = ("Europe/Oslo", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC")
# Days around the changes of 2026, as local dates.
CHANGES = {
    "Europe/Oslo": ("2026-03-29", "2026-10-25"),
    "America/New_York": ("2026-03-08", "2026-11-01"),
    "Australia/Lord_Howe": ("2026-10-04", "2026-04-05"),
}
_MINUTE = 60_000_000


def _at(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


def _between(times: Cron | Every, start: int, end: int) -> list[int]:
    found: list[int] = []
    at: int | None = start
    while at is not None and (at := times.after(at)) is not None and at <= end:
        found.append(at)
    return found


def _local(line: str, zone: str, day: str) -> list[str]:
    """Return the ticks of one local day, on the clock of the place with its offset."""
    place = ZoneInfo(zone)
    start = datetime.fromisoformat(day).replace(tzinfo=place)
    end = start.replace(tzinfo=None) + timedelta(days=1)
    ticks = _between(Cron(line, place), _at(start.isoformat()) - 1, _at(end.replace(tzinfo=place).isoformat()) - 1)
    return [rfc3339(tick, place)[11:] for tick in ticks]


def _walked(line: str, zone: str, start: int, end: int) -> list[int]:
    """Return the minutes whose wall clock matches the line, each looked at by itself."""
    place = ZoneInfo(zone)
    found = []
    for at in range(start - start % _MINUTE + _MINUTE, end + 1, _MINUTE):
        wall = datetime.fromtimestamp(at / 1_000_000, place).replace(tzinfo=None)
        if next(CronSim(line, wall - timedelta(seconds=1))) == wall:
            found.append(at)
    return found


@pytest.mark.parametrize(
    ("zone", "line", "ticks"),
    [
        ("Europe/Oslo", "30 2 * * *", ["03:00:00+02:00"]),
        ("Europe/Oslo", "15,45 2 * * *", ["03:00:00+02:00"]),
        ("Europe/Oslo", "0 2,3 * * *", ["03:00:00+02:00"]),
        ("Europe/Oslo", "30 2,3 * * *", ["03:00:00+02:00", "03:30:00+02:00"]),
        ("America/New_York", "30 2 * * *", ["03:00:00-04:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", ["02:30:00+11:00"]),
        ("Australia/Lord_Howe", "45 2 * * *", ["02:45:00+11:00"]),
    ],
)
def test_a_time_that_the_clock_leaves_out_ticks_once_at_the_next_moment(zone: str, line: str, ticks: list[str]) -> None:
    """In spring a time that does not exist is neither lost nor told twice."""
    assert _local(line, zone, CHANGES[zone][0]) == ticks


@pytest.mark.parametrize(
    ("zone", "line", "ticks"),
    [
        ("Europe/Oslo", "30 2 * * *", ["02:30:00+02:00"]),
        ("Europe/Oslo", "0 2,3 * * *", ["02:00:00+02:00", "03:00:00+01:00"]),
        ("America/New_York", "30 1 * * *", ["01:30:00-04:00"]),
        ("Australia/Lord_Howe", "45 1 * * *", ["01:45:00+11:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", ["02:15:00+10:30"]),
    ],
)
def test_a_time_that_comes_twice_ticks_the_first_time_only(zone: str, line: str, ticks: list[str]) -> None:
    """In autumn a time that exists twice ticks once."""
    assert _local(line, zone, CHANGES[zone][1]) == ticks


@pytest.mark.parametrize("zone", list(CHANGES))
@pytest.mark.parametrize("line", ["*/15 * * * *", "30 * * * *", "*/20 1,2 * * *", "0 */2 * * *"])
@pytest.mark.parametrize("change", [0, 1])
def test_a_line_with_a_star_counts_time_as_it_passes(zone: str, line: str, change: int) -> None:
    """Minutes or hours with a star tick whenever the clock shows them, also in an hour that comes twice."""
    day = datetime.fromisoformat(CHANGES[zone][change]).replace(tzinfo=ZoneInfo(zone))
    start, end = _at((day - timedelta(days=1)).isoformat()), _at((day + timedelta(days=2)).isoformat())

    assert _between(Cron(line, ZoneInfo(zone)), start, end) == _walked(line, zone, start, end)


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES),
    minute=st.sampled_from(["*", "0", "30", "*/7", "15,45", "59"]),
    hour=st.sampled_from(["*", "*/3", "0", "1", "2", "1-3", "23"]),
    at=st.integers(_at("2026-01-01T00:00:00+00:00"), _at("2027-01-01T00:00:00+00:00")),
)
def test_ticks_rise_and_each_comes_after_the_one_before(zone: str, minute: str, hour: str, at: int) -> None:
    """From any instant the next tick is later, no tick lies between, and `before` leads back."""
    times = Cron(f"{minute} {hour} * * *", ZoneInfo(zone))
    tick = times.after(at)
    assert tick is not None
    assert tick > at
    assert times.after(tick - 1_000_000) == tick
    following = times.after(tick)
    assert following is not None
    assert before(times, following) == tick


@pytest.mark.parametrize(("line", "ticks"), [("@daily", ["00:00:00+01:00"]), ("@hourly", 24), ("0 6 * * 1-5", 1)])
def test_short_names_and_weekdays(line: str, ticks: list[str] | int) -> None:
    """`@daily` is midnight of the place, `@hourly` each of its hours, and 30 January 2026 is a Friday."""
    found = _local(line, "Europe/Oslo", "2026-01-30")

    assert (found if isinstance(ticks, list) else len(found)) == ticks
    assert _local("0 6 * * 1-5", "Europe/Oslo", "2026-01-31") == []


def test_an_interval_stands_still_in_time() -> None:
    """Multiples since 1970, whoever asks; the one before is an interval away."""
    times = Every(600.0)
    tick = times.after(_at("2026-01-30T06:03:00+00:00"))

    assert tick == _at("2026-01-30T06:10:00+00:00")
    assert times.after(tick) == _at("2026-01-30T06:20:00+00:00")
    assert before(times, tick) == _at("2026-01-30T06:00:00+00:00")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 6 * *", "has 4 fields where cron has five"),
        ("0 0 6 * * *", "for less than a minute, `every`"),
        ("0 25 * * *", "is no cron line"),
        ("0 0 31 2 *", "is no cron line"),
        ("0 0 */31 * 1#5", "names a day that never comes"),
        ("often", "has 1 fields"),
    ],
)
def test_a_line_that_is_none_is_refused_with_a_sentence(line: str, said: str) -> None:
    """What cannot tick is found when it is written."""
    with pytest.raises(ValueError, match=said):
        Cron(line, ZoneInfo("UTC"))


@pytest.mark.parametrize("name", ["Europe/Olso", "", "../etc/passwd", "/etc/passwd"])
def test_a_place_that_does_not_exist_is_refused(name: str) -> None:
    """A misspelt zone, and a path, are told of by name."""
    with pytest.raises(ValueError, match="there is no time zone"):
        zone_of(name)


def test_the_rarest_day_of_all_has_one_before_it() -> None:
    """29 February is found over a century that has none."""
    times = Cron("0 0 29 2 *", ZoneInfo("UTC"))

    assert times.after(_at("2097-01-01T00:00:00+00:00")) == _at("2104-02-29T00:00:00+00:00")
    assert before(times, _at("2104-02-29T00:00:00+00:00")) == _at("2096-02-29T00:00:00+00:00")
