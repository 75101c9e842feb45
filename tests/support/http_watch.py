"""A sensor of kind http without its runner: polled by hand, over a real server or an API that is only Python."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensors.adapters.api_options import HttpOptions
from sensors.batch import Batch, Cursor
from sensors.clock import Clock, SystemClock
from sensors.event import Event
from sensors.hosts import Hosts, Outgoing
from sensors.kind import SensorContext
from sensors.kinds.http import ApiClient, HttpApi
from sensors.netguard import NetGuard
from sensors.testing import LOOPBACK, EverythingWanted, FakeInbox
from triggers.template import compile_function, compile_values

NAME = "invoices"


def make_context(
    clock: Clock | None = None, *, base: Path = Path(), hosts: Hosts | None = None, allow: tuple[str, ...] = LOOPBACK
) -> SensorContext:
    """Return a context as the service lends it; loopback may be reached."""
    clock = clock or SystemClock()
    outgoing = Outgoing(NetGuard(allow), hosts or Hosts(clock))
    return SensorContext(NAME, "svc", clock, base, {}, compile_function, compile_values, outgoing)


@dataclass
class Watch:
    """One sensor and what became durable of it; `restart` makes another one that goes on from there."""

    options: dict[str, Any]
    context: SensorContext = field(default_factory=make_context)
    make_client: Callable[[], ApiClient] | None = None
    inbox: FakeInbox = field(default_factory=FakeInbox)
    sensor: HttpApi = field(init=False)
    connected: bool = False

    def __post_init__(self) -> None:
        self._make()

    async def restart(self) -> None:
        """Make a new sensor, as a new process would."""
        await self.close()
        self._make()

    def _make(self) -> None:
        options = HttpOptions.model_validate({"start": "beginning", "every": "1h", **self.options})
        self.sensor = HttpApi(options, self.context, self.make_client)
        self.connected = False

    async def connect(self) -> None:
        """Connect at what is durable."""
        cursors = await self.inbox.cursors(NAME)
        await self.sensor.connect(cursors, self.inbox.lookup(NAME), EverythingWanted())
        self.connected = True

    async def step(self) -> Batch:
        """Read once, and make it durable."""
        batch = await self.sensor.read()
        if not batch.empty:
            await self.inbox.put(NAME, batch)
        await batch.ack()
        return batch

    async def poll(self) -> Sequence[Event]:
        """Have one whole poll made; return the events that are new. Raises what the sensor raises, disconnected."""
        count = len(self.inbox.events)
        try:
            if not self.connected:
                await self.connect()
            self.sensor.poll()
            self.sensor._completed = None
            while self.sensor.lag() is None:
                await self.step()
            while self.sensor._ended is not None:
                await self.step()
        except BaseException:
            await self.close()
            raise
        return self.inbox.events[count:]

    async def close(self) -> None:
        """Close it."""
        if self.connected:
            self.connected = False
            await self.sensor.close()

    @property
    def cursor(self) -> str:
        """Return the stored position."""
        found: Cursor | None = self.inbox._cursors.get(NAME, {}).get("")
        return found.value if found is not None else ""


def told(events: Sequence[Event]) -> list[tuple[str, str]]:
    """Return (type, id) of events, sorted."""
    return sorted((event.type.removeprefix("http."), event.id) for event in events)
