"""When sensors could be heard: spans of time in which each was healthy and caught up, for the clocks of silences.

In flow looks at the health of all sensors, about one a second, on the loop; out flow sums, also to the writer's thread.
A sensor that is behind its source adds nothing until it has caught up; then all since it was last caught up counts, for
what came meanwhile has been read. What was not looked at (another process, a time before the start) does not count.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from sensors.clock import Clock
from sensors.event import OWN_SENSOR

SPANS = 1_000  # kept per sensor: one that comes and goes more often is heard less than it was
_GAP = 10_000_000  # µs without a look after which a span is not gone on with

Health = Mapping[str, Mapping[str, Any]]


class SensorWatch:
    """Looks at sensors and remembers when they could be heard."""

    def __init__(self) -> None:
        self._spans: dict[str, tuple[tuple[int, int], ...]] = {}  # replaced, never changed: two threads read it
        self._alive: dict[str, bool] = {}
        self._looked: dict[str, int] = {}

    def look(self, sensors: Collection[str], health: Health, now: int) -> None:
        """Note how sensors are at a moment. The house's own is always heard."""
        for name in sensors:
            found = health.get(name, {})
            healthy = name == OWN_SENSOR or found.get("state") == "healthy"
            caught_up = name == OWN_SENSOR or not found.get("lag")
            spans = self._spans.get(name, ())
            unbroken = self._alive.get(name, False) and 0 <= now - self._looked.get(name, 0) <= _GAP
            if healthy and caught_up:
                longer = unbroken and spans
                self._spans[name] = (*spans[:-1], (spans[-1][0], now)) if longer else (*spans, (now, now))[-SPANS:]
            self._alive[name] = healthy and (caught_up or unbroken)
            self._looked[name] = now

    def heard(self, sensor: str, since: int, until: int) -> int:
        """Return for how many microseconds of a time a sensor could be heard."""
        total = 0
        for start, end in reversed(self._spans.get(sensor, ())):
            if end <= since:
                break
            total += max(0, min(end, until) - max(start, since))
        return total


async def keep_watch(
    watch: SensorWatch, sensors: Callable[[], Collection[str]], health: Callable[[], Health], clock: Clock
) -> None:
    """Look once a second, for ever; at nothing while no trigger waits for a silence."""
    while True:
        wanted = sensors()
        if wanted:
            watch.look(wanted, health(), clock.now())
        await clock.sleep(1.0)
