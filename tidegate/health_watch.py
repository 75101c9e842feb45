"""What the house hears of its sensors and its door: metrics, log lines, and own events about health.

A sensor that is dead must look dead: a change between healthy and unhealthy is logged, measured, and written as an
event.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from sensors.batch import Batch
from sensors.health import SensorHealth, State
from sensors.ports import Stored
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.observers import SensorObserver
from tidegate.telemetry.tracing import Tracing

_log = logging.getLogger("tidegate.sensors")
TellHealth = Callable[[str, bool, str], Coroutine[Any, Any, None]]
TellMissed = Callable[[str, int], Coroutine[Any, Any, None]]
_LAST = 2.0  # seconds that what is being told has when the service stops


class HealthWatch(SensorObserver):
    """Observer of all sensors. Own events are told through the function given to `connect`, once it is there."""

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self._tell: TellHealth | None = None
        self._tell_missed: TellMissed | None = None
        self._telling: dict[str, asyncio.Task[None]] = {}

    def connect(self, tell: TellHealth, tell_missed: TellMissed | None = None) -> None:
        """Tell health changes through `tell`, and ticks that a schedule left out through `tell_missed`, from now on."""
        self._tell, self._tell_missed = tell, tell_missed

    def on_batch(self, sensor: str, batch: Batch, stored: Stored) -> None:
        """Measure what became durable; what a schedule missed is also logged and told."""
        super().on_batch(sensor, batch, stored)
        missed = 0 if stored.stale else batch.counts.get("missed", 0)
        if missed:
            _log.warning(
                "schedule %s missed %d ticks and does not make up for them",
                sensor,
                missed,
                extra={"action": "schedule_missed", "sensor": sensor},
            )
            if self._tell_missed is not None:
                self._beside(sensor, self._tell_missed(sensor, missed))

    def on_state(self, sensor: str, health: SensorHealth, previous: State) -> None:
        """Log and measure a change of state."""
        super().on_state(sensor, health, previous)
        if health.state == "unhealthy":
            _log.warning(
                "sensor %s is unhealthy: %s",
                sensor,
                health.reason,
                extra={"action": "sensor_unhealthy", "sensor": sensor},
            )
        elif previous == "unhealthy":
            _log.info(
                "sensor %s is %s again", sensor, health.state, extra={"action": "sensor_recovered", "sensor": sensor}
            )

    def on_health(self, sensor: str, healthy: bool, health: SensorHealth) -> None:
        """Write the own event beside the work; changes of one sensor are told in their order."""
        super().on_health(sensor, healthy, health)
        if self._tell is not None:
            self._beside(sensor, self._tell(sensor, healthy, health.reason))

    def _beside(self, sensor: str, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(self._after(self._telling.get(sensor), telling))
        self._telling[sensor] = task
        task.add_done_callback(lambda done: self._told(sensor, done))

    async def stop(self) -> None:
        """End what is being told; called once no sensor runs any more. Waits a moment for what is under way."""
        telling = list(self._telling.values())
        if telling:
            _, late = await asyncio.wait(telling, timeout=_LAST)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _after(self, before: "asyncio.Task[None] | None", telling: Coroutine[Any, Any, None]) -> None:
        if before is not None:
            await asyncio.wait({before})
        await telling

    def _told(self, sensor: str, task: "asyncio.Task[None]") -> None:
        if self._telling.get(sensor) is task:
            del self._telling[sensor]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a change of health could not be told: %s", error, exc_info=error, extra={"action": "own_event"})


class RequestWatch:
    """Records every answered webhook request as a SERVER span and in the metrics."""

    def __init__(self, tracing: Tracing, instruments: Instruments) -> None:
        self._tracing = tracing
        self._instruments = instruments

    def request(
        self,
        route: str,
        method: str,
        status: int,
        start_ns: int,
        end_ns: int,
        context: str,
        parent: str | None,
        link: str | None,
    ) -> None:
        """Record one request."""
        self._instruments.request(route, method, status, (end_ns - start_ns) / 1e9)
        self._tracing.request(route, method, status, start_ns, end_ns, context, parent, link)
