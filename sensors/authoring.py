"""All public names for those who write sensors; everything else in this stage is private and may change.

A plug-in file declares:

    from sensors.authoring import SensorKind, …

    api = 1
    sensors = [SensorKind(name="my-kind", help=…, options=MyOptions, build=build, emits=Emits(…))]

A pull sensor implements `Sensor` (connect, read, close), a push sensor `PushSensor` (receive, answer). Neither writes a
loop, a retry, a metric or a span. What a read returns becomes durable together, and only then is its `ack` awaited.
`Pollable`, `Lagging` and `Troubled` are what a sensor may offer besides. `sensors.testing` has the kit that checks it.
"""

from sensors.batch import Batch, Cursor, DeadLetter, Fence, Reply, SeenObject
from sensors.clock import Clock
from sensors.errors import BackOff, BadPayload, Exhausted, NotConnected, Refused, SensorError
from sensors.event import Event, parse_data, storable_text
from sensors.kind import Emits, SensorContext, SensorKind, SensorOptions
from sensors.listing import Change, Entry, What, compare, object_id, vanished
from sensors.patterns import Pattern, compile_pattern
from sensors.polling import Alarm, Interval, Lagging, Pollable, Troubled
from sensors.ports import Lookup, Prefilter
from sensors.sensor import PushSensor, Request, Sensor
from sensors.uid import EVENT, new_uid
from sensors.units import Duration, Size, Start, StartAt

__all__ = [
    "EVENT",
    "Alarm",
    "BackOff",
    "BadPayload",
    "Batch",
    "Change",
    "Clock",
    "Cursor",
    "DeadLetter",
    "Duration",
    "Emits",
    "Entry",
    "Event",
    "Exhausted",
    "Fence",
    "Interval",
    "Lagging",
    "Lookup",
    "NotConnected",
    "Pattern",
    "Pollable",
    "Prefilter",
    "PushSensor",
    "Refused",
    "Reply",
    "Request",
    "SeenObject",
    "Sensor",
    "SensorContext",
    "SensorError",
    "SensorKind",
    "SensorOptions",
    "Size",
    "Start",
    "StartAt",
    "Troubled",
    "What",
    "compare",
    "compile_pattern",
    "new_uid",
    "object_id",
    "parse_data",
    "storable_text",
    "vanished",
]
