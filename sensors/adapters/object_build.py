"""Puts a sensor on object storage together: scope, steps, source and queue. Nothing is opened."""

from dataclasses import dataclass
from typing import Literal

from sensors.adapters.after import Plan, plan_of
from sensors.adapters.completeness import listed_prefix, make_completeness
from sensors.adapters.contents import make_inspector
from sensors.adapters.destination import compile_template
from sensors.adapters.object_judge import Steps
from sensors.adapters.object_queue import QueueReader
from sensors.adapters.object_scope import ObjectScope
from sensors.adapters.object_sensor import Doors, ObjectSensor
from sensors.adapters.objects import NoticeQueue, ObjectSource
from sensors.adapters.together import AT_ONCE
from sensors.adapters.watched_options import WatchedOptions
from sensors.kind import SensorContext
from sensors.units import StartAt


@dataclass(frozen=True, slots=True)
class _Begin:
    """What decides about the position: which place, from when, and what to do when it was another one."""

    path: str
    start: StartAt
    cursor: Literal["keep", "reset"] | None


@dataclass(frozen=True, slots=True)
class Ways:
    """How a kind differs from the others. `parallel` listings at once; `folders`: a renamed folder is one event."""

    versions: bool = False
    parallel: int = 1
    folders: bool = False


def make_object_sensor(
    options: WatchedOptions,
    source: ObjectSource,
    queue: NoticeQueue | None,
    context: SensorContext,
    ways: Ways | None = None,
) -> ObjectSensor:
    """Return the sensor of a kind's options. Raises ValueError with a sentence where options exclude each other."""
    ways = ways or Ways()
    scope = ObjectScope.of(options, context.name, source.place, listed_prefix(options))
    completeness = make_completeness(
        options, source, context, scope.pattern, wanted=lambda listed: scope.left_out(listed) is None
    )
    refuse = None
    if (to := options.refused_to) is not None:
        refuse = Plan(
            "move", "now", compile_template(to, scope.pattern.names if scope.pattern else ()), {}, scope.pattern
        )
    steps = Steps(
        completeness=completeness,
        inspector=make_inspector(options),
        expects=options.expect is not None,
        inspect_at_once=1 if options.expect is not None and options.expect.mode == "as_last" else AT_ONCE,
        after=plan_of(options.after, scope.pattern),
        refuse=refuse,
        details=options.head,
        keep_reuploads=options.reupload == "event",
        versions=ways.versions,
        folders=ways.folders,
    )
    begin = _Begin(source.place, options.start, options.cursor)
    reader = QueueReader(queue, context.clock) if queue is not None else None
    doors = Doors(source, reader, context.clock, options.every, begin, ways.parallel)
    return ObjectSensor(scope, doors, steps)
