"""Objects from put to event through real queues: S3 by every route, ADLS by a storage queue, as configured."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.storage.queue import QueueClient

from sensors.clock import SystemClock
from sensors.event import Event
from sensors.kind import SensorContext
from sensors.kinds import adls, s3
from sensors.sensor import Sensor
from sensors.testing import EverythingWanted, FakeInbox
from tests.support.aws import Aws, Bucket, Queue
from tests.support.azure import Azurite
from tests.support.lake import FileSystem
from tests.support.notification_routes import ROUTES

pytestmark = pytest.mark.integration
ODD = "in/a b/ü+%25.csv"


class Reading:
    """A sensor that is read in the background."""

    def __init__(self, sensor: Any) -> None:
        self.sensor = sensor
        self.inbox = FakeInbox()
        self.errors: list[Exception] = []

    async def run(self) -> None:
        await self.sensor.connect(await self.inbox.cursors("s"), self.inbox.lookup("s"), EverythingWanted())
        try:
            while True:
                batch = await self.sensor.read()
                if not batch.empty:
                    await self.inbox.put("s", batch)
                await batch.ack()
        finally:
            await self.sensor.close()

    async def until(self, count: int) -> list[Event]:
        async with asyncio.timeout(20):
            while len(self.inbox.events) < count:
                await asyncio.sleep(0.01)
        return self.inbox.events


@asynccontextmanager
async def reading(sensor: Sensor | Any) -> AsyncIterator[Reading]:
    made = Reading(sensor)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is not None:
            raise AssertionError(f"the sensor stopped: {task.exception()!r}")


@pytest.fixture
def landing(ministack: Aws) -> Iterator[Bucket]:
    with ministack.bucket() as made:
        yield made


@pytest.fixture
def told(ministack: Aws) -> Iterator[Queue]:
    with ministack.queue() as made:
        yield made


def context() -> SensorContext:
    return SensorContext("s", "svc", SystemClock(), Path("/"))


@pytest.mark.parametrize("route", list(ROUTES))
async def test_an_object_is_an_event_as_soon_as_it_is_told_of(landing: Bucket, told: Queue, route: str) -> None:
    """By every route, with the id that the listing gives it; the listing that follows tells nothing new."""
    options = {**landing.options, "start": "beginning", "every": "1h", "notifications": {"sqs": told.url}}
    sensor: Any = s3.build(s3.S3Options.model_validate(options), context())
    with ROUTES[route](landing, told):
        async with reading(sensor) as made:
            await asyncio.to_thread(landing.put, "first")
            await made.until(1)
            for key in (ODD, "in/b.csv"):
                await asyncio.to_thread(landing.put, key, b"abc")
            events = await made.until(3)
            assert sorted(event.subject or "" for event in events) == sorted(["first", ODD, "in/b.csv"])
            ids = {event.id for event in events}
            made.inbox.lookup("s").objects.clear()  # as if nothing had been seen: the listing gives the same ids
            sensor.poll()
            async with asyncio.timeout(20):
                while made.inbox.duplicates < 3:
                    await asyncio.sleep(0.01)
            assert {event.id for event in made.inbox.events} == ids


async def test_a_file_in_a_lake_is_an_event_as_soon_as_it_is_told_of(filesystem: FileSystem, lake: Azurite) -> None:
    """Event Grid's message in a storage queue leads to the file; a renamed folder to all that is in it."""
    name = f"q-{uuid.uuid4().hex[:12]}"
    options = {**filesystem.options, "start": "beginning", "every": "1h", "notifications": {"queue": name}}
    with QueueClient.from_connection_string(lake.connection_string, name) as queue:
        await asyncio.to_thread(queue.create_queue)
        sensor: Any = adls.build(adls.AdlsOptions.model_validate(options), context())
        async with reading(sensor) as made:
            await filesystem.put("first")
            await made.until(1)
            await filesystem.put("in/a.csv", b"abc")
            await _grid(queue, filesystem, "Microsoft.Storage.BlobCreated", "FlushWithClose", "in/a.csv")
            events = await made.until(2)
            assert (events[1].subject, events[1].type) == ("in/a.csv", "object.created")
            await filesystem.put("tmp/1.csv")
            await filesystem.put("tmp/2.csv")
            await filesystem.rename("tmp", "final")
            await _grid(queue, filesystem, "Microsoft.Storage.DirectoryRenamed", "RenameDirectory", "final", "tmp")
            events = await made.until(4)
            assert sorted(event.subject or "" for event in events[2:]) == ["final/1.csv", "final/2.csv"]
            async with asyncio.timeout(20):
                while (await asyncio.to_thread(queue.get_queue_properties)).approximate_message_count:
                    await asyncio.sleep(0.05)


async def _grid(queue: QueueClient, place: FileSystem, type_: str, api: str, path: str, old: str = "") -> None:
    """Send what Event Grid would."""
    account = f"https://{place.client.account_name}.blob.core.windows.net/{place.name}"
    data: dict[str, Any] = {"api": api, "url": f"{account}/{path}", "sequencer": uuid.uuid4().hex}
    if old:
        data |= {"sourceUrl": f"{account}/{old}", "destinationUrl": f"{account}/{path}"}
    event = {
        "topic": f"/subscriptions/s/providers/Microsoft.Storage/storageAccounts/{place.client.account_name}",
        "subject": f"/blobServices/default/containers/{place.name}/blobs/{path}",
        "eventType": type_,
        "id": str(uuid.uuid4()),
        "data": data,
        "dataVersion": "",
        "metadataVersion": "1",
        "eventTime": "2026-01-31T06:00:00Z",
    }
    body = base64.b64encode(json.dumps(event).encode()).decode()
    await asyncio.to_thread(queue.send_message, body)
