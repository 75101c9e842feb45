"""Own events and alerts about what is watched by the clock: datasets that go stale, probes that fail, runs that are
late. Pure.

Ids are made of what they tell of, so that several replicas that notice the same tell it once.
"""

from collections.abc import Mapping
from typing import Any

from pipelines.datasets.asking import shown
from pipelines.freshness import told
from pipelines.run import Run
from sensors.event import Event
from tidegate.alerts.alert import Alert
from tidegate.alerts.routing import AlertRules
from tidegate.own_events import own_event
from tidegate.watching import WatchedDataset


def dataset_event(
    watched: WatchedDataset, change: str, episode: str, data: Mapping[str, Any], service: str, now: int
) -> Event:
    """Build `tidegate.dataset.stale`, `.fresh` or `.unknown`; its subject is the dataset's configured name."""
    about = {
        "dataset": watched.name,
        "namespace": watched.namespace,
        "uri": shown(watched.uri),
        "expected": watched.rule.words(),
        **data,
    }
    same = f"{watched.name}/{change}/{episode}"
    return own_event(f"tidegate.dataset.{change}", watched.name, same, about, service, now)


def stale_alert(rules: AlertRules, name: str, episode: str, text: str, now: int, *, over: bool = False) -> Alert:
    """Return the alert of a dataset that went stale, or is fresh again (`over`)."""
    return _dataset_alert(rules, "dataset_stale", name, episode, text, now, over=over)


def probe_alert(rules: AlertRules, name: str, episode: str, text: str, now: int, *, over: bool = False) -> Alert:
    """Return the alert of a dataset that cannot be asked how fresh it is, or can be again (`over`)."""
    return _dataset_alert(rules, "probe_failed", name, episode, text, now, over=over)


def _dataset_alert(rules: AlertRules, kind: str, name: str, episode: str, text: str, now: int, *, over: bool) -> Alert:
    return Alert(
        kind=kind,
        id=f"{name}/{episode}/{'over' if over else 'on'}",
        key=f"{kind}/{name}",
        subject=name,
        at=now,
        text=text,
        ends=over,
        dataset=name,
        tags=rules.tags(dataset=name),
    )


def late_event(
    pipeline: str, change: str, id: str, run: Run | None, data: Mapping[str, Any], service: str, now: int
) -> Event:
    """Build `tidegate.run.late` or `.late_risk`; `run` is None when there should be one and is not."""
    about: dict[str, Any] = {"pipeline": pipeline, "run": None}
    if run is not None:
        about = {
            "pipeline": pipeline,
            "run": run.uid,
            "state": str(run.state),
            "trigger": run.trigger,
            "key": run.key,
            "partition": run.partition,
            "params": dict(run.params),
        }
    return own_event(f"tidegate.run.{change}", pipeline, id, {**about, **data}, service, now, run)


def late_alert(
    rules: AlertRules, pipeline: str, id: str, text: str, now: int, run: Run | None = None, *, severity: str = "error"
) -> Alert:
    """Return the alert of a run that is late, or is likely to be (severity `warning`)."""
    trigger = "" if run is None else run.trigger or ""
    return Alert(
        kind="run_late",
        id=id,
        key=f"run_late/{pipeline}",
        subject=pipeline,
        at=now,
        text=text,
        severity=severity,
        pipeline=pipeline,
        trigger=trigger,
        tags=rules.tags(pipeline=pipeline, trigger=trigger),
        refs={} if run is None else {"run": run.uid},
    )


def in_time_alert(rules: AlertRules, pipeline: str, id: str, now: int) -> Alert:
    """Return what ends the alert of late runs of a pipeline: none is late any more."""
    return Alert(
        kind="run_late",
        id=id,
        key=f"run_late/{pipeline}",
        subject=pipeline,
        at=now,
        text=f"no run of {pipeline} is late any more at {told(now)}",
        ends=True,
        pipeline=pipeline,
        tags=rules.tags(pipeline=pipeline),
    )
