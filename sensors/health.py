"""How a sensor is, as a value: what the API, readiness, metrics and alerts are told.

The runner of pull sensors and the gate of push sensors keep one `HealthKeeper` each. It turns successes and failures
into states and tells the observer: every state once, and every change between healthy and unhealthy exactly once, also
when a pause lies in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from sensors.batch import Batch
from sensors.clock import Clock
from sensors.ports import Stored

State = Literal["starting", "healthy", "unhealthy", "paused", "standby", "stopped"]
PauseMode = Literal["hold", "drop"]


@dataclass(frozen=True, slots=True)
class ShardLag:
    """How far behind one shard (a partition) is: records, seconds, and when it last succeeded (UTC micros).

    `seconds` is the age of the last record that was read, 0 when none is left to read. None: not known.
    """

    records: int | None
    seconds: float | None
    last_success: int | None


@dataclass(frozen=True, slots=True)
class SensorHealth:
    """A sensor's health at one moment. Moments are UTC microseconds; totals count since this process started.

    `reason` is a sentence (empty when there is nothing to say); `since` is when the state began; `last_success` is the
    last read, or accepted request, whose batch is durable (also an empty one); `lag` is in the kind's own unit, and
    `shards` tell it of each shard that is read here.
    """

    state: State
    reason: str
    since: int
    last_success: int | None
    events: int
    errors: int
    lag: float | None = None
    pause: PauseMode | None = None
    shards: Mapping[str, ShardLag] = field(default_factory=dict)


class RunnerObserver(Protocol):
    """What the house wants to know: it makes metrics, spans and own events of it.

    Called on the loop; must neither block nor raise.
    """

    def on_batch(self, sensor: str, batch: Batch, stored: Stored) -> None:
        """A batch became durable (before its ack). Not called for empty ones."""
        ...

    def on_error(self, sensor: str, error: BaseException) -> None:
        """Something failed and is being dealt with; called for each failure."""
        ...

    def on_state(self, sensor: str, health: SensorHealth, previous: State) -> None:
        """The state changed from `previous`."""
        ...

    def on_health(self, sensor: str, healthy: bool, health: SensorHealth) -> None:
        """The sensor became unhealthy, or recovered: exactly once per change. Becoming healthy first is none."""
        ...


class NoObserver:
    """Watches nothing; the base of observers that want only some of the hooks."""

    def on_batch(self, sensor: str, batch: Batch, stored: Stored) -> None:
        """Ignore it."""

    def on_error(self, sensor: str, error: BaseException) -> None:
        """Ignore it."""

    def on_state(self, sensor: str, health: SensorHealth, previous: State) -> None:
        """Ignore it."""

    def on_health(self, sensor: str, healthy: bool, health: SensorHealth) -> None:
        """Ignore it."""


class HealthKeeper:
    """Counts and judges. `patience` is how many failures in a row make a sensor unhealthy (a lasting one: at once)."""

    def __init__(self, name: str, clock: Clock, observer: RunnerObserver, *, patience: int = 2) -> None:
        self._name = name
        self._clock = clock
        self._observer = observer
        self._patience = patience
        self._state: State = "starting"
        self._reason = ""
        self._since = clock.now()
        self._last_success: int | None = None
        self._failures = 0
        self._sick = False
        self.events = 0
        self.errors = 0
        self.pause: PauseMode | None = None

    @property
    def state(self) -> State:
        """Return the state now."""
        return self._state

    def snapshot(self, lag: float | None = None, shards: Mapping[str, ShardLag] | None = None) -> SensorHealth:
        """Return the health now."""
        return SensorHealth(
            self._state,
            self._reason,
            self._since,
            self._last_success,
            self.events,
            self.errors,
            lag,
            self.pause,
            shards or {},
        )

    def succeeded(self, trouble: str | None = None) -> None:
        """A batch is durable, or there was nothing new. `trouble` is what the sensor says is wrong all the same."""
        self._last_success = self._clock.now()
        self._failures = 0
        if trouble is None:
            if self._state != "healthy" or self._reason:
                self.enter("healthy")
        elif self._state != "unhealthy" or self._reason != trouble:
            self.enter("unhealthy", trouble)

    def failed(self, error: BaseException, reason: str, *, lasting: bool = False) -> None:
        """Something failed. `lasting` makes it unhealthy at once; otherwise so many failures in a row do."""
        self.errors += 1
        self._failures += 1
        self._observer.on_error(self._name, error)
        if lasting or self._failures >= self._patience:
            self.enter("unhealthy", reason)
        elif self._state == "starting":
            self._reason = reason

    def explain(self, reason: str) -> None:
        """Say something about the state as it is, until the next success or failure."""
        self._reason = reason

    def enter(self, state: State, reason: str = "") -> None:
        """Change the state; tells the observer what is new."""
        previous, self._state, self._reason = self._state, state, reason
        if state != previous:
            self._since = self._clock.now()
            self._observer.on_state(self._name, self.snapshot(), previous)
        sick = state == "unhealthy" if state in ("healthy", "unhealthy") else self._sick
        if sick != self._sick:
            self._sick = sick
            self._observer.on_health(self._name, not sick, self.snapshot())
