"""How the flow of a trigger is controlled, as written: `sample`, `throttle`, `active`, `batch`, `debounce`.

Option models for YAML, and the plain values they become. What expressions and calendars make of it is checked by
`triggers.control_rule`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, model_validator

from config.patterns import Expression
from config.service_section import Options
from sensors.units import Duration, Size, parse_duration
from triggers.control import (
    MAX_BATCH,
    MAX_BYTES,
    Active,
    Batch,
    Control,
    Debounce,
    Keep,
    Over,
    Sample,
    Throttle,
    Window,
)

KEYS: Final = ("sample", "throttle", "active", "batch", "debounce")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_RATE: Final = re.compile(r"(\d{1,7})\s*/\s*(.+)")
_MAX_WAIT: Final = 10  # times `quiet`, unless it says something else


def _days(value: Any) -> Any:
    """Read `mon-fri`, `sat, sun` or a list of such into numbers; 0 is Monday."""
    words = [word.strip() for one in (value if isinstance(value, list) else [value]) for word in str(one).split(",")]
    found: set[int] = set()
    for word in words:
        first, dash, last = word.lower().partition("-")
        first, last = first.strip()[:3], (last.strip() or first.strip())[:3]
        if first not in _DAYS or last not in _DAYS or (dash and not word.partition("-")[2].strip()):
            raise ValueError(f"{word!r} is no day; write days such as `mon-fri`, or a list: [mon, wed, sat]")
        start, end = _DAYS.index(first), _DAYS.index(last)
        found.update(day % 7 for day in range(start, end + 1 if end >= start else end + 8))
    return sorted(found)


def _rate(value: Any) -> Any:
    """Read `10/1m` into events and microseconds; `10/m` says the same."""
    found = _RATE.fullmatch(str(value).strip())
    if found is None:
        raise ValueError("expected a rate such as 10/1m: events, and for how long")
    per = found[2].strip()
    seconds = parse_duration(per if per[:1].isdigit() else f"1{per}")
    return (int(found[1]), _micros(seconds))


Rate = Annotated[
    tuple[int, int],
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,7}\s*/\s*(\d+(\.\d+)?)?(ms|s|m|h|d)$"}),
]
Days = Annotated[
    tuple[int, ...],
    BeforeValidator(_days),
    WithJsonSchema({"type": ["string", "array"], "items": {"type": "string"}}),
]


class SampleOptions(Options):
    """A part of the events, chosen by their identity: redelivery and replicas agree."""

    every: int | None = Field(default=None, ge=2, le=1_000_000)
    rate: float | None = Field(default=None, gt=0, lt=1)


class ThrottleOptions(Options):
    """So many events go on per time and key; the others are dropped, or wait in line."""

    rate: Rate = Field(description="events per time, such as 10/1m")
    burst: int | None = Field(default=None, ge=1, le=1_000_000)
    by: Expression | None = None
    over: Over = Over.DROP


class WindowOptions(Options):
    """One window: days and times, or a `cron` expression and `for` how long."""

    days: Days | None = None
    from_: str | None = Field(default=None, alias="from")
    until: str | None = None
    cron: str | None = None
    length: Duration | None = Field(default=None, alias="for")

    @model_validator(mode="after")
    def _one_kind(self) -> "WindowOptions":
        local = [name for name in ("days", "from_", "until") if getattr(self, name) is not None]
        if self.cron is not None and local:
            raise ValueError("`cron` stands beside days and times; a window is one or the other")
        if (self.cron is None) != (self.length is None):
            raise ValueError("`cron` needs `for`: how long the window stays open; and `for` needs `cron`")
        return self


class ActiveOptions(WindowOptions):
    """When events go on: one window, or several as `windows`."""

    windows: tuple[WindowOptions, ...] = ()
    timezone: str = "UTC"
    outside: Over = Over.DROP

    @model_validator(mode="after")
    def _some(self) -> "ActiveOptions":
        own = any(value is not None for value in (self.days, self.from_, self.until, self.cron))
        if own == bool(self.windows):
            raise ValueError("say when once: days and times, `cron` with `for`, or a list of such as `windows`")
        return self


class BatchOptions(Options):
    """Events of one key go into one run together, which gets them as `events`."""

    count: int = Field(default=MAX_BATCH, ge=1, le=MAX_BATCH)
    bytes: Annotated[Size, Field(ge=1, le=MAX_BYTES)] = MAX_BYTES
    within: Annotated[Duration, Field(gt=0)] = Field(description="a duration such as 5m: no event waits longer")
    by: Expression | None = None


class DebounceOptions(Options):
    """A run when a key has been quiet, which gets its `events`."""

    quiet: Annotated[Duration, Field(gt=0)] = Field(description="a duration such as 30s")
    max_wait: Annotated[Duration, Field(gt=0)] | None = None
    by: Expression | None = None
    keep: Keep = Keep.ALL


def control_of(
    sample: SampleOptions | None,
    throttle: ThrottleOptions | None,
    active: ActiveOptions | None,
    batch: BatchOptions | None,
    debounce: DebounceOptions | None,
) -> Control | None:
    """Return the control of a trigger, None for one whose events all go on as they come."""
    if all(one is None for one in (sample, throttle, active, batch, debounce)):
        return None
    gather: Batch | Debounce | None = None
    if batch is not None:
        gather = Batch(within=_micros(batch.within), count=batch.count, bytes=batch.bytes, by=batch.by)
    elif debounce is not None:
        gather = _debounce(debounce)
    return Control(
        sample=None if sample is None else Sample(every=sample.every, rate=sample.rate),
        throttle=None if throttle is None else _throttle(throttle),
        active=None if active is None else _active(active),
        gather=gather,
    )


def _throttle(options: ThrottleOptions) -> Throttle:
    events, per = options.rate
    burst = events if options.burst is None else options.burst
    return Throttle(events=events, per=per, burst=burst, by=options.by, over=options.over)


def _active(options: ActiveOptions) -> Active:
    windows: Sequence[WindowOptions] = options.windows or (options,)
    return Active(windows=tuple(_window(one) for one in windows), timezone=options.timezone, outside=options.outside)


def _window(options: WindowOptions) -> Window:
    if options.cron is not None:
        return Window(cron=options.cron, length=_micros(options.length or 0.0))
    days = tuple(range(7)) if options.days is None else options.days
    return Window(days=days, start=options.from_ or "00:00", end=options.until or "24:00")


def _debounce(options: DebounceOptions) -> Debounce:
    quiet = _micros(options.quiet)
    wait = quiet * _MAX_WAIT if options.max_wait is None else _micros(options.max_wait)
    return Debounce(quiet=quiet, max_wait=wait, by=options.by, keep=options.keep)


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "sample": SampleOptions,
    "throttle": ThrottleOptions,
    "active": ActiveOptions,
    "batch": BatchOptions,
    "debounce": DebounceOptions,
}
