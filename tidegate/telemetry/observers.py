"""What the stages tell after the fact becomes spans and metrics.

`PipelineObserver` implements `pipelines.ports.Observer`, `SensorObserver` the observer of sensor runners. Both are
called on the loop, never block and never raise: a mistake in telemetry must not fail the work that it watches.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from pipelines.run import Run, RunState, TaskRun, TaskState
from sensors.batch import Batch
from sensors.clock import Clock
from sensors.health import SensorHealth, State
from sensors.ports import Stored
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.model import run_result, task_result
from tidegate.telemetry.tracing import Tracing

P = ParamSpec("P")

_MAX_REMEMBERED = 10_000
_log = logging.getLogger(__name__)


def guarded(method: Callable[P, None]) -> Callable[P, None]:
    """Make a method that reports its own failure instead of raising it."""

    @wraps(method)
    def quiet(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:  # noqa: BLE001 - telemetry never breaks the work
            _log.exception("telemetry failed and goes on", extra={"action": "telemetry_failed"})

    return quiet


class PipelineObserver:
    """Spans and metrics of runs and task attempts, when they end."""

    def __init__(self, tracing: Tracing, instruments: Instruments, clock: Clock) -> None:
        self._tracing = tracing
        self._instruments = instruments
        self._clock = clock
        self._reasons: dict[str, str] = {}  # run uid -> kind of the failure of a task, until the run ends

    @guarded
    def run_started(self, run: Run) -> None:
        """A run was claimed for the first time."""
        started = self._clock.now() if run.started_at is None else run.started_at
        self._instruments.run_started(run.pipeline, (started - run.created_at) / 1e6)

    @guarded
    def task_ended(self, run: Run, task: TaskRun) -> None:
        """A task run attempt ended."""
        now = self._clock.now()
        self._tracing.task(run, task, end_us=now)
        result, _ = task_result(task.state, task.error_kind)
        if task.started_at is not None:
            seconds = ((task.finished_at or now) - task.started_at) / 1e6
            self._instruments.task_ended(run.pipeline, task.task, result, seconds)
        if task.state is TaskState.FAILED and task.error_kind:
            if len(self._reasons) >= _MAX_REMEMBERED:  # runs that other processes took over end elsewhere
                self._reasons.pop(next(iter(self._reasons)))
            self._reasons[run.uid] = task.error_kind

    @guarded
    def run_ended(self, run: Run, state: RunState) -> None:
        """A run reached a final state."""
        reason = self._reasons.pop(run.uid, None)
        now = self._clock.now()
        self._tracing.run(run, state=state, error_type=reason, end_us=now)
        result, error_type = run_result(state, reason, started=run.started_at is not None)
        start = run.created_at if run.started_at is None else run.started_at
        self._instruments.run_ended(run.pipeline, result, error_type, ((run.finished_at or now) - start) / 1e6)


class SensorObserver:
    """Metrics of sensors. Spans of their events are made from what the ingest stored."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    @guarded
    def on_batch(self, sensor: str, batch: Batch, stored: Stored) -> None:
        """A batch became durable."""
        instruments = self._instruments
        repeats = sum([receipt.duplicate for receipt in stored.receipts])
        instruments.brought(sensor, "stored", len(stored.receipts) - repeats)
        instruments.brought(sensor, "duplicate", repeats)
        instruments.brought(sensor, "dead", len(batch.dead_letters))
        for outcome, n in batch.counts.items():
            instruments.brought(sensor, outcome, n)
        if stored.stale:
            instruments.brought(sensor, "stale", len(batch.events))

    @guarded
    def on_error(self, sensor: str, error: BaseException) -> None:
        """Something failed and is being dealt with."""
        self._instruments.sensor_error(sensor, error)

    @guarded
    def on_state(self, sensor: str, health: SensorHealth, previous: State) -> None:
        """The state changed."""
        self._instruments.sensor_state(sensor, health.state, health.last_success)

    @guarded
    def on_health(self, sensor: str, healthy: bool, health: SensorHealth) -> None:
        """The sensor became unhealthy, or recovered."""
        self._instruments.sensor_state(sensor, health.state, health.last_success)
