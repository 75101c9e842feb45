"""How the flow of matched events is controlled: sample, throttle, active windows, batch or debounce. Plain frozen data.

The order is always the same: match, `when`, sample, throttle, active, batch or debounce, and then what is busy.
Durations are microseconds, sizes bytes. `triggers.control_rule` compiles it; `triggers.rate`, `triggers.active`,
`triggers.batching` and `triggers.debounce` say what each does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_BATCH = 5_000  # events that one run gets
MAX_BYTES = 64 * 1024 * 1024  # content of all of them
MAX_HELD = 100_000  # events that one gate holds under one key
MAX_WINDOWS = 50


class Over(StrEnum):
    """What becomes of an event for which a gate has no room."""

    DROP = "drop"  # nothing starts; the decision says so
    HOLD = "hold"  # it waits in line and goes on later, in order


class Keep(StrEnum):
    """Which events of a debounced key count."""

    ALL = "all"
    LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One event of `every` goes on, or the share `rate` of them: which, follows from the event's identity alone."""

    every: int | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """`events` per `per` go on for each key (`by`, CEL), evenly refilled; `burst` at once at most."""

    events: int
    per: int
    burst: int
    by: str | None = None
    over: Over = Over.DROP


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When events go on: on `days` (0 is Monday) from `start` until `end`, local `HH:MM`, perhaps past midnight.

    With `cron` instead: from each of its ticks, for `length`.
    """

    days: Sequence[int] = (0, 1, 2, 3, 4, 5, 6)
    start: str = "00:00"
    end: str = "24:00"
    cron: str | None = None
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """Windows, any of which lets events through, by the clock of `timezone`."""

    windows: Sequence[Window]
    timezone: str = "UTC"
    outside: Over = Over.DROP


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events of one key (`by`, CEL) together in one run: at most `count` and `bytes`, `within` after the first."""

    within: int
    count: int = MAX_BATCH
    bytes: int = MAX_BYTES
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Debounce:
    """A run when a key (`by`, CEL) has been `quiet` for so long, at the latest `max_wait` after its first event."""

    quiet: int
    max_wait: int
    by: str | None = None
    keep: Keep = Keep.ALL


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """All of it, in its order. `gather` makes one run of several events."""

    sample: Sample | None = None
    throttle: Throttle | None = None
    active: Active | None = None
    gather: Batch | Debounce | None = None
