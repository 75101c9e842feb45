"""Deadlines of runs: handlers of durable timers that tell of a run that is late, before it is where that can be known.

Timers are set in the transaction that makes a run. In flow timers that are due, inside the transaction that takes them;
out flow own events and alerts, written in it. A run is late when it has not started `start_within`, or not ended by
`finish_by`; it is likely to be late when what runs usually take does not fit before `finish_by` any more. On a day on
which a run is expected and none has succeeded or goes on, the pipeline itself is late. A look at a run locks it, so
that its end and its lateness are told in one order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from config.model import ServiceConfig
from pipelines.deadlines import FinishBy, parse_finish_by
from pipelines.freshness import lasting, told
from pipelines.run import Run, RunState, RunStep
from sensors.adapters.schedule_times import Cron, Every, Times, before, zone_of
from tidegate.alerts.alert import Alert
from tidegate.alerts.routing import AlertRules
from tidegate.store.records import Timer
from tidegate.store.tx import Tx
from tidegate.watch_events import in_time_alert

KIND = "deadline"
LATE = "late/"  # settings: `late/PIPELINE/RUN`, and `late/PIPELINE` to take turns
DAY = "day"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What one pipeline promises. `start_within` in µs; `schedules` are the times at which our schedules start it."""

    start_within: int | None = None
    finish_by: FinishBy | None = None
    schedules: tuple[Times, ...] = ()

    def expected(self, after: int, until: int, armed: int) -> int | None:
        """Return when, in (after, until], a run was last due to begin; None when none was expected.

        A day that expects a run by itself expects it from its beginning, a schedule with its ticks since `armed`.
        """
        if self.finish_by is None or self.finish_by.expect == "never":
            return None
        if self.finish_by.expect == "daily":
            return after
        ticks = [tick for times in self.schedules if (tick := before(times, until + 1)) is not None]
        return max((tick for tick in ticks if tick > max(after, armed)), default=None)


def compile_deadlines(config: ServiceConfig) -> Mapping[str, Deadlines]:
    """Return the deadlines of the pipelines of a checked configuration that have any."""
    found = {}
    for name, definition in config.pipelines.items():
        if definition.start_within is None and definition.finish_by is None:
            continue
        found[name] = Deadlines(
            None if definition.start_within is None else round(definition.start_within * 1e6),
            None if definition.finish_by is None else parse_finish_by(definition.finish_by),
            tuple(_schedules(config, name)),
        )
    return found


def _schedules(config: ServiceConfig, pipeline: str) -> Iterable[Times]:
    """Yield the times of the schedules by which triggers start a pipeline."""
    for trigger in config.triggers.values():
        if not trigger.enabled or trigger.paused is not None or trigger.pattern is not None:
            continue
        if all(run.pipeline != pipeline for run in trigger.runs):
            continue
        for source in trigger.on:
            entry = config.sensors.get(source.sensor)
            if entry is None or entry.kind.name != "schedule" or not entry.options.enabled:
                continue
            options: Any = entry.options
            yield (
                Every(options.every)
                if options.every is not None
                else Cron(options.cron, zone_of(options.timezone or "UTC"))
            )


def set_deadlines(tx: Tx, deadlines: Mapping[str, Deadlines], runs: Sequence[Run]) -> None:
    """Set the timers of runs that are made in this transaction. Called while there are deadlines at all."""
    timers: list[Timer] = []
    usual: dict[str, int | None] = {}
    for run in runs:
        rule = deadlines.get(run.pipeline)
        if rule is None:
            continue
        if rule.start_within is not None:
            timers.append(Timer(run.created_at + rule.start_within, KIND, f"start/{run.uid}"))
        if rule.finish_by is not None:
            due = rule.finish_by.after(run.created_at)
            payload = orjson.dumps({"due": due}).decode()
            timers.append(Timer(due, KIND, f"finish/{run.uid}", payload))
            if run.pipeline not in usual:
                usual[run.pipeline] = tx.usual_duration(run.pipeline)
            takes = usual[run.pipeline]
            if takes is not None:
                timers.append(Timer(max(run.created_at, due - takes), KIND, f"risk/{run.uid}", payload))
    if timers:
        tx.set_timers(timers)


def settle_late(
    tx: Tx,
    deadlines: Mapping[str, Deadlines],
    rules: AlertRules,
    changes: Sequence[tuple[Run, str, RunStep | None]],
    now: int,
) -> Sequence[Alert]:
    """Forget that runs were late that have ended; return what ends the alerts of pipelines of which none is any more.

    Called while there are deadlines at all, in the transaction that ends the runs.
    """
    ended: dict[str, set[str]] = {}
    for run, change, _ in changes:
        if run.pipeline in deadlines and change in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED):
            names = ended.setdefault(run.pipeline, set())
            names.add(run.uid)
            if change == RunState.SUCCEEDED:
                names.add(DAY)
    alerts = []
    for pipeline in sorted(ended):
        prefix = f"{LATE}{pipeline}/"
        late = tx.get_settings(prefix)
        over = [name for name in sorted(ended[pipeline]) if prefix + name in late]
        if not over:
            continue
        tx.put_setting(LATE + pipeline, str(now))  # of two that end at once, the second waits here and sees the first
        for name in over:
            tx.put_setting(prefix + name, None)
        if not tx.get_settings(prefix):
            alerts.append(in_time_alert(rules, pipeline, f"{over[-1]}/over/{now}", now))
    return alerts


def is_final(state: str) -> bool:
    """Say whether a run of that state has ended."""
    return RunState(state).final


def why_late(run: Run, due: int, zone: str) -> str:
    """Return in words why a run is late for its end."""
    since = f"is {run.state} since {told(run.started_at or run.created_at, zone)}"
    state = "has not started" if run.state == RunState.QUEUED else since
    return f"run {run.uid} was to be done by {told(due, zone)} and {state}"


def why_unstarted(run: Run, rule: Deadlines, now: int) -> str:
    """Return in words why a run is late for its start."""
    allowed = lasting((rule.start_within or 0) / 1e6)
    return f"run {run.uid} waits for its start since {lasting((now - run.created_at) / 1e6)}, allowed are {allowed}"


def why_at_risk(run: Run, due: int, takes: int, zone: str, now: int) -> str | None:
    """Return in words why a run will be late if it takes what runs usually take; None when it need not be."""
    begun = run.started_at if run.state != RunState.QUEUED and run.started_at is not None else None
    if (now if begun is None else begun) + takes < due:
        return None
    state = "has not started" if begun is None else f"started at {told(begun, zone)}"
    return f"run {run.uid} is to be done by {told(due, zone)}, usually takes {lasting(takes / 1e6)} and {state}"
