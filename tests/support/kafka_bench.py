"""One kafka sensor under its runner, over an inbox in memory: what became durable is there to look at."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensors.adapters.kafka_sensor import KafkaSensor
from sensors.clock import SystemClock
from sensors.event import Event
from sensors.kind import SensorContext
from sensors.kinds.kafka import KIND
from sensors.ports import Prefilter, WantsAll
from sensors.runner import RunnerPorts, RunnerSettings, SensorRunner
from sensors.testing import FakeInbox, eventually
from tests.support.kafka import Kafka, Record, Topic

SENSOR = "payments"


@dataclass
class KafkaBench:
    """A broker, options, and a memory that outlives the sensors made on it."""

    kafka: Kafka
    options: Mapping[str, Any]
    base: Path = Path("/")
    inbox: FakeInbox = field(default_factory=FakeInbox)
    prefilter: Prefilter = field(default_factory=WantsAll)

    def sensor(self, **more: Any) -> KafkaSensor:
        """Make a sensor."""
        given = {
            "brokers": self.kafka.bootstrap.split(","),
            "start": "beginning",
            "session_timeout": 1.5 if self.kafka.name == "apache" else 6.0,  # less is refused by other brokers
            "group": f"g-{id(self.inbox)}",
            **self.options,
            **more,
        }
        made = KIND.build(KIND.options.model_validate(given), SensorContext(SENSOR, "test", SystemClock(), self.base))
        assert isinstance(made, KafkaSensor)
        return made

    @contextlib.asynccontextmanager
    async def running(self, **more: Any) -> AsyncIterator[SensorRunner]:
        """Run a sensor; it is stopped softly at the end."""
        ports = RunnerPorts(self.inbox, self.inbox.lookup(SENSOR), self.prefilter)
        settings = RunnerSettings(backoff=0.05, max_backoff=0.2)
        runner = SensorRunner(SENSOR, self.sensor(**more), ports, SystemClock(), settings)
        task = asyncio.ensure_future(runner.run())
        try:
            yield runner
        finally:
            runner.stop()
            await task

    async def until(self, condition: Callable[[], bool], within: float = 20.0) -> None:
        """Wait for what brokers and runner do."""
        await eventually(condition, within)

    async def events(self, count: int) -> list[Event]:
        """Wait until so many events are durable, and return all."""
        await self.until(lambda: len(self.inbox.events) >= count)
        return self.inbox.events

    def positions(self) -> dict[str, int]:
        """Return the durable position of each partition, by shard."""
        from sensors.adapters.kafka_positions import read_position

        stored = self.inbox._cursors.get(SENSOR, {})
        return {shard: read_position(cursor).next for shard, cursor in stored.items() if "/" in shard}


async def made(kafka: Kafka, partitions: int = 1, name: str = "") -> str:
    """Make a topic that outlives the test; return its name."""
    topic = Topic(kafka, name or f"t-{uuid.uuid4().hex[:12]}")
    await topic.create(partitions)
    return topic.name


async def send(
    kafka: Kafka,
    topic: str,
    values: Sequence[bytes | None],
    partition: int = 0,
    *,
    key: bytes | None = None,
    headers: Sequence[tuple[str, bytes]] = (),
    timestamp: int | None = None,
) -> None:
    """Write records, and wait until all are there."""
    await Topic(kafka, topic).produce([Record(value, key, partition, headers, timestamp) for value in values])
