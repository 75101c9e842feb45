"""What a back-test is asked and what it answers: plain frozen data, the same over the API, in a process and offline.

Moments are UTC microseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from triggers.trigger import Trigger

EventRow = Sequence[Any]  # the columns of `store.rows.EVENT`
Baseline = Literal["in_force", "recorded"]
LIMIT = 1_000_000  # events that are judged, unless told otherwise
SECONDS = 300.0
SAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Rules to try on the past.

    `old` are the rules in force and `new` the changed ones, by name; what is compared are the triggers `names`.
    `baseline` says against what: the old rules judged anew, or what was recorded when the events came. Events were
    received from `since` up to, not including, `until`; with `sensors` only theirs count. `events` are judged instead
    of stored ones (a source's own history). It ends after `limit` events or `seconds`, whatever comes first.
    """

    names: Sequence[str]
    old: Mapping[str, Trigger]
    new: Mapping[str, Trigger]
    since: int
    until: int
    baseline: Baseline = "in_force"
    sensors: Sequence[str] = ()
    limit: int = LIMIT
    seconds: float = SECONDS
    samples: int = SAMPLES
    events: Sequence[EventRow] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why the other side did not fire: its outcome, its reason, and the clause that decided, where one did."""

    outcome: str
    reason: str
    clause: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """A run that would be asked for. `key` None: the trigger event's own uid; `group` is the key of a pattern."""

    pipeline: str
    at: int
    events: Sequence[str]
    key: str | None = None
    partition: str | None = None
    lane: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    about: str | None = None  # type and subject of the event that completed it


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A firing of one side only, and why the other has none."""

    firing: Firing
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A firing of both sides that asks for another run. `fields` name what differs: (before, after)."""

    firing: Firing
    fields: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """An event on which the new rule fails."""

    events: Sequence[str]
    at: int
    why: Why


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """How many of the firings of one side only go back to one clause (or, without one, to one outcome)."""

    outcome: str
    clause: str | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerDiff:
    """What one trigger would do differently.

    `versions` are those of the two rules (None: there is none). `before` and `after` are exact counts by outcome. Of
    `gained`, `lost`, `changed` and `failing` there are samples; `gained_why` and `lost_why` go back to the first
    `explained` of each.
    """

    trigger: str
    versions: tuple[str | None, str | None]
    events: int
    before: Mapping[str, int]
    after: Mapping[str, int]
    same: int
    gained: int
    lost: int
    changed: int
    gained_samples: Sequence[Flip] = ()
    lost_samples: Sequence[Flip] = ()
    changed_samples: Sequence[Changed] = ()
    failing_samples: Sequence[Failing] = ()
    gained_why: Sequence[Reason] = ()
    lost_why: Sequence[Reason] = ()
    explained: int = 0

    @property
    def differs(self) -> bool:
        """Say whether anything would be different."""
        return bool(self.gained or self.lost or self.changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The answer. `stopped` says why not all events were judged (None: all were); `reached` is how far it came.

    `warm_from` is from where on events were read so that keys that were open at `since` are known (None: not needed).
    `early` counts firings that were told before the other side had its last chance, because too many waited.
    """

    baseline: Baseline
    since: int
    until: int
    reached: int
    events: int
    triggers: Sequence[TriggerDiff]
    stopped: str | None = None
    warm_from: int | None = None
    early: int = 0
    seconds: float = 0.0

    @property
    def differs(self) -> bool:
        """Say whether anything would be different."""
        return any(one.differs for one in self.triggers)
