"""The gate of a push sensor: what `runner` is for pull sensors, for those to which requests come.

In flows one request at a time, many at once; out flows what became of its events, after they are durable. Calls overlap
and keep no order. Whatever goes wrong comes out as `Refused` with the status the sender shall see: 4xx only for the
sender's own faults, 429 for overload, 503 with Retry-After for ours.
"""

import math
from dataclasses import replace

from sensors.batch import Batch
from sensors.clock import Clock
from sensors.errors import Refused
from sensors.health import HealthKeeper, NoObserver, PauseMode, RunnerObserver, SensorHealth
from sensors.notice_hub import NoticeHub
from sensors.ports import Inbox, Overloaded, Stored, Unavailable
from sensors.sensor import PushSensor, Request

_HELD = 60  # seconds a sender is asked to wait for a sensor on hold
_NOTHING = Stored(())


def refusal(error: Exception) -> Refused:
    """Return what a sender is told about a failure of ours: 429 for overload, otherwise 503, with Retry-After."""
    wait = max(1, math.ceil(error.retry_after)) if isinstance(error, Unavailable) else 5
    headers = {"retry-after": str(wait)}
    if isinstance(error, Overloaded):
        return Refused(429, "overloaded", str(error), headers=headers)
    if isinstance(error, Unavailable):
        return Refused(503, "unavailable", str(error), headers=headers)
    return Refused(503, "internal", f"{type(error).__name__}: {error}", headers=headers)


class PushGate:
    """Lets the requests of one push sensor through. `open` first; all methods belong to one loop."""

    def __init__(
        self,
        name: str,
        sensor: PushSensor,
        inbox: Inbox,
        clock: Clock,
        observer: RunnerObserver | None = None,
        notices: NoticeHub | None = None,
    ) -> None:
        """`notices` is told of events once they are durable."""
        self.name = name
        self._sensor = sensor
        self._inbox = inbox
        self._observer = observer or NoObserver()
        self._notices = notices
        self._keeper = HealthKeeper(name, clock, self._observer)

    @property
    def health(self) -> SensorHealth:
        """Return the health now."""
        return self._keeper.snapshot()

    def open(self) -> None:
        """Take requests from now on."""
        self._keeper.enter("healthy")

    def stop(self) -> None:
        """Refuse new requests with 503; those under way finish."""
        self._keeper.enter("stopped", "stopped")

    def pause(self, mode: PauseMode) -> None:
        """`hold`: answer 503, so that senders try again later. `drop`: verify, count and drop, answer 2xx."""
        self._keeper.pause = mode
        self._keeper.enter("paused", "held by an operator" if mode == "hold" else "events are counted and dropped")

    def resume(self) -> None:
        """Take requests again."""
        if self._keeper.pause is not None:
            self._keeper.pause = None
            if self._keeper.state == "paused":
                self._keeper.enter("healthy")

    async def receive(self, request: Request, context: str | None = None) -> tuple[Batch, Stored]:
        """Verify, read and make durable one request; return its batch and receipts. Raises only Refused.

        `context` is the traceparent of the span that received the request.
        """
        keeper = self._keeper
        if keeper.pause == "hold" or keeper.state in ("stopped", "starting"):
            raise Refused(503, "paused", f"sensor {self.name} takes nothing now", headers={"retry-after": str(_HELD)})
        try:
            batch = await self._sensor.receive(request)
        except Refused as error:
            self._observer.on_error(self.name, error)
            raise
        except Unavailable as error:  # what is needed to verify cannot be had now
            self._observer.on_error(self.name, error)
            raise refusal(error) from error
        except Exception as error:
            keeper.failed(error, f"requests cannot be read: {type(error).__name__}: {error}")
            raise refusal(error) from error
        if batch.reply is not None and batch.empty:  # a handshake: there is nothing to make durable
            return batch, _NOTHING
        if keeper.pause == "drop" and batch.events:
            batch = replace(batch, events=(), counts={**batch.counts, "dropped": len(batch.events)})
        try:
            stored = await self._inbox.put(self.name, batch, context)
        except Overloaded as error:  # the sensor works: it is the senders who are to slow down
            self._observer.on_error(self.name, error)
            raise refusal(error) from error
        except Exception as error:
            keeper.failed(error, f"events cannot be stored: {error}")
            raise refusal(error) from error
        self._observer.on_batch(self.name, batch, stored)
        if self._notices is not None and batch.events:
            self._notices.publish(self.name, batch.events)
        await batch.ack()
        keeper.events += len(batch.events)
        if keeper.pause is None and keeper.state != "stopped":
            keeper.succeeded()
        return batch, stored
