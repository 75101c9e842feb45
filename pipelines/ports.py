"""What the pipelines stage needs from the house, and what it asks of engines.

`RunStore` claims, advances and reads runs; every write is conditional on the fence. `Engine` is where a task's work
happens. `Observer` sees what happened, after it is durable, for spans and metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipelines.pipeline import PipelineDef
from pipelines.run import CheckResult, DatasetWrite, LogLine, Run, RunState, RunStep, TaskRun
from pipelines.task import TaskDef


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that is now ours: with its task runs, its definition, and whether a former holder was lost.

    The claim has already written the start intention (state `running`, attempt, engine key) of the tasks in `started`.
    """

    run: Run
    tasks: Sequence[TaskRun]
    definition: PipelineDef
    taken_over: bool = False


@dataclass(frozen=True, slots=True)
class Renewal:
    """The answer to a lease renewal: runs no longer ours, and runs asked to cancel (uid to reason)."""

    lost: Sequence[str]
    cancel: Mapping[str, str]


class RunStore(Protocol):
    """Durable runs. All methods raise `sensors.ports.Unavailable` when the store cannot answer now."""

    async def claim(self, holder: str, limit: int, lease: float, grace: float) -> Sequence[Claimed]:
        """Claim up to `limit` runs for `lease` seconds, oldest first, lanes and concurrency respected.

        Takes over runs whose lease ended more than `grace` seconds ago (with a higher fence).
        """
        ...

    async def renew(self, holder: str, runs: Sequence[str], lease: float) -> Renewal:
        """Extend the leases of these runs by the database's clock."""
        ...

    async def release(self, holder: str, runs: Sequence[str]) -> None:
        """Give up the leases that `holder` still has on these runs: they may be claimed at once, without the grace.

        The next claim of such a run counts as a takeover, for it finds attempts under way as a dead holder leaves them.
        """
        ...

    async def advance(self, step: RunStep) -> bool:
        """Apply one step; False when the fence has moved on (nothing was written)."""
        ...

    async def parameters(self, run: Run) -> Mapping[str, Any]:
        """Return the causing events of a run as expressions see them (`events`), in order, at most 5,000."""
        ...

    async def log(self, lines: Sequence[LogLine]) -> None:
        """Keep log lines. Best effort on order between tasks, exact within one task attempt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """All that an engine may know about the attempt that it runs.

    `options` are the task's options with every `${{ … }}` evaluated. `upstream` maps needed tasks to their outputs
    (decoded JSON). `environ` are the propagation variables (TRACEPARENT, …) and `headers` the same for HTTP.
    `item` is the element of a slice, whose name is `task_run.partition`. `log` keeps a line; it may be called from the
    loop only. `deadline` is in `Clock.monotonic` seconds. `held` says whether the lease on the run still holds: an
    engine asks it last of all before it sends what cannot be taken back, and raises LeaseLost when it does not.
    """

    run: Run
    task: TaskDef
    task_run: TaskRun
    options: Mapping[str, Any]
    params: Mapping[str, Any]
    upstream: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    log: Callable[[str, str], None] = lambda _stream, _text: None
    deadline: float = float("inf")
    held: Callable[[], bool] = lambda: True
    item: Any = None

    @property
    def partition(self) -> str:
        """Return the name of the slice, or of the run's partition; empty when there is none."""
        return self.task_run.partition or self.run.partition or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """What a successful attempt left: `output` is a JSON value, bounded to 256 KiB encoded."""

    output: Any = None
    datasets: Sequence[DatasetWrite] = ()
    checks: Sequence[CheckResult] = ()
    cpu_seconds: float | None = None
    peak_rss_bytes: int | None = None


class Engine(Protocol):
    """Where work happens. One instance per configured engine; calls overlap.

    `survives` says whether its work outlives this service: then the handle is stored after `start`, and after a crash
    `find` is asked before anything is started again. `dedupes` says that starting again under the same key is harmless
    (the engine, or the receiver of its request, drops the repeat): then a lost attempt is started again under its key.
    An engine with neither dies with the service; its lost attempt is followed by a new one. `poll_every` is seconds.
    """

    survives: bool
    dedupes: bool
    poll_every: float

    async def open(self) -> None:
        """Make ready; nothing heavy before the first task needs it."""
        ...

    async def start(self, context: TaskContext) -> str:
        """Start the attempt under `context.task_run.engine_key`; return its handle (JSON text).

        Raises TaskFailed for a definitive refusal, Ambiguous when the start may have happened.
        """
        ...

    async def find(self, context: TaskContext) -> str | None:
        """Return the handle of work started under the context's key, None when there is none to be found."""
        ...

    async def poll(self, context: TaskContext, handle: str) -> TaskResult | None:
        """Return the result, or None when the work still goes on (asked again after `poll_every`).

        Local engines wait here until the end. Raises TaskFailed, TaskTimedOut, Ambiguous.
        """
        ...

    async def cancel(self, context: TaskContext, handle: str) -> None:
        """Stop the work and return when it is stopped or known to be stopping. Never raises for work that is gone."""
        ...

    async def close(self) -> None:
        """Stop what is left within a few seconds."""
        ...


class Observer(Protocol):
    """Told of durable facts, for spans and metrics; must be quick and never raise."""

    def task_ended(self, run: Run, task: TaskRun) -> None:
        """A task run attempt ended (succeeded, failed for good, to be retried, cancelled)."""
        ...

    def run_ended(self, run: Run, state: RunState) -> None:
        """A run reached a final state."""
        ...

    def run_started(self, run: Run) -> None:
        """A run was claimed for the first time."""
        ...
