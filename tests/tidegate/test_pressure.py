"""Pressure: sensors stop reading while more runs wait than the service is meant to hold."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from sensors.batch import Batch, Cursor
from sensors.ports import Lookup, Prefilter
from sensors.runner import RunnerPorts, SensorRunner
from sensors.testing import FakeInbox, VirtualClock, settle
from tidegate.pressure import EVERY, Pressure
from tidegate.store.tx import Store


class _Queued:
    """A store in which so many runs wait."""

    def __init__(self) -> None:
        self.waiting = 0

    async def read(self, fn: Any) -> Any:
        return fn(self)

    def queue(self) -> Mapping[str, Mapping[str, int]]:
        return {"p": {"queued": self.waiting, "running": 7, "oldest": 12345}}


class _Reader:
    """A sensor that counts how often it is read."""

    def __init__(self, clock: VirtualClock) -> None:
        self.reads = 0
        self.closed = 0
        self._clock = clock

    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        """Open nothing."""

    async def read(self) -> Batch:
        """Count."""
        self.reads += 1
        await self._clock.sleep(1.0)
        return Batch()

    async def close(self) -> None:
        """Count."""
        self.closed += 1


async def test_sensors_wait_while_runs_are_many() -> None:
    """Above the bound nothing is read and the sensor says why; clearly below it reading goes on, still connected."""
    clock, store = VirtualClock(), _Queued()
    pressure = Pressure(cast("Store", store), clock, most=100)
    watching = asyncio.ensure_future(pressure.watch())
    sensor, inbox = _Reader(clock), FakeInbox()
    runner = SensorRunner("s", sensor, RunnerPorts(inbox, inbox.lookup("s"), pressure=pressure), clock)
    running = asyncio.ensure_future(runner.run())
    await clock.advance(5.0)
    assert sensor.reads >= 4
    store.waiting = 100
    await clock.advance(EVERY + 1.0)
    before = sensor.reads
    await clock.advance(30.0)
    assert sensor.reads == before
    assert "100 runs are queued" in runner.health.reason
    store.waiting = 95  # not yet enough to go on: no flapping around the bound
    await clock.advance(30.0)
    assert sensor.reads == before
    store.waiting = 89
    await clock.advance(EVERY + 3.0)

    assert sensor.reads > before
    assert (runner.health.state, runner.health.reason, sensor.closed) == ("healthy", "", 0)
    runner.stop()
    await settle()
    await running
    watching.cancel()
