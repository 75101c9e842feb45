"""Calendars: when a key opens and until when it has time. Pure: moments in, moments out, UTC microseconds.

Ticks of a cron expression and times of day are local to a time zone, with its changes of the clock: a time that the
clock skips comes at the same distance after midnight, one that comes twice counts the first time.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta

from triggers.functions import zone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


def ticks(cron: str, timezone: str, after: int) -> Iterator[int]:
    """Yield the ticks of a cron expression strictly after a moment. Raises ValueError for what is none."""
    from cronsim import CronSim

    for tick in CronSim(cron, local(after, timezone)):
        found = micros(tick)
        if found > after:
            yield found


def next_tick(cron: str, timezone: str, after: int) -> int:
    """Return the first tick after a moment. Raises ValueError for what is no cron expression, or one that ends."""
    for tick in ticks(cron, timezone, after):
        return tick
    raise ValueError(f"{cron!r} never comes about")


def next_time(text: str, timezone: str, after: int) -> int:
    """Return when a time of day comes about first after a moment."""
    wanted, here = time_of_day(text), zone(timezone)
    day = local(after, timezone).date()
    while True:
        found = micros(datetime.combine(day, wanted, tzinfo=here))
        if found > after:
            return found
        day += timedelta(days=1)


def time_of_day(text: str) -> time:
    """Read `HH:MM` or `HH:MM:SS`. Raises ValueError."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time of day such as 06:00")
    return time(int(found[1]), int(found[2]), int(found[3] or 0))


def check_cron(text: str) -> None:
    """Refuse what is no cron expression. Raises ValueError."""
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(text, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"{text!r} is no cron expression: {str(error).lower() or 'it cannot be read'}") from error
    except StopIteration:
        raise ValueError(f"{text!r} never comes about") from None


def local(at: int, timezone: str) -> datetime:
    """Return a moment as the clock on the wall shows it."""
    return (_EPOCH + timedelta(microseconds=at)).astimezone(zone(timezone))


def micros(moment: datetime) -> int:
    """Return a moment as UTC microseconds."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def told(at: int, timezone: str) -> str:
    """Return a moment in words: to the second, with its offset."""
    return local(at - at % 1_000_000, timezone).isoformat().replace("+00:00", "Z")
