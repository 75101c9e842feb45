"""From rows and values of the store to what the API answers: runs, tasks, sensors, triggers, lineage. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from config.model import SensorEntry
from pipelines.pipeline import PipelineDef
from pipelines.run import Run, TaskRun
from sensors.event import Event
from sensors.w3c import parse_traceparent
from tidegate.api.models import Health, RunRuleView, SensorRow, Shard, SourceView, TriggerRow
from tidegate.api.models_runs import (
    DatasetRow,
    Edge,
    LogRow,
    Node,
    ParamView,
    PipelineTask,
    PipelineView,
    RunDetail,
    RunRow,
    TaskView,
)
from tidegate.api.views import event_without_row, maybe, moment, trace_id
from tidegate.rules import CompiledPipeline
from tidegate.store.reader import Row
from triggers.counting import Counts, error_count, filtered_count
from triggers.trigger import Paused, Trigger

_SHOWN_OPTIONS = ("path",)


def run_row(row: Row) -> RunRow:
    """Show a row of the runs."""
    return RunRow(**_run(row))


def run_value_row(run: Run) -> RunRow:
    """Show a run."""
    return RunRow(**_run({name: getattr(run, name) for name in _RUN_FIELDS}))


_RUN_FIELDS = (
    "uid",
    "pipeline",
    "state",
    "key",
    "generation",
    "trigger",
    "trigger_event",
    "partition",
    "lane",
    "created_at",
    "started_at",
    "finished_at",
    "error",
    "cancel_reason",
    "resumed_from",
    "run_span",
    "span",
)


def _run(row: Row) -> dict[str, Any]:
    started, finished = row["started_at"], row["finished_at"]
    return {
        "uid": row["uid"],
        "pipeline": row["pipeline"],
        "state": row["state"],
        "key": row["key"],
        "generation": row["generation"],
        "trigger": row["trigger"],
        "trigger_event": row["trigger_event"],
        "partition": row["partition"],
        "lane": row["lane"],
        "created_at": moment(row["created_at"]),
        "started_at": maybe(started),
        "finished_at": maybe(finished),
        "duration": _seconds(started, finished),
        "error": row["error"],
        "cancel_reason": row["cancel_reason"],
        "resumed_from": row["resumed_from"],
        "trace_id": trace_id(row["run_span"], row["span"]),
    }


def _seconds(started: int | None, finished: int | None) -> float | None:
    return None if started is None or finished is None else max(0.0, (finished - started) / 1e6)


def run_detail(
    run: Run,
    tasks: Sequence[TaskRun],
    events: Sequence[Event],
    definition: PipelineDef | None,
    slices: Mapping[str, Mapping[str, int]],
) -> RunDetail:
    """Show a run with its tasks in the order of the pipeline; `slices` counts partitions by task and state."""
    needs = {} if definition is None else {task.name: list(task.needs) for task in definition.tasks}
    context = parse_traceparent(run.run_span)
    return RunDetail(
        **run_value_row(run).model_dump(),
        params=dict(run.params),
        depth=run.depth,
        definition=run.definition,
        config_hash=run.config_hash,
        span_id=None if context is None else context.span_id,
        events=[event_without_row(event) for event in events],
        event_count=max(len(run.events), len(events)),
        tasks=[task_view(task, needs.get(task.task, []), slices.get(task.task)) for task in tasks],
    )


def task_view(task: TaskRun, needs: list[str], slices: Mapping[str, int] | None = None) -> TaskView:
    """Show a task run."""
    return TaskView(
        uid=task.uid,
        task=task.task,
        partition=task.partition,
        state=task.state,
        needs=needs,
        engine=task.engine,
        attempt=task.attempt,
        failures=task.failures,
        lost=task.lost,
        started_at=maybe(task.started_at),
        finished_at=maybe(task.finished_at),
        next_at=maybe(task.next_at),
        duration=_seconds(task.started_at, task.finished_at),
        output=_json(task.output),
        error=task.error,
        error_kind=task.error_kind,
        cpu_seconds=task.cpu_seconds,
        peak_rss_bytes=task.peak_rss_bytes,
        slices=dict(slices or {}),
    )


def _json(text: str | None) -> Any:
    """Decode stored JSON text; what is none stays text."""
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def log_row(row: Row) -> LogRow:
    """Show a line of a log."""
    return LogRow(
        at=moment(row["at"]), task=row["task"], attempt=row["attempt"], stream=row["stream"], text=row["text"]
    )


def pipeline_view(name: str, pipeline: CompiledPipeline, waiting: Mapping[str, int]) -> PipelineView:
    """Show a configured pipeline."""
    definition = pipeline.definition
    params = definition.params
    return PipelineView(
        name=name,
        hash=pipeline.hash,
        concurrency=definition.concurrency,
        max_tasks=definition.max_tasks,
        timeout=definition.timeout,
        tags=list(definition.tags),
        params=None
        if params is None
        else {
            key: ParamView(type=param.type, required=param.required, default=param.default)
            for key, param in params.items()
        },
        tasks=[
            PipelineTask(
                name=task.name,
                engine=task.engine,
                needs=list(task.needs),
                outputs=list(task.outputs),
                timeout=task.timeout,
                retries=task.retries.attempts,
                upstream=task.upstream,
                on_failure=task.on_failure,
                when=task.when,
                partitions=task.partitions
                if task.partitions is None or isinstance(task.partitions, str)
                else len(task.partitions),
                per=task.per,
                max_parallel=task.max_parallel,
                pools=list(task.pools),
            )
            for task in definition.tasks
        ],
        waiting={state: n for state, n in waiting.items() if state != "oldest"},
    )


def health_view(health: Mapping[str, Any] | None, *, enabled: bool) -> Health:
    """Show a sensor's health; None where it does not run."""
    if health is None:
        state, reason = ("stopped", "it is not running") if enabled else ("disabled", "")
        return Health(
            state=state,
            reason=reason,
            since=None,
            last_success=None,
            events=0,
            errors=0,
            lag=None,
            pause=None,
            shards=[],
        )
    return Health(
        state=str(health.get("state", "starting")),
        reason=str(health.get("reason") or ""),
        since=_either(health.get("since")),
        last_success=_either(health.get("last_success")),
        events=int(health.get("events", 0)),
        errors=int(health.get("errors", 0)),
        lag=health.get("lag"),
        shards=[Shard(**shard) for shard in health.get("shards", ())],
        pause=health.get("paused", health.get("pause")),
    )


def _either(at: Any) -> str | None:
    """Take a moment as text or as UTC microseconds."""
    return moment(at) if isinstance(at, int) else at


def sensor_row(entry: SensorEntry, health: Mapping[str, Any] | None, counts: Mapping[str, int]) -> SensorRow:
    """Show a configured sensor; of its options only what says where it watches."""
    path = getattr(entry.options, "path", None)
    return SensorRow(
        name=entry.name,
        kind=entry.kind.name,
        push=entry.kind.push,
        path=None if path is None else str(path),
        enabled=entry.options.enabled,
        tags=list(entry.options.tags),
        health=health_view(health, enabled=entry.options.enabled),
        counts=dict(counts),
    )


def trigger_row(trigger: Trigger, paused: Paused | None, counts: Mapping[str, int]) -> TriggerRow:
    """Show a configured trigger."""
    return TriggerRow(
        name=trigger.name,
        enabled=trigger.enabled,
        paused=None if paused is None else str(paused),
        version=trigger.version,
        on=[
            SourceView(
                sensor=source.sensor,
                types=list(source.types),
                filter=None if source.filter is None else orjson.loads(orjson.dumps(source.filter, default=_plain)),
            )
            for source in trigger.on
        ],
        when=trigger.when,
        each=trigger.each,
        repeat=str(trigger.repeat),
        when_busy=str(trigger.when_busy),
        runs=[
            RunRuleView(
                pipeline=run.pipeline, key=run.key, partition=run.partition, lane=run.lane, key_scope=run.key_scope
            )
            for run in trigger.runs
        ],
        counts=dict(counts),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def trigger_counts(trigger: Trigger, config_hash: str, counters: Mapping[str, Counts]) -> dict[str, int]:
    """Return the exact counts of a trigger by outcome; `filtered` is derived (see `triggers.counting`)."""
    decided, dead = counters["trigger"], counters["dead"]
    found = {outcome: n for (name, outcome), n in decided.items() if name == trigger.name}
    filtered = filtered_count(
        trigger, config_hash, candidates=counters["candidates"], matched=counters["matched"], dead=dead, decided=decided
    )
    errors = error_count(trigger, config_hash, dead=dead, decided=decided)
    if not trigger.enabled:
        return dict(sorted(found.items()))
    found.update({outcome: n for outcome, n in (("filtered", filtered), ("error", errors)) if n > 0})
    return dict(sorted(found.items()))


def dataset_row(row: Row) -> DatasetRow:
    """Show a dataset's last write."""
    return DatasetRow(
        namespace=row["namespace"],
        name=row["name"],
        run=row["run"],
        task=row["task"],
        at=moment(row["at"]),
        mode=row["mode"],
        rows=row["rows"],
        bytes=row["bytes"],
        version=row["version"],
        fields=[(str(name), str(kind)) for name, kind in row["schema"] or ()],
        dataset=row["dataset"],
        disposition=row["disposition"],
        partition=row["partition"],
        changes=row["changes"],
    )


def node_view(row: Row) -> Node:
    """Show a node of the lineage with a label for people."""
    details = {name: value for name, value in row.items() if name not in ("kind", "uid") and value is not None}
    for name in ("at", "finished_at"):
        if isinstance(details.get(name), int):
            details[name] = moment(details[name])
    trace = trace_id(details.pop("span", None))
    if trace is not None:
        details["trace_id"] = trace
    return Node(uid=row["uid"], kind=row["kind"], label=_label(row), details=details)


def _label(row: Row) -> str:
    match row["kind"]:
        case "event":
            return " ".join(str(part) for part in (row.get("sensor"), row.get("type"), row.get("subject")) if part)
        case "decision":
            return f"{row.get('trigger')}: {row.get('outcome')}"
        case "trigger_event":
            return str(row.get("trigger"))
        case "run":
            return str(row.get("pipeline"))
        case "task":
            partition = row.get("partition")
            return f"{row.get('task')} [{partition}]" if partition else str(row.get("task"))
        case "dataset":
            return str(row.get("name") or row["uid"])
        case _:
            return str(row.get("label") or row["uid"])


def edge_view(row: Row) -> Edge:
    """Show an arrow of the lineage."""
    return Edge.model_validate({"from": row["from"], "to": row["to"], "kind": row["kind"], "rows": row.get("rows")})
