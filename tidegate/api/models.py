"""What the API answers, part one: pages, events, decisions, dead letters, sensors, triggers.

Every field is always present; null says that there is none. Moments are RFC 3339 text in UTC.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from triggers.decision import Outcome

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Model(BaseModel):
    """The base of all answers."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class Paged(Model):
    """A page, newest first. Hand `cursor` back for the next one; null says that this is the last."""

    cursor: str | None


class EventRow(Model):
    """An event without its content. Identity is (sensor, id)."""

    uid: str
    sensor: str
    id: str
    source: str
    type: str
    subject: str | None
    time: Moment | None = Field(description="The source's own time.")
    received_at: Moment
    size: int = Field(description="Bytes of content.")
    content_type: str | None
    state: str = Field(description="`stored`, or `dead`: no rule could judge it; see the dead letters.")
    trace_id: str | None = Field(description="The trace of its processing.")


class EventPage(Paged):
    """Events."""

    items: list[EventRow]


class ChangeView(Model):
    """A change of the event: at `path` would have to stand `value`, or nothing."""

    path: list[str | int]
    value: Any
    remove: bool = Field(description="Nothing stands there; `value` means nothing then.")
    words: str


class ClauseView(Model):
    """A clause of a rule, such as the one that decided."""

    path: str
    text: str
    expected: str
    actual: str
    passed: bool | None = Field(default=None, description="Null: it was not asked, or only the deciding one is known.")
    parts: "list[ClauseView]" = Field(default_factory=list, description="Those that a condition is made of.")
    changes: list[ChangeView] = Field(
        default_factory=list,
        description="Of a clause that failed: what of the event, taken together, would turn it.",
    )


class DecisionRow(Model):
    """What one trigger concluded about one event (or several), and why."""

    uid: str
    trigger: str
    version: str
    events: list[str]
    outcome: Outcome
    at: Moment
    reason: str
    clause: ClauseView | None
    trigger_event: str | None
    run: str | None = Field(description="The run it started, or the one that stood in the way.")
    item: int | None = Field(description="Position in `each`.")
    sampled: bool
    details: dict[str, Any]


class DecisionPage(Paged):
    """Decisions."""

    items: list[DecisionRow]


class EventDetail(EventRow):
    """An event with its content and what came of it."""

    attributes: dict[str, str]
    match: dict[str, str] = Field(description="Captures of the sensor's pattern.")
    data: Any = Field(description="JSON as JSON, other content as text.")
    traceparent: str | None = Field(description="The producer's context.")
    trusted: bool
    depth: int
    cause_run: str | None
    decisions: list[DecisionRow] = Field(description="The newest 100 stored ones.")
    runs: list[str] = Field(description="Uids of the newest 100 runs it caused.")


class DeadLetterRow(Model):
    """A payload that could not become an event, or an event that no rule could judge."""

    uid: str
    sensor: str
    at: Moment
    reason: str
    detail: str
    position: str
    content_type: str | None
    event: str | None
    retried_at: Moment | None = Field(description="When it was tried again with success; null while it waits.")
    became: str | None = Field(description="The event or the replay that came of it.")


class DeadLetterPage(Paged):
    """Dead letters."""

    items: list[DeadLetterRow]


class DeadLetterDetail(DeadLetterRow):
    """A dead letter with its payload."""

    attributes: dict[str, str]
    payload: str | None = Field(description="The bytes as text, null where they are no UTF-8.")
    payload_base64: str
    size: int


class Shard(Model):
    """How far behind one shard (a partition of a topic) is that this process reads."""

    shard: str
    records: int | None = Field(description="Records still to be read.")
    seconds: float | None = Field(description="Age of the last record that was read; 0 when none is left.")
    last_success: Moment | None


class Health(Model):
    """How a sensor is. Totals count since the process started; `lag` is in the kind's own unit."""

    state: str = Field(description="`starting`, `healthy`, `unhealthy`, `paused`, `standby`, `stopped`, `disabled`.")
    reason: str
    since: Moment | None
    last_success: Moment | None
    events: int
    errors: int
    lag: float | None
    pause: str | None
    shards: list[Shard]


class SensorRow(Model):
    """A configured sensor."""

    name: str
    kind: str
    push: bool
    path: str | None = Field(description="A webhook's or folder's path.")
    enabled: bool
    tags: list[str]
    health: Health
    counts: dict[str, int] = Field(description="Exact numbers by outcome, over all replicas and restarts.")


class SensorList(Model):
    """All sensors, in the order of the configuration."""

    items: list[SensorRow]


class RefusalRow(Model):
    """A refused request, without its secrets: of the query the names alone, of the body what was asked to be kept."""

    at: Moment
    status: int
    code: str
    reason: str
    client: str
    method: str
    headers: dict[str, str]
    query: list[str]
    size: int | None
    body: str


class SensorDetail(SensorRow):
    """A sensor with what its door refused lately (this process)."""

    refusals: list[RefusalRow]


class SourceView(Model):
    """One entry of a trigger's `on`."""

    sensor: str
    types: list[str]
    filter: dict[str, Any] | None


class RunRuleView(Model):
    """One run that a trigger starts."""

    pipeline: str
    key: str | None
    partition: str | None
    lane: str | None
    key_scope: str


class TriggerRow(Model):
    """A configured trigger with exact counts of its decisions."""

    name: str
    enabled: bool
    paused: str | None
    version: str
    on: list[SourceView]
    when: str | None
    each: str | None
    repeat: str
    when_busy: str
    runs: list[RunRuleView]
    counts: dict[str, int]


class TriggerList(Model):
    """All triggers, in the order of the configuration."""

    items: list[TriggerRow]


class FindingRow(Model):
    """An object that an audit tells of."""

    key: str
    reason: str


class FindingList(Model):
    """Objects of one sort: how many, and the first hundred."""

    count: int
    first: list[FindingRow]


class SensorAudit(Model):
    """What a source holds, compared with what is remembered of it."""

    sensor: str
    listed: int = Field(description="Objects at the source, but for those whose names are left out.")
    remembered: int = Field(description="Objects that are believed to be there.")
    missing: FindingList = Field(description="Listed, wanted, and never seen.")
    extra: FindingList = Field(description="Remembered, and not there.")
    changed: FindingList = Field(description="Another version than remembered.")
    waiting: dict[str, int] = Field(description="Those that the sensor comes to by itself, by reason.")
    ignored: dict[str, int] = Field(description="Those that it leaves out, by reason; a folder counts once.")
    healed: int = Field(description="Those that were handed to the sensor to look at again.")
    problem: str | None = Field(description="Why not everything could be looked at; null when it could.")


class Pause(BaseModel):
    """How to pause: `hold` keeps what arrives for later, `drop` lets it go (counted)."""

    model_config = ConfigDict(extra="forbid")

    how: Literal["hold", "drop"] = "hold"
