"""Databases of users for tests: a PostgreSQL database of its own, and a sensor that watches it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psycopg

from sensors.adapters.sql_sensor import SqlSensor
from sensors.batch import Batch
from sensors.event import Event
from sensors.kind import SensorContext
from sensors.kinds.sql import KIND, SqlOptions
from sensors.testing import EverythingWanted, FakeInbox, VirtualClock

NAME = "orders"


@dataclass(frozen=True)
class Database:
    """A database; `url` names it."""

    url: str

    async def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, each committed; return the rows of the last."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            rows: list[tuple[Any, ...]] = []
            for statement in statements:
                cursor = await connection.execute(statement.encode())
                rows = await cursor.fetchall() if cursor.description else []
            return rows

    async def open(self) -> "psycopg.AsyncConnection[Any]":
        """Open a connection with a transaction of its own."""
        return await psycopg.AsyncConnection.connect(self.url)


class Watch:
    """A `sql` sensor with a store of its own. `look` polls once and reads until the look is complete."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.clock = VirtualClock()
        self.inbox = FakeInbox()
        self.folder = folder
        self.options = options
        self.sensor = self._build()
        self.connected = False
        self.batches: list[Batch] = []

    def _build(self) -> SqlSensor:
        context = SensorContext(NAME, "svc", self.clock, self.folder)
        sensor = KIND.build(SqlOptions.model_validate(self.options), context)
        assert isinstance(sensor, SqlSensor)
        return sensor

    async def connect(self) -> None:
        await self.sensor.connect(await self.inbox.cursors(NAME), self.inbox.lookup(NAME), EverythingWanted())
        self.connected = True

    async def read(self) -> Batch:
        """Read once and make it durable; time moves as far as the sensor wants to wait."""
        reading = asyncio.ensure_future(self.sensor.read())
        step = 0.05
        while not reading.done():
            await asyncio.wait({reading}, timeout=0.002)
            if not reading.done():
                await self.clock.advance(step)
                step *= 1.5
        batch = reading.result()
        self.batches.append(batch)
        if not batch.empty:
            await self.inbox.put(NAME, batch)
        return batch

    async def look(self) -> list[Event]:
        """Look once at what is new; return the events that became durable."""
        if not self.connected:
            await self.connect()
        before = len(self.inbox.events)
        self.sensor.poll()
        await self.read()
        while not self.idle:
            await self.read()
        return self.inbox.events[before:]

    @property
    def idle(self) -> bool:
        """Say whether no look is under way and nothing is to be said first."""
        sensor = self.sensor
        return sensor._look is None and sensor._greeting is None and not sensor._forgetting and sensor._looked_at > 0

    async def restart(self, **options: Any) -> None:
        """Begin as a new process, without a word of the old one."""
        await self.close()
        self.options = {**self.options, **options}
        self.sensor = self._build()
        await self.connect()

    async def close(self) -> None:
        if self.connected:
            self.connected = False
            await self.sensor.close()


def data(event: Event) -> Any:
    """Return an event's content."""
    return orjson.loads(event.data or b"null")


def rows_of(events: list[Event]) -> list[Any]:
    """Return the contents of events."""
    return [data(event) for event in events]
