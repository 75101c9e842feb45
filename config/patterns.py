"""What triggers may wait for, as written: `join`, `sequence`, `count`, `absent`, and what happens when it is overdue.

Option models for YAML, and the plain patterns they become. What expressions and calendars make of it is checked by
`triggers.pattern_rule`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from config.service_section import Options
from sensors.units import Duration
from triggers.pattern import REMEMBER, Absence, Count, Join, Late, Opens, Part, Pattern, Source, Take

KEYS: Final = ("join", "sequence", "count", "absent")
_PART: Final = r"^[A-Za-z_][A-Za-z0-9_-]{0,99}$"
_FROM_NOW: Final = "a duration such as 6h"


def one_or_many(value: Any) -> Any:
    """Let a single value stand for a list of it."""
    return value if isinstance(value, list) or value is None else [value]


def _expression(value: Any) -> Any:
    """Take YAML's own constants for CEL's; the evaluator reads a whole `${{ … }}` as its inside."""
    if isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value


Expression = Annotated[
    str, BeforeValidator(_expression), Field(min_length=1, max_length=8_192, description="a CEL expression")
]


class SourceOptions(Options):
    """One entry of `on`."""

    sensor: str = Field(description="the name of a sensor")
    type: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    types: Annotated[tuple[str, ...], BeforeValidator(one_or_many)] = ()
    filter: Mapping[str, Any] | None = None


class RunOptions(Options):
    """One entry of `run`."""

    pipeline: str = Field(description="the name of a pipeline")
    params: Mapping[str, Any] = Field(default_factory=dict)
    key: Expression | None = None
    partition: Expression | None = None
    lane: Expression | None = None
    key_scope: Literal["trigger", "pipeline"] = "trigger"
    priority: int = Field(default=0, ge=0, le=9)


class PartOptions(SourceOptions):
    """One part: what to listen to, `by` which key it meets the other parts, and which event counts."""

    by: Expression | None = None
    when: Expression | None = None
    take: Take = Take.FIRST


class _Timed(Options):
    by_time: Literal["received", "event"] = "received"
    lateness: Duration | None = None

    @model_validator(mode="after")
    def _stated(self) -> "_Timed":
        if self.by_time == "event" and self.lateness is None:
            raise ValueError("`by_time: event` needs a `lateness`: how much later than its time an event may come")
        if self.by_time == "received" and self.lateness is not None:
            raise ValueError("`lateness` is for `by_time: event`; events are not late by the time at which they came")
        return self

    @property
    def late_by(self) -> int | None:
        """Return the lateness in microseconds, None for windows on received time."""
        return None if self.lateness is None else _micros(self.lateness)


class OpensOptions(Options):
    """The calendar of a join: at each tick of `cron` the key that `key` names is opened."""

    cron: str = Field(description='five fields such as "0 0 * * 1-5"')
    key: Expression = Field(description='a CEL expression over `now`, such as day(now, "Europe/Oslo")')


class SequenceOptions(_Timed):
    """Parts that follow one another, in the order in which they are written."""

    of: Mapping[Annotated[str, Field(pattern=_PART)], PartOptions] = Field(
        description="a map of parts: {order: {sensor: …, by: …}, payment: {sensor: …, by: …}}"
    )
    within: Duration | None = None
    until: str | None = None
    timezone: str = "UTC"
    late: Late = Late.IGNORE
    remember: Duration = 0.0


class JoinOptions(SequenceOptions):
    """Parts that belong together by key, in whatever order they come."""

    opens: OpensOptions | None = None
    require: Annotated[str, BeforeValidator(_expression), Field(json_schema_extra={"type": ["string", "integer"]})] = (
        "all"
    )
    remember: Duration = REMEMBER / 1e6


class CountOptions(_Timed, SourceOptions):
    """So many events of one key within a sliding window."""

    by: Expression | None = None
    when: Expression | None = None
    reach: int = Field(ge=2, le=5_000, description="a number from 2 to 5000")
    within: Annotated[Duration, Field(gt=0)] = Field(description=_FROM_NOW)


class AfterOptions(SourceOptions):
    """What has to be followed."""

    by: Expression | None = None
    when: Expression | None = None


class AbsentOptions(SourceOptions):
    """An event that ought to come, and does not."""

    by: Expression | None = None
    when: Expression | None = None
    silence: Annotated[Duration, Field(gt=0)] = Field(alias="for", description=_FROM_NOW)
    after: AfterOptions | None = None


class OverdueOptions(Options):
    """What happens when a key of a join is overdue, beside the decision and the own event."""

    alert: bool = True
    run: Annotated[tuple[RunOptions, ...], BeforeValidator(one_or_many)] = ()


def pattern_of(
    join: JoinOptions | None,
    sequence: SequenceOptions | None,
    count: CountOptions | None,
    absent: AbsentOptions | None,
    overdue: OverdueOptions | None,
) -> Pattern | None:
    """Return the pattern of a trigger, None for one that listens to single events."""
    if join is not None:
        opens = None if join.opens is None else Opens(cron=join.opens.cron, key=join.opens.key)
        return _join(join, overdue, opens=opens, require=join.require)
    if sequence is not None:
        return _join(sequence, overdue, in_order=True)
    if count is not None:
        return Count(
            part=_part(count.sensor, count, Take.ALL),
            reach=count.reach,
            within=_micros(count.within),
            lateness=count.late_by,
        )
    if absent is not None:
        name = absent.sensor
        after = absent.after
        begins = None if after is None else _part(after.sensor if after.sensor != name else "after", after, Take.ALL)
        return Absence(part=_part(name, absent, Take.LATEST), silence=_micros(absent.silence), after=begins)
    return None


def source_of(options: SourceOptions) -> Source:
    """Return what is listened to."""
    return Source(sensor=options.sensor, types=(*options.type, *options.types), filter=options.filter)


def _join(options: SequenceOptions, overdue: OverdueOptions | None, **more: Any) -> Join:
    return Join(
        parts=tuple(_part(name, part, part.take) for name, part in options.of.items()),
        within=None if options.within is None else _micros(options.within),
        until=options.until,
        timezone=options.timezone,
        late=options.late,
        remember=_micros(options.remember),
        lateness=options.late_by,
        overdue_alert=overdue is None or overdue.alert,
        **more,
    )


def _part(name: str, options: PartOptions | CountOptions | AfterOptions | AbsentOptions, take: Take) -> Part:
    return Part(name=name, source=source_of(options), by=options.by, when=options.when, take=take)


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "join": JoinOptions,
    "sequence": SequenceOptions,
    "count": CountOptions,
    "absent": AbsentOptions,
}
