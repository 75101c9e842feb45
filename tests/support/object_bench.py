"""A sensor on object storage over an in-memory source, its memory and a clock: read by hand, restarted at will."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sensors.adapters.object_judge import Steps
from sensors.adapters.object_options import ObjectOptions
from sensors.adapters.object_queue import QueueReader
from sensors.adapters.object_scope import ObjectScope
from sensors.adapters.object_sensor import Doors, ObjectSensor
from sensors.adapters.objects import NoticeQueue, ObjectSource
from sensors.batch import Batch
from sensors.event import Event
from sensors.testing import EverythingWanted, FakeInbox, VirtualClock
from sensors.units import StartAt, parse_start
from tests.support.notice_queue import MemoryNotices
from tests.support.object_source import MemoryObjects


@dataclass(frozen=True)
class Begin:
    """What decides about the position."""

    path: str
    start: StartAt
    cursor: Any = None


@dataclass
class ObjectBench:
    """Everything a sensor needs. `options` are as in a configuration."""

    options: dict[str, Any] = field(default_factory=dict)
    clock: VirtualClock = field(default_factory=VirtualClock)
    inbox: FakeInbox = field(default_factory=FakeInbox)
    queue: NoticeQueue | None = None
    steps: Callable[[ObjectSource], Steps] = lambda _source: Steps()
    memory: MemoryObjects = field(init=False)
    sensor: ObjectSensor | None = None
    parallel: int = 1

    def __post_init__(self) -> None:
        self.memory = MemoryObjects(self.clock.now)

    @property
    def notices(self) -> MemoryNotices:
        """Return the queue; made at the first use."""
        if self.queue is None:
            self.queue = MemoryNotices()
        assert isinstance(self.queue, MemoryNotices)
        return self.queue

    async def connect(self) -> ObjectSensor:
        """Make a sensor anew from what is durable."""
        options = ObjectOptions.model_validate({"start": "beginning", **self.options})
        scope = ObjectScope.of(options, "s", self.memory.place)
        begin = Begin(self.memory.place, parse_start(options.start), options.cursor)
        reader = QueueReader(self.queue, self.clock) if self.queue is not None else None
        doors = Doors(self.memory, reader, self.clock, options.every, begin, self.parallel)
        self.sensor = ObjectSensor(scope, doors, self.steps(self.memory))
        await self.sensor.connect(await self.inbox.cursors("s"), self.inbox.lookup("s"), EverythingWanted())
        return self.sensor

    async def connect_with_notices(self) -> None:
        """Connect with a queue and have the first scan done."""
        assert self.notices is not None
        await self.connect()
        await self.rest()

    async def restart(self) -> None:
        """Let the sensor go, as a crash would, and begin anew."""
        await self.close()
        await self.connect()

    async def close(self) -> None:
        """Let the sensor go."""
        if self.sensor is not None:
            await self.sensor.close()
            self.sensor = None

    async def read(self) -> Batch:
        """Read one batch, make it durable, acknowledge it."""
        assert self.sensor is not None
        task = asyncio.ensure_future(self.sensor.read())
        for _ in range(200):
            if task.done():
                break
            await asyncio.sleep(0)
        while not (task.done() or self.clock.sleeping):  # a thread reads a file: its end is awaited, not so many turns
            await asyncio.wait({task}, timeout=0.01)
        if not task.done():
            await self.clock.advance(0.001)
            task.cancel()
            await asyncio.wait({task})
            return Batch()
        batch = task.result()
        if not batch.empty:
            await self.inbox.put("s", batch)
        await batch.ack()
        return batch

    async def rest(self) -> list[Event]:
        """Read until nothing comes any more; return the events that came."""
        before = len(self.inbox.events)
        quiet = 0
        while quiet < 2:
            batch = await self.read()
            assert self.sensor is not None
            idle = batch.empty and not self.sensor.looking
            quiet = quiet + 1 if idle else 0
        return self.inbox.events[before:]

    async def scan(self) -> list[Event]:
        """Have everything compared now; return the events that came."""
        assert self.sensor is not None
        self.sensor.poll()
        return await self.rest()


def told(events: list[Event]) -> list[tuple[str, str]]:
    """Return type and key of events."""
    return [(event.type.removeprefix("object."), event.subject or "") for event in events]


def data(event: Event) -> dict[str, Any]:
    """Return an event's data."""
    found: dict[str, Any] = json.loads(event.data or b"{}")
    return found
