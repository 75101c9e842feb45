"""Doubles for tests of the sensors stage: a sensor that does what a script says, and an observer that remembers."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sensors.batch import Batch, Cursor
from sensors.event import Event
from sensors.health import SensorHealth, State
from sensors.ports import Lookup, Prefilter, Stored
from sensors.runner import RunnerPorts, RunnerSettings, SensorRunner
from sensors.testing import FakeInbox, VirtualClock, settle


def make_event(n: int, sensor: str = "s") -> Event:
    """Return the nth event of a sensor."""
    return Event(sensor=sensor, id=f"id-{n}", uid=f"evt_{n:026d}", source="/test", type="test.event", received_at=n)


@dataclass
class ScriptedSensor:
    """Reads what its script says, a batch or an error to raise, then waits for ever. Remembers what was asked of it."""

    script: list[Batch | BaseException] = field(default_factory=list)
    connects: list[BaseException | None] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    seen_cursors: list[Mapping[str, Cursor]] = field(default_factory=list)
    problem: str | None = None
    polls: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self, cursors: Mapping[str, Cursor], lookup: Lookup, prefilter: Prefilter) -> None:
        self.log.append("connect")
        self.seen_cursors.append(cursors)
        if self.connects and (error := self.connects.pop(0)) is not None:
            raise error

    async def read(self) -> Batch:
        self.log.append("read")
        while not self.script:
            self.more.clear()
            await self.more.wait()
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step

    async def close(self) -> None:
        self.log.append("close")

    def add(self, *steps: Batch | BaseException) -> None:
        self.script.extend(steps)
        self.more.set()

    def poll(self) -> None:
        self.polls += 1

    def lag(self) -> float | None:
        return 7.0

    def trouble(self) -> str | None:
        return self.problem


@dataclass
class Witness:
    """An observer that keeps everything it is told."""

    batches: list[Batch] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    changes: list[bool] = field(default_factory=list)

    def on_batch(self, sensor: str, batch: Batch, stored: Stored) -> None:
        self.batches.append(batch)

    def on_error(self, sensor: str, error: BaseException) -> None:
        self.errors.append(error)

    def on_state(self, sensor: str, health: SensorHealth, previous: State) -> None:
        assert health.state != previous
        self.states.append(health.state)

    def on_health(self, sensor: str, healthy: bool, health: SensorHealth) -> None:
        assert healthy == (health.state == "healthy")
        self.changes.append(healthy)


@dataclass
class Stage:
    """A running runner with everything around it."""

    sensor: ScriptedSensor
    inbox: FakeInbox
    clock: VirtualClock
    witness: Witness
    runner: SensorRunner
    task: "asyncio.Task[None]"

    def state(self) -> str:
        return self.runner.health.state

    async def pass_time(self, seconds: float = 0.0) -> None:
        await self.clock.advance(seconds)


@asynccontextmanager
async def running(
    script: Sequence[Batch | BaseException] = (),
    *,
    connects: Sequence[BaseException | None] = (),
    settings: RunnerSettings | None = None,
) -> AsyncIterator[Stage]:
    """Run a scripted sensor until the block ends."""
    sensor, inbox, clock, witness = ScriptedSensor(list(script), list(connects)), FakeInbox(), VirtualClock(), Witness()
    ports = RunnerPorts(inbox, inbox.lookup("s"), observer=witness)
    runner = SensorRunner("s", sensor, ports, clock, settings, rand=lambda: 1.0)
    task = asyncio.create_task(runner.run())
    await settle()
    try:
        yield Stage(sensor, inbox, clock, witness, runner, task)
    finally:
        task.cancel()
        await asyncio.wait({task})
