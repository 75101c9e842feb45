"""A files sensor under its real runner, with virtual time and, unless asked otherwise, without change notices."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensors.adapters.notices import Listener, Notices
from sensors.event import Event
from sensors.kind import SensorContext
from sensors.kinds.files import Files, FilesOptions
from sensors.runner import RunnerPorts, SensorRunner
from sensors.testing import FakeInbox, VirtualClock, eventually
from tests.support.sensors import Witness

HOUR = 3_600_000_000


def wall() -> int:
    """Return the machine's time in UTC microseconds: what the file system stamps files with."""
    return time.time_ns() // 1000


class HandNotices:
    """Notices by hand: armed at once, and silent until a test tells a path."""

    def __init__(self, name: str, listener: Listener, loop: asyncio.AbstractEventLoop) -> None:
        self.listener = listener
        self.folders: Sequence[str] = ()
        self.loop = loop

    def start(self, folders: Sequence[str]) -> None:
        self.folders = folders
        self.loop.call_soon(self.listener.armed, folders)

    def stop(self) -> None:
        self.folders = ()


@dataclass
class Watched:
    """A running files sensor on a folder."""

    root: Path
    sensor: Files
    runner: SensorRunner
    inbox: FakeInbox
    clock: VirtualClock
    witness: Witness

    async def rest(self) -> None:
        """Wait until it has looked at everything it knows of and waits for time or notices."""
        sensor = self.sensor

        def idle() -> bool:
            waiting = sensor._alarm._waiter is not None and not sensor._has_work()
            return waiting or self.runner._alarm._waiter is not None

        await eventually(idle, 40.0)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and what it brings be done."""
        await self.rest()
        await self.clock.advance(seconds)
        await self.rest()

    async def scan(self) -> None:
        """Have everything compared now."""
        await self.rest()
        self.sensor.poll()
        await self.rest()

    async def hint(self, *names: str) -> None:
        """Tell that something changed at these names, as the operating system would."""
        self.sensor._hints.changed([f"{self.root}/{name}" for name in names])
        await self.rest()

    def state(self) -> str:
        """Return the state of the sensor's health."""
        return self.runner.health.state

    @property
    def told(self) -> list[tuple[str, str | None]]:
        """Return (what, subject) of all stored events."""
        return [(event.type.removeprefix("object."), event.subject) for event in self.inbox.events]

    def take(self) -> list[Event]:
        """Return the stored events so far, and forget them."""
        events = list(self.inbox.events)
        self.inbox.events.clear()
        return events


@asynccontextmanager
async def watching(
    root: Path, inbox: FakeInbox | None = None, *, now: int | None = None, notices: bool = False, **options: Any
) -> AsyncIterator[Watched]:
    """Run a files sensor on `root`. `now` defaults to an hour ahead, so that no file counts as still changing."""
    given = {"path": str(root), "start": "beginning", "settle": "1s", "every": "1m", **options}
    clock = VirtualClock(wall() + HOUR if now is None else now)
    inbox = inbox or FakeInbox()
    context = SensorContext("drop", "svc", clock, root)
    sensor = Files(FilesOptions.model_validate(given), context, Notices if notices else HandNotices)
    witness = Witness()
    runner = SensorRunner("drop", sensor, RunnerPorts(inbox, inbox.lookup("drop"), observer=witness), clock)
    task = asyncio.create_task(runner.run())
    watched = Watched(root, sensor, runner, inbox, clock, witness)
    try:
        await watched.rest()
        yield watched
    finally:
        runner.stop()
        await asyncio.wait_for(task, 10)
