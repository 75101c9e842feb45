"""The one loop of all pull sensors: connect, read, make durable, acknowledge; and all that can go wrong on the way.

In flow the batches of one sensor, one at a time; they reach the inbox in the order in which they were read, and the
next read begins only after the batch before it is durable and acknowledged. A batch that cannot be made durable is kept
and tried again, for ever or until a hard stop; it is never dropped. What was read and not made durable is read again
after a restart, because its position was not stored.

While more runs wait than the service is meant to hold it reads nothing, and stays connected.

The loop waits with an exponential back-off and jitter after failures, replaces a connection that hangs, dead-letters
what is unreadable, holds or drops while paused, and stops softly (the batch in hand is finished) or hard (by cancelling
`run`).
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from sensors.audit import AuditReport, NotAuditable
from sensors.batch import Batch, DeadLetter
from sensors.clock import Clock
from sensors.errors import BackOff, BadPayload, Exhausted, NotConnected
from sensors.health import HealthKeeper, NoObserver, PauseMode, RunnerObserver, SensorHealth
from sensors.polling import Alarm, Auditable, Lagging, Pollable, Sharded, Troubled
from sensors.ports import Inbox, Lookup, Prefilter, Stored, Unavailable, WantsAll
from sensors.sensor import Sensor

T = TypeVar("T")
_DROPPING = "events are read, counted and dropped"


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How patient the loop is; all in seconds but `patience`.

    `hang` is how long one read may take before the connection is replaced (above every interval a sensor polls at);
    `patience` is how many failures in a row make the sensor unhealthy.
    """

    backoff: float = 0.5
    max_backoff: float = 60.0
    hang: float = 900.0
    connect_timeout: float = 60.0
    close_timeout: float = 10.0
    patience: int = 2
    under_pressure: float = 1.0


class Pressure(Protocol):
    """Says when nothing more is to be read, because what follows from events is behind."""

    def reason(self) -> str:
        """Return why, for people; empty when reading goes on. Never blocks."""
        ...


class NoPressure:
    """Reading never has to wait."""

    def reason(self) -> str:
        """Return nothing."""
        return ""


@dataclass(frozen=True, slots=True)
class RunnerPorts:
    """What the house lends to a runner."""

    inbox: Inbox
    lookup: Lookup
    prefilter: Prefilter = field(default_factory=WantsAll)
    observer: RunnerObserver = field(default_factory=NoObserver)
    pressure: Pressure = field(default_factory=NoPressure)


class _Interrupted(Exception):
    """A command (stop, pause) came while the sensor was waiting."""


class SensorRunner:
    """Runs one pull sensor. `run` is one task; the other methods are called on the same loop and return at once."""

    def __init__(
        self,
        name: str,
        sensor: Sensor,
        ports: RunnerPorts,
        clock: Clock,
        settings: RunnerSettings | None = None,
        *,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._sensor = sensor
        self._ports = ports
        self._clock = clock
        self._settings = settings or RunnerSettings()
        self._rand = rand
        self._keeper = HealthKeeper(name, clock, ports.observer, patience=self._settings.patience)
        self._alarm = Alarm(clock)
        self._stopping = False
        self._connected = False
        self._standby: str | None = None
        self._failures = 0
        self._bad_position: str | None = None
        self._interrupt: asyncio.Future[None] | None = None

    # -- what others ask ------------------------------------------------------------------------------------------
    @property
    def health(self) -> SensorHealth:
        """Return the health now."""
        lag, shards = None, None
        if self._connected and isinstance(self._sensor, Lagging):
            lag = self._sensor.lag()
        if self._connected and isinstance(self._sensor, Sharded):
            shards = self._sensor.shards()
        return self._keeper.snapshot(lag, shards)

    def stop(self) -> None:
        """Stop softly: a read that waits is given up, a batch in hand is made durable; then `run` returns."""
        self._stopping = True
        self._interrupted()

    def pause(self, mode: PauseMode) -> None:
        """`hold`: close the source and read nothing. `drop`: read and count events without storing them."""
        self._keeper.pause = mode
        if mode == "drop":
            self._keeper.enter("paused", _DROPPING)
        self._interrupted()

    def resume(self) -> None:
        """Go on reading, after `hold` from the durable position."""
        if self._keeper.pause is not None:
            self._keeper.pause = None
            if self._keeper.state == "paused":
                self._keeper.enter("starting")
            self._alarm.ring()

    def stand_by(self, why: str | None) -> None:
        """Let go of the source and read nothing, because another process does (`why` says who); None: read on."""
        self._standby = why
        if why is None and self._keeper.state == "standby":
            self._keeper.enter("starting")
        self._interrupted()

    def poll(self) -> None:
        """Look at the source now: ends a back-off, and asks the sensor if it polls."""
        self._alarm.ring()
        if isinstance(self._sensor, Pollable):
            self._sensor.poll()

    async def audit(self, heal: bool) -> AuditReport:
        """Compare source and memory, beside the loop. Raises NotAuditable, and what the sensor raises."""
        if not isinstance(self._sensor, Auditable):
            raise NotAuditable(f"sensor {self.name} remembers no objects, so there is nothing to compare")
        if not self._connected:
            why = self._keeper.snapshot(None).reason
            raise NotConnected("the sensor is not connected now" + (f": {why}" if why else ""))
        return await self._sensor.audit(heal)

    # -- the loop -------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Run until stopped, or until the source is exhausted. Cancel it for a hard stop."""
        reason = "stopped"
        try:
            while not self._stopping:
                try:
                    await self._step()
                except _Interrupted:
                    continue
                except Exhausted as error:
                    reason = f"the source has ended: {error}"
                    break
                except BackOff as error:
                    await self._fail(error, f"asked to wait: {error}", wait=error.wait)
                except Exception as error:  # noqa: BLE001 - whatever a sensor raises, its loop goes on
                    await self._disconnect()
                    await self._fail(error, _sentence(error), lasting=isinstance(error, _Hung))
        finally:
            await self._disconnect()
            self._keeper.enter("stopped", reason)

    async def _step(self) -> None:
        if self._keeper.pause == "hold":
            await self._disconnect()
            self._keeper.enter("paused", "held by an operator")
            await self._alarm.wait(None)
            return
        if self._standby is not None:
            await self._disconnect()
            self._keeper.enter("standby", self._standby)
            await self._alarm.wait(None)
            return
        if not self._connected:
            await self._connect()
        if reason := self._ports.pressure.reason():
            self._keeper.explain(reason)
            await self._alarm.wait(self._settings.under_pressure)
            return
        try:
            batch = await self._guard(self._sensor.read(), self._settings.hang, "read")
        except BadPayload as error:
            batch = self._poison(error)
        else:
            self._bad_position = None
        await self._deliver(batch)

    async def _connect(self) -> None:
        cursors = await self._ports.inbox.cursors(self.name)
        opening = self._sensor.connect(cursors, self._ports.lookup, self._ports.prefilter)
        await self._guard(opening, self._settings.connect_timeout, "connect")
        self._connected = True

    async def _disconnect(self) -> None:
        if not self._connected:
            return
        self._connected = False
        try:
            await asyncio.wait_for(self._sensor.close(), self._settings.close_timeout)
        except Exception as error:  # noqa: BLE001 - closing promises not to raise; a broken promise must not end the loop
            self._ports.observer.on_error(self.name, error)

    async def _deliver(self, batch: Batch) -> None:
        """Make the batch durable, however long it takes; then acknowledge it."""
        if self._keeper.pause == "drop" and batch.events:
            counts = dict(batch.counts)
            counts["dropped"] = counts.get("dropped", 0) + len(batch.events)
            batch = replace(batch, events=(), counts=counts, apart=())
        if not batch.empty:
            stored = await self._put(batch)
            if stored.stale:
                await self._put_apart(batch.apart)
                raise NotConnected("another process has taken over this position; connecting again at the durable one")
            self._keeper.events += len(batch.events)
            self._ports.observer.on_batch(self.name, batch, stored)
        await self._ack(batch)
        self._failures = 0
        if self._keeper.pause == "drop":
            self._keeper.enter("paused", _DROPPING)
        else:
            self._keeper.succeeded(self._sensor.trouble() if isinstance(self._sensor, Troubled) else None)

    async def _put_apart(self, batches: Sequence[Batch]) -> None:
        """Store and acknowledge those of the batches that are still ours; the others are somebody else's by now."""
        for batch in batches:
            stored = await self._put(batch)
            if not stored.stale:
                self._keeper.events += len(batch.events)
                self._ports.observer.on_batch(self.name, batch, stored)
                await self._ack(batch)

    async def _ack(self, batch: Batch) -> None:
        try:
            await batch.ack()
        except Exception as error:  # noqa: BLE001 - the source redelivers, and the ids drop the repeats
            self._keeper.errors += 1
            self._ports.observer.on_error(self.name, error)

    async def _put(self, batch: Batch) -> Stored:
        tries = 0
        while True:
            try:
                return await self._ports.inbox.put(self.name, batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, the batch is kept and tried again
                least = error.retry_after if isinstance(error, Unavailable) else 0.0
                self._keeper.failed(error, f"events cannot be stored: {_sentence(error)}")
                await self._clock.sleep(max(least, self._delay(tries)))
                tries += 1

    def _poison(self, error: BadPayload) -> Batch:
        """Turn an unreadable payload into a batch; the same one twice in a row means that the sensor stands still."""
        if error.position and error.position == self._bad_position:
            raise NotConnected(f"cannot get past the unreadable payload at {error.position}") from error
        self._bad_position = error.position
        self._keeper.errors += 1
        self._ports.observer.on_error(self.name, error)
        return Batch(dead_letters=(DeadLetter("bad_payload", str(error), error.position, error.payload),))

    async def _fail(
        self, error: BaseException, reason: str, *, wait: float | None = None, lasting: bool = False
    ) -> None:
        self._keeper.failed(error, reason, lasting=lasting)
        delay = self._delay(self._failures) if wait is None else max(0.0, wait)
        self._failures += 1
        if not self._stopping:
            await self._alarm.wait(delay)

    def _delay(self, failures: int) -> float:
        full = min(self._settings.max_backoff, self._settings.backoff * 2.0 ** min(failures, 30))
        return full * (0.5 + 0.5 * self._rand())

    # -- waiting for a sensor that may hang, under commands -----------------------------------------------------------
    def _interrupted(self) -> None:
        self._alarm.ring()
        if self._interrupt is not None and not self._interrupt.done():
            self._interrupt.set_result(None)

    async def _guard(self, call: Awaitable[T], limit: float, what: str) -> T:
        """Await a call of the sensor; raise _Hung after `limit` seconds, _Interrupted when it is to stop or hold."""
        task: asyncio.Future[T] = asyncio.ensure_future(call)
        limiter = asyncio.ensure_future(self._clock.sleep(limit))
        try:
            while not task.done():
                self._interrupt = asyncio.get_running_loop().create_future()
                if self._must_leave():
                    break
                waits: set[asyncio.Future[Any]] = {task, limiter, self._interrupt}
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                if limiter.done() and not task.done():
                    raise _Hung(f"{what} has not returned for {limit:g} s; the connection is being replaced")
            if task.done():
                return task.result()
            await self._give_up(task)
            await self._disconnect()
            raise _Interrupted
        finally:
            self._interrupt = None
            limiter.cancel()
            if not task.done():
                await self._give_up(task)

    def _must_leave(self) -> bool:
        return self._stopping or self._standby is not None or self._keeper.pause == "hold"

    async def _give_up(self, task: "asyncio.Future[T]") -> None:
        """Cancel a call and wait a moment for it to end; one that does not end is left behind."""
        task.cancel()
        await asyncio.wait({task}, timeout=self._settings.close_timeout)
        if task.done() and not task.cancelled():
            with contextlib.suppress(Exception):
                task.result()


class _Hung(NotConnected):
    """A call of the sensor did not return in time."""


def _sentence(error: BaseException) -> str:
    return str(error) or type(error).__name__
