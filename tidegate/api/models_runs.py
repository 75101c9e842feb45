"""What the API answers, part two: runs, tasks, logs, pipelines, datasets, lineage, health; and what it is asked."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from pipelines.run import RunState, TaskState
from sensors.event import storable_text
from tidegate.api.models import EventRow, Health, Model, Moment, Paged
from tidegate.api.models_alerts import Undelivered
from tidegate.api.models_checks import CheckView, State


def _storable(text: str) -> str:
    if not storable_text(text):
        raise ValueError("must hold neither NUL nor lone surrogates")
    return text


Text = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00]*$"), AfterValidator(_storable)]


class RunRow(Model):
    """A run without its tasks."""

    uid: str
    pipeline: str
    state: RunState
    key: str
    generation: int
    trigger: str | None = Field(description="Null: started by hand.")
    trigger_event: str | None
    partition: str | None
    lane: str | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    duration: float | None = Field(description="Seconds from start to end.")
    error: str | None
    cancel_reason: str | None
    resumed_from: str | None
    trace_id: str | None


class RunPage(Paged):
    """Runs."""

    items: list[RunRow]


class TaskView(Model):
    """One task of a run."""

    uid: str
    task: str
    partition: str
    state: TaskState
    needs: list[str]
    engine: str
    attempt: int
    failures: int
    lost: int = Field(description="Attempts whose holder died; they count as no retry.")
    started_at: Moment | None
    finished_at: Moment | None
    next_at: Moment | None
    duration: float | None
    output: Any
    error: str | None
    error_kind: str | None
    cpu_seconds: float | None
    peak_rss_bytes: int | None
    slices: dict[str, int] = Field(description="Of a task that fans out: how many partitions there are, by state.")


class SlicePage(Paged):
    """Slices of the tasks of a run that fan out, in the order of their elements."""

    items: list[TaskView]


class RunDetail(RunRow):
    """A run with its parameters, its causing events and its tasks. Slices have a list of their own."""

    params: dict[str, Any]
    depth: int
    definition: str
    config_hash: str
    span_id: str | None
    events: list[EventRow] = Field(description="The first 100 causing events, in order.")
    event_count: int
    tasks: list[TaskView]
    checks: list[CheckView] = Field(default_factory=list, description="What checks found, in order.")


class LogRow(Model):
    """One line of a log."""

    at: Moment
    task: str
    attempt: int
    stream: str
    text: str


class LogPage(Model):
    """Lines in order. Hand `after` back for those that follow; `final`: the run has ended, no more will come."""

    lines: list[LogRow]
    after: int
    final: bool


class StartRun(BaseModel):
    """A run wanted by a person. With a `key`, a second start answers the first one's run."""

    model_config = ConfigDict(extra="forbid")

    pipeline: Text
    params: dict[str, Any] = Field(default_factory=dict)
    partition: Text | None = None
    key: Text | None = None


class CancelRun(BaseModel):
    """Why a run shall stop."""

    model_config = ConfigDict(extra="forbid")

    reason: Text = "cancelled by an operator"


class ResumeRuns(BaseModel):
    """Which runs shall go on: those that ended `status` and were created within [since, until)."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["failed", "cancelled"] = "failed"
    since: AwareDatetime
    until: AwareDatetime | None = None
    pipeline: Text | None = None
    dry_run: bool = False


class NotResumed(Model):
    """A run that cannot go on, and why."""

    run: str
    reason: str


class Resumed(Model):
    """What a bulk resume did, or would do. `more`: there were over 1,000; ask again."""

    dry_run: bool
    matched: list[str]
    resumed: list[str]
    refused: list[NotResumed]
    more: bool


class RunStateAnswer(Model):
    """A run's state after a request."""

    uid: str
    state: RunState


class ParamView(Model):
    """A declared parameter."""

    type: str
    required: bool
    default: Any


class PipelineTask(Model):
    """A node of a pipeline; its options stay out of the API."""

    name: str
    engine: str
    needs: list[str]
    outputs: list[str]
    timeout: float
    retries: int
    upstream: str
    on_failure: str
    when: str | None
    partitions: str | int | None = Field(description="The expression that it fans out over, or how many there are.")
    per: str | None
    max_parallel: int | None
    pools: list[str]


class PipelineView(Model):
    """A configured pipeline. `params` null: it takes any."""

    name: str
    hash: str
    concurrency: int
    max_tasks: int
    timeout: float | None
    tags: list[str]
    params: dict[str, ParamView] | None
    tasks: list[PipelineTask]
    waiting: dict[str, int] = Field(description="Runs that have not ended, by state.")


class PipelineList(Model):
    """All pipelines, in the order of the configuration."""

    items: list[PipelineView]


class DatasetRow(Model):
    """A dataset with its last write, or one write (or read) of it."""

    namespace: str
    name: str
    run: str
    task: str
    at: Moment
    mode: str
    rows: int | None
    bytes: int | None
    version: str | None
    fields: list[tuple[str, str]] = Field(description="Columns as (name, type).")
    dataset: str | None = Field(description="Its name in `datasets`, if it has one.")
    disposition: str | None = Field(description="How it was written: replace, append, merge or soft_delete.")
    partition: str | None
    changes: dict[str, Any] = Field(
        description="Of the columns against those before: `added`, `removed`, `retyped`; `created`: there were none."
    )
    freshness: State | None = Field(default=None, description="How fresh it is; null: that is not watched.")
    checks: Literal["passed", "warned", "failed"] | None = Field(
        default=None, description="What its latest checks found; null: there were none."
    )


class DatasetHistory(Paged):
    """A dataset, and what was written to it and read of it, the newest first. `last` is its last write."""

    last: DatasetRow
    items: list[DatasetRow]


class DatasetPage(Paged):
    """Datasets."""

    items: list[DatasetRow]


class Node(Model):
    """A node of the lineage: `kind` is event, decision, trigger_event, run, task, dataset, or stub (pruned)."""

    uid: str
    kind: str
    label: str
    details: dict[str, Any]


class Edge(Model):
    """What led to what."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    source: str = Field(alias="from")
    target: str = Field(alias="to")
    kind: str
    rows: int | None = Field(default=None, description="Of `wrote`: how many rows this run wrote.")


class Lineage(Model):
    """The graph around one node."""

    root: str
    nodes: list[Node]
    edges: list[Edge]
    truncated: bool = Field(description="There is more than the limit.")


class Alive(Model):
    """The process answers."""

    status: Literal["ok"]
    version: str


class Ready(Model):
    """Whether this process can durably accept. `sensors` and `undelivered_alerts` are null without a token."""

    ready: bool
    reason: str
    sensors: dict[str, Health] | None
    undelivered_alerts: list[Undelivered] | None = Field(description="What alerts could not be delivered so far.")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """Return an aware datetime as UTC microseconds."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
