"""Schedules: ticks of a cron line on the clock of a place, or of an interval.

Nothing flows in but time; out flows one event per tick, in order, with the instant it was due as its id: the same
whichever process tells of it, however often the clock is set back. The position (up to which instant everything was
dealt with) is stored with the events.

A tick that comes more than `grace` late was missed: the process was away, or the clock was set forward. `catch_up` says
what becomes of those; what is left out is counted as `missed`.
"""

import hashlib
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

import orjson
from pydantic import Field, model_validator

from sensors.adapters.schedule_times import Cron, Every, Times, before, rfc3339, zone_of
from sensors.batch import Batch, Cursor
from sensors.clock import SECOND, Clock
from sensors.errors import NotConnected
from sensors.event import Event
from sensors.kind import Emits, SensorContext, SensorKind, SensorOptions
from sensors.polling import Alarm
from sensors.ports import Lookup, Prefilter, WantsAll
from sensors.sensor import Sensor
from sensors.uid import EVENT, new_uid
from sensors.units import Duration, format_duration

TICK: Final = "schedule.tick"
MISSED: Final = "missed"  # the counter's outcome
SHARD: Final = ""
REMEMBER: Final = 30 * 86_400.0  # the clock may be set back by as much without a tick being told twice
_VERSION: Final = 1
_LOOK: Final = 15.0  # seconds after which the wall clock is looked at again: it may have been set
_SLICE: Final = 1_000  # ticks that are gone through before others on the loop have their turn
_BATCH: Final = 500


class ScheduleOptions(SensorOptions):
    """Options of `kind: schedule`."""

    undefaulted: ClassVar[frozenset[str]] = frozenset({"every"})  # there it is how often others look at their source

    kind: Literal["schedule"] = "schedule"
    cron: str | None = Field(
        None, max_length=200, description="minute, hour, day, month and weekday, such as `0 6 * * 1-5`; or `@daily`"
    )
    timezone: str | None = Field(None, description="whose clock `cron` goes by, such as Europe/Oslo; by default UTC")
    every: Duration | None = Field(
        None, ge=1, le=366 * 86_400, description="instead of `cron`: whole multiples of this since 1970, UTC"
    )
    catch_up: Literal["all", "latest", "none"] = Field(
        "latest", description="which of the ticks that were missed while the service was away are told afterwards"
    )
    catch_up_limit: int = Field(100, ge=1, le=10_000, description="`all` tells at most so many, the newest")
    grace: Duration = Field(60.0, ge=1, description="a tick that is not later than this was not missed")
    jitter: Duration = Field(
        0.0, le=86_400, description="tell each tick up to this much later, by an amount that only its instant decides"
    )

    @model_validator(mode="after")
    def _one_schedule(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError("needs either `cron` or `every`; write one such as cron: 0 6 * * 1-5")
        if self.every is not None and self.timezone is not None:
            raise ValueError("`timezone` has no effect on `every`, which counts from 1970 in UTC; take it out")
        if self.every is not None and self.jitter >= self.every:
            raise ValueError("`jitter` must be shorter than `every`")
        return self


@dataclass(frozen=True, slots=True)
class _Due:
    """The ticks that are due: those to tell of, in order, how many were missed, and the last one dealt with."""

    ticks: Sequence[int]
    missed: int
    upto: int


class Schedule:
    """The pull sensor. See the module's docstring; the runner calls it, one call at a time."""

    def __init__(self, options: ScheduleOptions, context: SensorContext) -> None:
        self._options = options
        self._sensor = context.name
        self._source = f"schedule://{context.service}/{context.name}"
        self._clock: Clock = context.clock
        self._zone = zone_of(options.timezone or "UTC")
        self._times: Times
        if options.every is not None:
            self._times, self._rule = Every(options.every), f"every {format_duration(options.every)}"
        else:
            line = options.cron or ""
            self._times, self._rule = Cron(line, self._zone), f"{line} {options.timezone or 'UTC'}"
        self._jitter = round(options.jitter * SECOND)
        self._alarm = Alarm(context.clock)
        self._after = 0  # every tick up to this instant was dealt with
        self._waiting: deque[int] = deque()  # ticks that were found due and are still to be told of
        self._missed = 0
        self._upto = 0
        self._greeting: Batch | None = None

    # -- the sensor contract ------------------------------------------------------------------------------------------
    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Go on after the tick that was dealt with last; a new or changed schedule begins now."""
        self._waiting.clear()
        self._missed = 0
        stored = _read(cursors.get(SHARD))
        if stored is None or (stored[1] != self._rule and self._options.cursor != "keep"):
            self._after = self._clock.now()
            self._greeting = Batch(cursors=(self._cursor(self._after),))
        else:
            self._after, self._greeting = stored[0], Batch()  # says at once that it works

    async def read(self) -> Batch:
        """Wait for the next tick, a while at most, and tell of what is due."""
        if self._greeting is not None:
            batch, self._greeting = self._greeting, None
            return batch
        if not self._waiting:
            await self._alarm.wait(min(_LOOK, self._patience()))
            self._take(await self._due())
        return self._told()

    async def close(self) -> None:
        """Do nothing: time is not let go of."""

    def poll(self) -> None:
        """Look at the clock now."""
        self._alarm.ring()

    async def peek(self, cursors: Mapping[str, Cursor], lookup: Lookup, limit: int) -> Batch:
        """Return what is due, then the ticks to come."""
        await self.connect(cursors, lookup, WantsAll())
        due = await self._due()
        ticks = list(due.ticks)[:limit]
        last = due.upto
        while len(ticks) < limit and (tick := self._times.after(last)) is not None:
            ticks.append(tick)
            last = tick
        return Batch(events=[self._event(tick) for tick in ticks])

    # -- what is due --------------------------------------------------------------------------------------------------
    def _patience(self) -> float:
        tick = self._times.after(self._after)
        return _LOOK if tick is None else max(0.0, (self._told_at(tick) - self._clock.now()) / SECOND)

    def _told_at(self, tick: int) -> int:
        """Return when a tick is told: at its instant, or later by what sensor and instant decide."""
        if not self._jitter:
            return tick
        digest = hashlib.blake2b(f"{self._sensor}\n{tick}".encode(), digest_size=8).digest()
        return tick + int.from_bytes(digest, "big") % (self._jitter + 1)

    async def _due(self) -> _Due:
        """Go through the ticks since the last one that was dealt with, and choose."""
        options, now, grace = self._options, self._clock.now(), round(self._options.grace * SECOND)
        if self._after > now + grace:  # the clock was set back: ids drop what was told of already
            self._after = now
        late: deque[int] = deque(maxlen={"all": options.catch_up_limit, "latest": 1, "none": 0}[options.catch_up])
        timely: list[int] = []
        upto, seen, n = self._after, 0, 0
        while (tick := self._times.after(upto)) is not None and (told_at := self._told_at(tick)) <= now:
            upto = tick
            if now - told_at > grace:
                late.append(tick)
                seen += 1
            else:
                timely.append(tick)
            n += 1
            if n % _SLICE == 0:
                await self._clock.sleep(0)
        if options.catch_up == "latest" and timely:  # the newest one is on time
            late.clear()
        return _Due((*late, *timely), seen - len(late), upto)

    def _take(self, due: _Due) -> None:
        self._waiting.extend(due.ticks)
        self._missed, self._upto = due.missed, due.upto

    def _told(self) -> Batch:
        """Return the next of the due ticks as events, with the position behind them."""
        ticks = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        after = ticks[-1] if self._waiting else self._upto
        if after == self._after:
            return Batch()
        counts = {MISSED: self._missed} if self._missed else {}
        self._missed, self._after = 0, after
        return Batch(
            events=[self._event(tick) for tick in ticks],
            cursors=(self._cursor(after),),
            counts=counts,
            dedup_for=REMEMBER,
        )

    def _event(self, tick: int) -> Event:
        now = self._clock.now()
        previous, following = before(self._times, tick), self._times.after(tick)
        data: dict[str, Any] = {
            "scheduled": rfc3339(tick),
            "previous": None if previous is None else rfc3339(previous),
            "next": None if following is None else rfc3339(following),
            "local": rfc3339(tick, self._zone).replace("Z", "+00:00"),
            "timezone": self._options.timezone or "UTC",
            "late_by": round(max(0, now - tick) / SECOND, 6),
            "caught_up": now - self._told_at(tick) > round(self._options.grace * SECOND),
        }
        return Event(
            sensor=self._sensor,
            id=rfc3339(tick),
            uid=new_uid(EVENT, now),
            source=self._source,
            type=TICK,
            received_at=now,
            time=tick,
            data=orjson.dumps(data),
            content_type="application/json",
        )

    def _cursor(self, after: int) -> Cursor:
        value = {"v": _VERSION, "after": after, "rule": self._rule}
        return Cursor(SHARD, json.dumps(value, separators=(",", ":")))


def _read(cursor: Cursor | None) -> tuple[int, str] | None:
    """Return the stored instant and the schedule that it belongs to."""
    if cursor is None:
        return None
    try:
        value = json.loads(cursor.value)
        if value["v"] != _VERSION:
            raise ValueError(f"version {value['v']}")
        return int(value["after"]), str(value["rule"])
    except (ValueError, KeyError, TypeError) as error:
        raise NotConnected(
            f"the stored position has another form than version {_VERSION} ({error}); "
            "was it written by a newer version?"
        ) from error


def build(options: ScheduleOptions, context: SensorContext) -> Sensor:
    """Make the sensor. Raises ValueError for a cron line that is none, and a time zone that does not exist."""
    return Schedule(options, context)


KIND = SensorKind(
    name="schedule",
    help="ticks of a cron line in a time zone, or of an interval",
    options=ScheduleOptions,
    build=build,
    single=True,
    emits=Emits(
        types={TICK: "the schedule is due"},
        subject="none",
        time="the instant at which it was due",
        data="JSON: scheduled, previous, next (RFC 3339, UTC; null where there is none), local (scheduled, on the "
        "clock of the time zone), timezone, late_by (seconds), caught_up (it was missed, and is told afterwards)",
        attributes="none",
        sample={
            "id": "2026-01-30T05:00:00Z",
            "source": "schedule://orders-gate/weekdays",
            "type": TICK,
            "time": "2026-01-30T05:00:00Z",
            "content_type": "application/json",
            "data": {
                "scheduled": "2026-01-30T05:00:00Z",
                "previous": "2026-01-29T05:00:00Z",
                "next": "2026-02-02T05:00:00Z",
                "local": "2026-01-30T06:00:00+01:00",
                "timezone": "Europe/Oslo",
                "late_by": 0.004,
                "caught_up": False,
            },
        },
    ),
)
