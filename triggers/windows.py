"""Active windows: when a calendar lets events through. Pure: moments in, answers out, UTC microseconds.

A window of days belongs to the day on which it begins, also past midnight. Local times follow the changes of the clock
as `triggers.calendar` says.
"""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from triggers.calendar import check_cron, local, micros, next_tick, ticks, time_of_day
from triggers.control import Active, Window
from triggers.functions import zone

_AHEAD = 400  # days after which a window that never came about never will


def is_open(active: Active, at: int) -> bool:
    """Say whether one of the windows is open at a moment."""
    return any(_open(window, active.timezone, at) for window in active.windows)


def next_open(active: Active, at: int) -> int:
    """Return when the first window opens after a moment. Raises ValueError when none ever does."""
    found = [moment for window in active.windows if (moment := _next(window, active.timezone, at)) is not None]
    if not found:
        raise ValueError("no window ever opens")
    return min(found)


def check_window(window: Window, timezone: str) -> None:
    """Refuse a window that cannot be read or never opens. Raises ValueError."""
    if window.cron is not None:
        check_cron(window.cron)
    else:
        time_of_day(window.start)
        if window.end != "24:00":
            time_of_day(window.end)
        if not window.days:
            raise ValueError("the window has no days")
    if _next(window, timezone, 0) is None:
        raise ValueError("the window never opens")


def _open(window: Window, timezone: str, at: int) -> bool:
    if window.cron is not None:
        return next(ticks(window.cron, timezone, at - window.length), at + 1) <= at
    today = local(at, timezone).date()
    return any(start <= at < end for start, end in _spans(window, timezone, today - timedelta(days=1), 2))


def _next(window: Window, timezone: str, at: int) -> int | None:
    if window.cron is not None:
        try:
            return next_tick(window.cron, timezone, at)
        except ValueError:
            return None
    today = local(at, timezone).date()
    return next((start for start, _ in _spans(window, timezone, today, _AHEAD) if start > at), None)


def _spans(window: Window, timezone: str, first: date, days: int) -> Iterator[tuple[int, int]]:
    """Yield the beginnings and ends of a window that begins on one of so many days."""
    here, start = zone(timezone), time_of_day(window.start)
    midnight = window.end == "24:00"
    end = time(0) if midnight else time_of_day(window.end)
    over = midnight or end <= start
    for number in range(days):
        day = first + timedelta(days=number)
        if day.weekday() not in window.days:
            continue
        begins = micros(datetime.combine(day, start, tzinfo=here))
        ends = micros(datetime.combine(day + timedelta(days=over), end, tzinfo=here))
        if begins < ends:  # neither time is within the hour that the clock skips
            yield begins, ends
