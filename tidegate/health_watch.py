"""What the house hears of its sensors and its door: metrics, log lines, and own events about health.

A sensor that is dead must look dead: a change between healthy and unhealthy is logged, measured, and written as an
event.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sensors.batch import Batch
from sensors.health import SensorHealth, State
from sensors.ports import Stored
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.observers import SensorObserver
from tidegate.telemetry.tracing import Tracing

_log = logging.getLogger("tidegate.sensors")
TellHealth = Callable[[str, bool, str], Awaitable[None]]
TellMissed = Callable[[str, int], Awaitable[None]]


class HealthWatch(SensorObserver):
    """Observer of all sensors. Own events are told through the function given to `connect`, once it is there."""

    def __init__(self, instruments: Instruments) -> None:
        super().__init__(instruments)
        self._tell: TellHealth | None = None
        self._tell_missed: TellMissed | None = None
        self._telling: set[asyncio.Task[None]] = set()

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
                self._beside(self._tell_missed(sensor, missed))

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
        """Write the own event beside the work."""
        super().on_health(sensor, healthy, health)
        if self._tell is not None:
            self._beside(self._tell(sensor, healthy, health.reason))

    def _beside(self, telling: Awaitable[None]) -> None:
        task = asyncio.ensure_future(telling)
        self._telling.add(task)
        task.add_done_callback(self._told)

    def _told(self, task: "asyncio.Task[None]") -> None:
        self._telling.discard(task)
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
