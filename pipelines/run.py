"""Run and TaskRun: one execution of a pipeline, of a task; their states and the only transitions there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

MAX_PARAMS_BYTES = 65_536


class RunState(StrEnum):
    """States of a run."""

    QUEUED = "queued"  # durable, waits for its lane, for room, for a dispatcher
    RUNNING = "running"  # claimed, or waiting for a new holder after its holder died
    CANCELLING = "cancelling"  # asked to stop; tasks are being stopped
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Say whether the state never changes again."""
        return self in _FINAL_RUN


class TaskState(StrEnum):
    """States of a task run."""

    PENDING = "pending"  # needs are not met yet
    READY = "ready"  # may start
    RUNNING = "running"  # start intended (written before the engine is called), or under way
    RETRY_WAIT = "retry_wait"  # waits for `next_at`
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UPSTREAM_FAILED = "upstream_failed"  # never started: what it needs did not succeed

    @property
    def final(self) -> bool:
        """Say whether the state never changes again within this run (resume opens a new run)."""
        return self in _FINAL_TASK


_FINAL_RUN = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
_FINAL_TASK = frozenset(
    {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED, TaskState.UPSTREAM_FAILED}
)

RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.FAILED}),
    RunState.RUNNING: frozenset({RunState.CANCELLING, RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}),
    RunState.CANCELLING: frozenset({RunState.CANCELLED, RunState.FAILED, RunState.SUCCEEDED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}

TASK_TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    TaskState.PENDING: frozenset(
        {
            TaskState.READY,
            TaskState.RUNNING,
            TaskState.FAILED,  # its `when` or `partitions` could not be evaluated
            TaskState.SKIPPED,
            TaskState.UPSTREAM_FAILED,
            TaskState.CANCELLED,
        }
    ),
    TaskState.READY: frozenset(
        {TaskState.RUNNING, TaskState.CANCELLED, TaskState.FAILED, TaskState.SKIPPED, TaskState.UPSTREAM_FAILED}
    ),
    TaskState.RUNNING: frozenset(
        {
            TaskState.SUCCEEDED,
            TaskState.FAILED,
            TaskState.CANCELLED,
            TaskState.RETRY_WAIT,
            TaskState.READY,
            TaskState.SKIPPED,
            TaskState.UPSTREAM_FAILED,  # of what fanned out, nothing failed itself
        }
    ),
    TaskState.RETRY_WAIT: frozenset({TaskState.READY, TaskState.RUNNING, TaskState.CANCELLED, TaskState.FAILED}),
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
    TaskState.SKIPPED: frozenset(),
    TaskState.UPSTREAM_FAILED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a pipeline. Moments are UTC microseconds.

    `seq` orders runs by arrival (per lane: strictly). `fence` is the fencing token: it rises with every claim, and
    every write of a holder is conditional on it. `definition` is the hash under which the snapshot of the pipeline is
    stored. `span` is the creation context (the `trigger {pipeline}` span), `run_span` the pre-minted context of the
    RUN span. `trigger_event` is None for runs started by hand. `resumed_from` names the run whose successes this one
    reuses.
    """

    uid: str
    pipeline: str
    definition: str
    state: RunState
    key: str
    created_at: int
    key_scope: str = ""  # `trigger/NAME`, `pipeline/NAME` or `manual/NAME`: where the key is unique
    generation: int = 1
    seq: int = 0
    trigger: str | None = None
    trigger_event: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    partition: str | None = None
    lane: str | None = None
    depth: int = 0
    holder: str | None = None
    lease_until: int | None = None
    fence: int = 0
    started_at: int | None = None
    finished_at: int | None = None
    error: str | None = None
    cancel_reason: str | None = None
    span: str | None = None
    run_span: str | None = None
    resumed_from: str | None = None
    config_hash: str = ""
    events: Sequence[str] = ()  # uids of causing events (all of them, also when coalesced)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """One task of one run. `attempt` is 0 before the first start and rises only after a definitive outcome.

    `failures` counts attempts that count as retries; `lost` attempts (their holder died) do not. `engine_key` is the
    idempotency key handed to the engine, `handle` what the engine answered (JSON text).

    A task that fans out has one task run without a partition, which stands for all of them and runs nowhere itself, and
    a slice for each partition: a task run with the partition's name and its element, `item` (JSON text).
    """

    uid: str
    run: str
    task: str
    partition: str = ""
    state: TaskState = TaskState.PENDING
    attempt: int = 0
    failures: int = 0
    lost: int = 0
    engine: str = ""
    engine_key: str | None = None
    handle: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    next_at: int | None = None
    output: str | None = None  # JSON text
    error: str | None = None
    error_kind: str | None = None
    span: str | None = None
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None
    item: str | None = None
    first_started_at: int | None = None  # of the first attempt

    @property
    def label(self) -> str:
        """Return the name within the run: `task`, or `task[partition]` for a slice."""
        return f"{self.task}[{self.partition}]" if self.partition else self.task


_SLOTS = tuple(
    (one.name, getattr(TaskRun, one.name).__get__, getattr(TaskRun, one.name).__set__) for one in fields(TaskRun)
)


def evolve(task_run: TaskRun, **changes: Any) -> TaskRun:
    """Return a task run with changes: `dataclasses.replace` in a third of its time, which steps pay many times."""
    made = TaskRun.__new__(TaskRun)
    for name, read, write in _SLOTS:
        write(made, changes[name] if name in changes else read(task_run))
    return made


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a run's log. `task` is the task run's label, `stream` is `stdout`, `stderr`, `log` or `engine`."""

    run: str
    task: str
    attempt: int
    at: int
    stream: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStep:
    """One durable advance of one run by its holder: applied only while `fence` is still the run's.

    `tasks` replace the stored task runs of the same uid; new uids are slices that a task fans out into. `state` is the
    run's new state (None: unchanged). The step that ends a run frees its lane and key in the same transaction.
    """

    run: str
    fence: int
    at: int
    tasks: Sequence[TaskRun] = ()
    state: RunState | None = None
    error: str | None = None
    logs: Sequence[LogLine] = ()
    datasets: Sequence["DatasetWrite"] = ()
    checks: Sequence["CheckResult"] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetWrite:
    """What a task wrote or read: the dataset in OpenLineage naming, what was done, and what was left there.

    `dataset` is its configured name, if it has one. `disposition` is how it was written (replace, append, merge,
    soft_delete), `partition` of which partition. `changes` are those of the columns against what was there before:
    `added` and `removed` as [name, type], `retyped` as [name, type before, type now], and `created` when there was
    nothing.
    """

    namespace: str
    name: str
    task: str
    at: int
    mode: str = "write"  # or "read"
    rows: int | None = None
    bytes: int | None = None
    schema: Sequence[tuple[str, str]] = ()
    version: str | None = None
    disposition: str | None = None
    partition: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check of one dataset: passed or not, in words a person can act on.

    `expected` and `actual` are words as well; `sample` is JSON text, a list of a few offending rows.
    """

    check: str
    task: str
    dataset: str
    passed: bool
    severity: str  # "warn" or "fail"
    message: str
    at: int
    expected: str | None = None
    actual: str | None = None
    sample: str | None = None
