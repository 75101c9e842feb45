"""Checking triggers against the rest of a configuration: every problem at once, each with its place and a remedy."""

import difflib
from collections.abc import Iterator, Mapping, Sequence

from sensors.event import OWN_SENSOR
from triggers.errors import RuleError
from triggers.pattern import parts_of, place_of
from triggers.rule import compile_rule
from triggers.trigger import RunRule, Source, Trigger, WhenBusy


def check_triggers(
    triggers: Mapping[str, Trigger],
    sensors: Mapping[str, Sequence[str] | None],
    pipelines: Mapping[str, Sequence[str] | None],
) -> list[RuleError]:
    """Return every problem of all triggers, also of those not enabled. See `RuleSet.check`."""
    errors: list[RuleError] = []
    for trigger in triggers.values():
        found = [*_check_sources(trigger, sensors), *_check_runs(trigger, pipelines), *compile_rule(trigger)[1]]
        for error in found:
            error.trigger = trigger.name
        errors += found
    return errors


def _check_sources(trigger: Trigger, sensors: Mapping[str, Sequence[str] | None]) -> Iterator[RuleError]:
    for path, source in sources_of(trigger):
        if source.sensor not in sensors and source.sensor != OWN_SENSOR:
            yield RuleError(
                f"there is no sensor {source.sensor}", f"{path}.sensor", nearest(source.sensor, sensors, "sensors")
            )
            continue
        yield from _check_types(source, sensors.get(source.sensor), path)


def sources_of(trigger: Trigger) -> list[tuple[str, Source]]:
    """Return what a trigger listens to, with the places in it."""
    pattern = trigger.pattern
    if pattern is not None:
        return [(place_of(pattern, part), part.source) for part in parts_of(pattern)]
    return [("on" if len(trigger.on) == 1 else f"on[{i}]", source) for i, source in enumerate(trigger.on)]


def _check_types(source: Source, emitted: Sequence[str] | None, path: str) -> Iterator[RuleError]:
    if emitted is None:
        return
    for type_ in source.types:
        if type_ not in emitted:
            yield RuleError(
                f"sensor {source.sensor} emits no {type_}", f"{path}.types", nearest(type_, emitted, "types")
            )


def _check_runs(trigger: Trigger, pipelines: Mapping[str, Sequence[str] | None]) -> Iterator[RuleError]:
    placed = [("run", i, len(trigger.runs), run) for i, run in enumerate(trigger.runs)]
    placed += [("overdue.run", i, len(trigger.overdue_runs), run) for i, run in enumerate(trigger.overdue_runs)]
    for place, i, among, run in placed:
        path = place if among == 1 else f"{place}[{i}]"
        if run.pipeline not in pipelines:
            yield RuleError(
                f"there is no pipeline {run.pipeline}",
                f"{path}.pipeline",
                nearest(run.pipeline, pipelines, "pipelines"),
            )
        else:
            yield from _check_params(run, pipelines[run.pipeline], path)
        if trigger.when_busy is WhenBusy.COALESCE and run.partition is not None and run.lane is None:
            hint = "give `lane` the partition's expression, so that only events of one partition are merged"
            yield RuleError("coalesce would merge events of different partitions into one run", f"{path}.lane", hint)


def _check_params(run: RunRule, known: Sequence[str] | None, path: str) -> Iterator[RuleError]:
    if known is None:
        return
    for name in run.params:
        if name not in known:
            where = f"{path}.params.{name}"
            yield RuleError(
                f"pipeline {run.pipeline} has no parameter {name}", where, nearest(name, known, "parameters")
            )


def nearest(name: str, known: Mapping[str, object] | Sequence[str], what: str) -> str:
    """Return a hint: the nearest known name, else a few of them."""
    near = difflib.get_close_matches(name, list(known), 1, 0.6)
    if near:
        return f"did you mean {near[0]}?"
    if not known:
        return f"there are no {what}"
    names = sorted(known)
    return f"{what}: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
