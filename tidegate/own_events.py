"""Own events: what the service tells about itself, as events of the reserved sensor `tidegate`. Pure.

Types: `tidegate.run.started|succeeded|failed|cancelled`, `tidegate.dataset.updated`, `tidegate.check.failed`,
`tidegate.join.overdue|late`, `tidegate.sensor.unhealthy|recovered`, `tidegate.schedule.missed`; what the clock tells of
datasets and deadlines is in `watch_events`. Ids are made of what they tell of, so the same change is never told twice.
`depth` counts runs between an outside event and this one: chains deeper than `sensors.event.MAX_DEPTH` are refused.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import orjson

from pipelines.run import Run, RunStep
from sensors.event import OWN_SENSOR, Event
from sensors.uid import EVENT, new_uid
from triggers.calendar import told
from triggers.gather import Alarm, part_names
from triggers.pattern import Join


def own_events(run: Run, change: str, step: RunStep | None, service: str, now: int) -> Iterator[Event]:
    """Yield the events that a change of a run causes: datasets updated, checks failed, then the run's own change."""
    if step is not None:
        for write in step.datasets:
            if write.mode == "write":
                yield _event(
                    run,
                    service,
                    now,
                    type="tidegate.dataset.updated",
                    subject=write.dataset or write.name,
                    id=f"{run.uid}/{write.task}/{write.namespace}/{write.name}/{write.version or step.at}",
                    data={
                        "dataset": write.dataset or write.name,
                        "name": write.name,
                        "namespace": write.namespace,
                        "disposition": write.disposition,
                        "changes": dict(write.changes),
                        "rows": write.rows,
                        "version": write.version,
                        "task": write.task,
                    },
                )
        for check in step.checks:
            if not check.passed:
                yield _event(
                    run,
                    service,
                    now,
                    type="tidegate.check.failed",
                    subject=check.dataset,
                    id=f"{run.uid}/{check.task}/{check.check}/{check.at}",
                    data={
                        "check": check.check,
                        "dataset": check.dataset,
                        "severity": check.severity,
                        "message": _readable(check.message),
                        "expected": check.expected,
                        "actual": check.actual,
                    },
                )
    if change:
        error = step.error if step is not None else None
        yield _event(
            run,
            service,
            now,
            type=f"tidegate.run.{change}",
            subject=run.pipeline,
            id=f"{run.uid}/{change}",
            data={"error": None if error is None else _readable(error)},
        )


def sensor_event(sensor: str, change: str, reason: str, service: str, now: int) -> Event:
    """Build `tidegate.sensor.unhealthy` or `.recovered`."""
    return _of_sensor(sensor, f"sensor.{change}", change, {"reason": _readable(reason)}, service, now)


def missed_event(sensor: str, missed: int, service: str, now: int) -> Event:
    """Build `tidegate.schedule.missed`: so many ticks of a schedule were left out."""
    return _of_sensor(sensor, "schedule.missed", "missed", {"missed": missed}, service, now)


def _of_sensor(sensor: str, type: str, change: str, data: Mapping[str, Any], service: str, now: int) -> Event:
    name = f"{sensor}/{change}/{now}"
    return own_event(f"tidegate.{type}", sensor, name, {"sensor": sensor, **data}, service, now)


def own_event(
    type: str, subject: str, id: str, data: Mapping[str, Any], service: str, now: int, run: Run | None = None
) -> Event:
    """Build an event of the house; with `run`, one that this run caused."""
    return Event(
        sensor=OWN_SENSOR,
        id=id,
        uid=new_uid(EVENT, now),
        source=f"/tidegate/{service}",
        type=type,
        received_at=now,
        subject=subject,
        time=now,
        data=orjson.dumps(data, default=str),
        content_type="application/json",
        depth=0 if run is None else run.depth + 1,
        cause_run=None if run is None else run.uid,
    )


def join_event(alarm: Alarm, service: str, now: int) -> Event:
    """Build `tidegate.join.overdue`, or `.late`: the key, its parts so far, and what is missing."""
    verdict, name = alarm.verdict, alarm.name
    parts: dict[str, list[str]] = {part: [] for part in part_names(alarm.rule)}
    for one in verdict.held:
        parts[one.part].append(one.event)
    about = {
        "trigger": name.trigger,
        "key": name.key,
        "missing": list(verdict.missing),
        "parts": parts,
        "events": list(verdict.events),
        "since": told(verdict.since, "UTC"),
        "due": told(verdict.due, "UTC"),
        "reason": _readable(verdict.reason),
        "alert": wants_alert(alarm),
    }
    of = f"/{verdict.events[0]}" if alarm.change == "late" else ""
    same = f"{verdict.round}/{alarm.change}{of}"
    event = own_event(f"tidegate.join.{alarm.change}", name.trigger, same, about, service, now)
    return replace(event, depth=verdict.depth + 1)


def wants_alert(alarm: Alarm) -> bool:
    """Say whether somebody is to be told (`overdue: {alert: …}`, `late: alert`)."""
    pattern = alarm.rule.pattern
    return alarm.change != "overdue" or (
        pattern is not None and isinstance(pattern.pattern, Join) and pattern.pattern.overdue_alert
    )


def _event(run: Run, service: str, now: int, *, type: str, subject: str, id: str, data: Mapping[str, Any]) -> Event:
    """Build an own event about a run.

    Its data always names the run, its pipeline, trigger, key, partition and parameters.
    """
    about = {
        "run": run.uid,
        "pipeline": run.pipeline,
        "trigger": run.trigger,
        "key": run.key,
        "generation": run.generation,
        "partition": run.partition,
        "lane": run.lane,
        "params": dict(run.params),
    }
    return own_event(type, subject, id, {**about, **data}, service, now, run)


def _readable(text: str) -> str:
    """Return text that JSON, expressions and text columns take: what they do not take becomes a replacement mark."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()
