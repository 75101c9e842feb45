"""What follows from durable facts, on the loop, after COMMIT.

The dispatcher is woken, people are told, spans and metrics are handed over.

In flow the facts of one transaction; nothing flows back. Work comes first: runs are dispatched before anything is told.
"""

from collections.abc import Callable

from sensors.clock import Clock
from tidegate.absorb import Facts
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.observers import guarded
from tidegate.telemetry.projection import project
from tidegate.telemetry.tracing import Tracing


class Aftermath:
    """Told of every transaction's facts. `wake`, `cancelled` and `alert` are connected once those exist who act."""

    def __init__(self, tracing: Tracing, instruments: Instruments, clock: Clock) -> None:
        self._clock = clock
        self._tell = guarded(lambda facts: project(facts, tracing, instruments, clock.now(), facts.known))
        self.wake: Callable[[], None] = _nothing
        self.cancelled: Callable[[str, str], None] = _ignored
        self.alert: Callable[[], None] = _nothing

    def __call__(self, facts: Facts) -> None:
        """Act on one transaction."""
        if facts.runs:
            self.wake()
        if facts.alerts:
            self.alert()
        for run, reason in facts.cancels:
            self.cancelled(run, reason)
        self._tell(facts)


def _nothing() -> None:
    """Wake nobody."""


def _ignored(run: str, reason: str) -> None:
    """Tell nobody."""
