"""When a schedule ticks: cron on the clock of a place, or an interval counted from 1970. Pure.

In flow instants (UTC microseconds), out flow the ticks after them, each greater than the one before.

Clocks of places jump. A cron line with fixed minutes and hours names times of the day: one that a jump leaves out ticks
once, at the first moment after it; one that comes twice ticks the first time only. A line whose minute or hour begins
with `*` counts time as it passes: it ticks in an hour that comes twice as often as in any other hour.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from sensors.clock import SECOND

SHORT: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - wall clocks have no offset
_DAY: Final = 86_400 * SECOND
_MINUTE: Final = timedelta(minutes=1)
_WIDEST: Final = 8 * 366 * _DAY  # 29 February comes every four years, but not in 2100


class Times(Protocol):
    """The ticks of one schedule."""

    def after(self, instant: int) -> int | None:
        """Return the first tick after an instant; None when there is none within fifty years."""
        ...


def before(times: Times, instant: int) -> int | None:
    """Return the last tick before an instant; None when there is none within eight years."""
    window = 2 * 60 * SECOND
    while True:
        tick = times.after(instant - window)
        if tick is not None and tick < instant:
            break
        if window > _WIDEST:
            return None
        window *= 4
    while (following := times.after(tick)) is not None and following < instant:
        tick = following
    return tick


class Every:
    """Ticks at whole multiples of an interval since 1970-01-01T00:00:00Z, so that every replica has the same ones."""

    def __init__(self, seconds: float) -> None:
        self._step = round(seconds * SECOND)

    def after(self, instant: int) -> int | None:
        """Return the first tick after an instant."""
        return (instant // self._step + 1) * self._step


class Cron:
    """Ticks of a cron line of five fields in a time zone. Raises ValueError for a line that is none, or never ticks."""

    def __init__(self, line: str, zone: tzinfo) -> None:
        self._line = SHORT.get(line.strip().lower(), line)
        self._zone = zone
        fields = self._line.split()
        if len(fields) != 5:
            raise ValueError(
                f"`{line}` has {len(fields)} fields where cron has five; write minute, hour, day, month and weekday, "
                "such as 0 6 * * 1-5 (for less than a minute, `every`)"
            )
        self._fixed = not (fields[0].startswith("*") or fields[1].startswith("*"))
        try:
            first = self.after(0)
        except CronSimError as error:
            raise ValueError(f"`{line}` is no cron line ({error}); write one such as 0 6 * * 1-5") from error
        if first is None:
            raise ValueError(f"`{line}` names a day that never comes; correct day or month")

    def after(self, instant: int) -> int | None:
        """Return the first tick after an instant."""
        # the first moments of a second that has begun already are not to be asked for again
        instant -= instant % SECOND
        return self._of_the_day(instant) if self._fixed else self._as_time_passes(instant)

    # -- times of the day ---------------------------------------------------------------------------------------------
    def _of_the_day(self, instant: int) -> int | None:
        for wall in CronSim(self._line, self._wall(instant)):
            tick = self._first_moment(wall)
            if tick > instant:
                return tick
        return None

    def _first_moment(self, wall: datetime) -> int:
        """Return when a wall clock shows a time first; of one that it leaves out, the first moment after the jump."""
        while True:
            local = wall.replace(tzinfo=self._zone, fold=0)
            there = local.astimezone(UTC)
            if there.astimezone(self._zone).replace(tzinfo=None) == wall:
                return _micros(there)
            wall += _MINUTE

    # -- time as it passes --------------------------------------------------------------------------------------------
    def _as_time_passes(self, instant: int) -> int | None:
        """Go along the stretches between jumps: within one, wall clock and time differ by a constant."""
        start = begin = instant  # ticks after `start` are asked for, with the offset that rules from `begin` on
        while True:
            offset = self._offset(begin)
            wall = next(CronSim(self._line, _NAIVE_EPOCH + timedelta(microseconds=start + offset)), None)
            if wall is None:
                return None
            tick = (wall - _NAIVE_EPOCH) // timedelta(microseconds=1) - offset
            jump = self._jump(begin, tick)
            if jump is None:
                return tick
            start, begin = jump - SECOND, jump  # the first second of the new stretch may be a tick itself

    def _jump(self, begin: int, end: int) -> int | None:
        """Return the first instant in (begin, end] whose offset differs from that at `begin`."""
        offset, low = self._offset(begin), begin
        while low < end:
            high = min(end, low + _DAY)
            if self._offset(high) != offset:
                while high - low > SECOND:
                    middle = (low + high) // 2 // SECOND * SECOND
                    if middle <= low:
                        break
                    low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
                return high
            low = high
        return None

    def _offset(self, instant: int) -> int:
        offset = _moment(instant).astimezone(self._zone).utcoffset()
        return 0 if offset is None else offset // timedelta(microseconds=1)

    def _wall(self, instant: int) -> datetime:
        return _moment(instant).astimezone(self._zone).replace(tzinfo=None)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name. Raises ValueError with a sentence."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone `{name}`; write one such as Europe/Oslo or UTC") from error


def rfc3339(instant: int, zone: tzinfo = UTC) -> str:
    """Return an instant as RFC 3339 text, whole seconds without a fraction."""
    return _moment(instant).astimezone(zone).isoformat().replace("+00:00", "Z")


def _moment(instant: int) -> datetime:
    return _EPOCH + timedelta(microseconds=instant)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
