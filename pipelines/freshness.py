"""When data is stale: by its age, or because it was due. Pure: moments in, moments out, UTC microseconds.

A `due` calendar asks at each of its ticks: has the data been updated since the tick before (or within `window` before
this one)? `grace` is how much later it may come. Ticks are local to a time zone, with its changes of the clock. Data
that was never updated is judged as if it had been when it was first watched: a new watch does not begin with an alarm.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sensors.adapters.schedule_times import Cron, before, zone_of
from sensors.clock import SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "m"), (1.0, "s"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How fresh data must be. Times in seconds; `window` None: since the tick before."""

    max_age: float | None = None
    due: str | None = None
    timezone: str = "UTC"
    grace: float = 0.0
    window: float | None = None

    def words(self) -> str:
        """Return what is expected, in words."""
        wanted = []
        if self.max_age is not None:
            wanted.append(f"no older than {lasting(self.max_age)}")
        if self.due is not None:
            within = f" of the {lasting(self.window)} before" if self.window is not None else ""
            wanted.append(f"an update{within} by each tick of `{self.due}` ({self.timezone})")
        grace = f", give or take {lasting(self.grace)}" if self.grace else ""
        return " and ".join(wanted) + grace


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether data is fresh; `stale_since` when it is not; `until` is when to judge it again (None: no need)."""

    fresh: bool
    reason: str = ""
    stale_since: int | None = None
    until: int | None = None


def judge(rule: Rule, updated: int | None, now: int, *, since: int) -> Judged:
    """Judge data that was last updated at `updated` (None: never), watched since `since`."""
    found = [
        judged
        for judged in (_by_age(rule, updated, now, since), _by_calendar(rule, updated, now, since))
        if judged is not None
    ]
    stale = [judged for judged in found if not judged.fresh]
    until = min((judged.until for judged in found if judged.until is not None), default=None)
    if not stale:
        return Judged(True, until=until)
    first = min(stale, key=lambda judged: judged.stale_since or 0)
    return Judged(False, "; ".join(judged.reason for judged in stale), first.stale_since, until)


def _by_age(rule: Rule, updated: int | None, now: int, since: int) -> Judged | None:
    if rule.max_age is None:
        return None
    begun = since if updated is None else updated
    limit = begun + round((rule.max_age + rule.grace) * SECOND)
    if now <= limit:
        return Judged(True, until=limit + 1)
    age = lasting((now - begun) / SECOND)
    what = f"was never updated in {age}" if updated is None else f"{age} old"
    return Judged(False, f"{what}, allowed are {lasting(rule.max_age)}", limit)


def _by_calendar(rule: Rule, updated: int | None, now: int, since: int) -> Judged | None:
    if rule.due is None:
        return None
    grace = round(rule.grace * SECOND)
    times = Cron(rule.due, zone_of(rule.timezone))
    following = times.after(now - grace)
    until = None if following is None else following + grace
    tick = before(times, now - grace + 1)
    if tick is None:
        return Judged(True, until=until)
    if updated is None:
        late = tick > since
    elif rule.window is not None:
        late = updated < tick - round(rule.window * SECOND)
    else:
        earlier = before(times, tick)
        late = earlier is not None and updated <= earlier + grace
    if not late:
        return Judged(True, until=until)
    due = told(tick, rule.timezone)
    last = "never before" if updated is None else f"last at {told(updated, rule.timezone)}"
    return Judged(False, f"an update was due at {due}, it was updated {last}", tick + grace, until)


def told(at: int, timezone: str = "UTC") -> str:
    """Return a moment in words: to the second, with its offset."""
    moment = _EPOCH + timedelta(seconds=at // SECOND)
    return moment.astimezone(zone_of(timezone)).isoformat().replace("+00:00", "Z")


def lasting(seconds: float) -> str:
    """Return a duration in words, its two largest units: `26h`, `1d 2h`, `90s` as `1m 30s`."""
    rest = round(seconds)
    if rest < 1:
        return f"{round(seconds * 1000)}ms"
    parts = []
    for size, unit in _UNITS:
        whole, rest = divmod(rest, int(size))
        if whole:
            parts.append(f"{whole}{unit}")
    return " ".join(parts[:2])
