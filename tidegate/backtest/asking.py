"""What people ask becomes a question: which triggers, which rules, which time. Pure but for reading the candidate.

In flow names, the triggers in force and the changed ones; out flows an `Ask`, or `BadAsk` with what is wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from config.problems import known_names
from tidegate.backtest.values import LIMIT, SAMPLES, SECONDS, Ask, Baseline
from triggers.trigger import Trigger

WEEK = 7 * 86_400_000_000


class BadAsk(ValueError):
    """A question that cannot be answered; the sentence names the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What people name. Without `names` it is about all triggers that differ (about all, where the record counts).

    Time begins a week before it ends, and ends now, unless told otherwise.
    """

    names: Sequence[str] = ()
    since: int | None = None
    until: int | None = None
    baseline: Baseline | None = None
    sensors: Sequence[str] = ()
    limit: int = LIMIT
    seconds: float = SECONDS
    samples: int = SAMPLES


def make_ask(old: Mapping[str, Trigger], new: Mapping[str, Trigger] | None, wish: Wish, now: int) -> Ask:
    """Return the question about the rules in force and changed ones.

    `new` None: the rules in force are compared with what was recorded. Raises BadAsk.
    """
    names, sensors, baseline = wish.names, wish.sensors, wish.baseline
    changed = old if new is None else new
    for name in names:
        if name not in old and name not in changed:
            raise BadAsk(f"there is no trigger {name}; {known_names(name, {*old, *changed})}")
    if new is None and baseline == "in_force":
        raise BadAsk("without changed rules there is nothing to compare the rules in force with but the record")
    end = now if wish.until is None else min(wish.until, now)
    begin = end - WEEK if wish.since is None else wish.since
    if begin >= end:
        raise BadAsk("the time is empty: `since` does not lie before `until`, or lies in the future")
    chosen = list(dict.fromkeys(names)) or _differing(old, changed, everything=new is None or baseline == "recorded")
    listened = {
        source.sensor for name in chosen for rules in (old, changed) if name in rules for source in rules[name].on
    }
    for sensor in sensors:
        if sensor not in listened:
            raise BadAsk(f"no trigger in question listens to sensor {sensor}; {known_names(sensor, listened)}")
    return Ask(
        names=chosen,
        old=old,
        new=changed,
        since=max(0, begin),
        until=end,
        baseline=baseline or ("recorded" if new is None else "in_force"),
        sensors=tuple(sensors),
        limit=wish.limit,
        seconds=wish.seconds,
        samples=wish.samples,
    )


def _differing(old: Mapping[str, Trigger], new: Mapping[str, Trigger], *, everything: bool) -> list[str]:
    """Return the names of triggers that are not the same in both, in order: the changed rules' first."""
    names = dict.fromkeys([*new, *old])
    return [name for name in names if everything or old.get(name) != new.get(name)]
