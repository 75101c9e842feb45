"""How far back events have to be read so that what waits at the beginning of a back-test is known. Pure."""

from collections.abc import Iterable, Sequence

from triggers.pattern import SECOND, Absence, Count, Join, Pattern
from triggers.trigger import Trigger

DAY = 86_400 * SECOND
MOST = 30 * DAY  # no further, whatever a pattern remembers


def sensors_of(*triggers: Trigger) -> Sequence[str]:
    """Return the sensors that triggers listen to, each once, in order."""
    return list(dict.fromkeys(source.sensor for trigger in triggers for source in trigger.on))


def warmth(triggers: Iterable[Trigger]) -> int:
    """Return for how many microseconds before the beginning events matter: 0 without triggers that wait."""
    triggers = list(triggers)
    held = DAY if any(one.control is not None for one in triggers) else 0
    return min(MOST, max((_reach(one.pattern) for one in triggers if one.pattern is not None), default=held))


def waits(trigger: Trigger | None) -> bool:
    """Say whether a trigger may fire later than its events come."""
    return trigger is not None and (trigger.pattern is not None or trigger.control is not None)


def patience(trigger: Trigger | None) -> int:
    """Return for how many microseconds a trigger may hold an event before it fires with it: a day, if nothing says."""
    match None if trigger is None else trigger.pattern:
        case Join(within=int(within), opens=None, lateness=lateness):
            return within + (lateness or 0)
        case Join(lateness=lateness):
            return 2 * DAY + (lateness or 0)
        case Count(within=within, lateness=lateness):
            return within + (lateness or 0)
        case Absence(silence=silence):
            return silence
        case _:
            return DAY


def _reach(pattern: Pattern) -> int:
    match pattern:
        case Join(within=within, remember=remember, lateness=lateness):
            return (
                (within or 2 * DAY) + remember + (lateness or 0)
            )  # a key with a calendar may wait since the day before
        case Count(within=within, lateness=lateness):
            return within + (lateness or 0)
        case Absence(silence=silence):
            return 2 * silence
