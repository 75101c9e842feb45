"""A RabbitMQ sensor in the service's loop, and the outside world beside it, for tests on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel

from sensors.clock import SystemClock
from sensors.kind import SensorContext
from sensors.kinds.rabbitmq import KIND
from sensors.runner import RunnerPorts, RunnerSettings, SensorRunner
from sensors.testing import FakeInbox
from triggers.template import compile_function

QUICK = RunnerSettings(backoff=0.02, max_backoff=0.2)


def build(url: str, **options: Any) -> Any:
    """Make a sensor named `q` of the service `svc`."""
    context = SensorContext("q", "svc", SystemClock(), Path("/nowhere"), {}, compile_function)
    return KIND.build(KIND.options.model_validate({"url": url, **options}), context)


@asynccontextmanager
async def runs(inbox: FakeInbox, sensor: Any) -> AsyncIterator[SensorRunner]:
    """Run a sensor; stop it softly at the end."""
    runner = SensorRunner("q", sensor, RunnerPorts(inbox, inbox.lookup("q")), SystemClock(), QUICK)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        runner.stop()
        await asyncio.wait_for(task, 15)


async def publish(channel: AbstractChannel, queue: str, body: bytes = b"{}", **fields: Any) -> None:
    """Put a message into a queue."""
    await channel.default_exchange.publish(aio_pika.Message(body, **fields), queue)


async def left(channel: AbstractChannel, queue: str) -> int:
    """Return how many messages there are when nobody reads any more."""
    async with asyncio.timeout(10):
        while True:
            found = (await channel.declare_queue(queue, passive=True)).declaration_result
            if not found.consumer_count:
                return found.message_count or 0
            await asyncio.sleep(0.01)


def unacknowledged(sensor: Any) -> int:
    """Return how many messages a sensor has in hand; -1 without a connection."""
    return len(sensor._session.tags._tags) if sensor._session is not None else -1
