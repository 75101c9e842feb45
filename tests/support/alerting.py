"""Alerts over a real store and real receivers, in virtual time: what was raised, what was sent, what was suppressed."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from config.model import AlertRoute
from pipelines.ports import Claimed
from pipelines.run import CheckResult, Run, RunState
from sensors.testing import VirtualClock
from tests.support.works import Works, make_config, make_pipeline, open_works
from tidegate.alerts.alert import Alert
from tidegate.alerts.delivery import KeepAttempts
from tidegate.alerts.raising import RaiseAlerts
from tidegate.alerts.sender import AlertSender
from tidegate.alerts.targets import Answer, Target
from tidegate.store.reader import Row
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.metrics import Metrics

MINUTE = 60.0
HOUR = 3_600.0
ALL_KINDS = frozenset(
    (
        "run_failed",
        "check_failed",
        "sensor_unhealthy",
        "dead_letter",
        "event_refused",
        "set_overdue",
        "trigger_error",
        "config_refused",
        "alert_undelivered",
        "resolved",
    )
)


def make_route(name: str = "oncall", *to: str, **fields: Any) -> AlertRoute:
    """Return a route that takes everything; its target is in memory unless given."""
    return AlertRoute(**{"name": name, "to": to or (f"memory://{name}",), "events": ALL_KINDS, **fields})


def make_alert(subject: str = "p", n: int = 1, **fields: Any) -> Alert:
    """Return the alert of a failed run of a pipeline."""
    values: dict[str, Any] = {
        "kind": "run_failed",
        "id": f"{subject}/{n}",
        "key": f"run_failed/{subject}",
        "subject": subject,
        "at": 1_800_000_000_000_000 + n,
        "text": f"it broke for the {n}. time",
        "pipeline": subject,
    }
    return Alert(**{**values, **fields})


@dataclass
class Receiver:
    """A target that answers as it is told and remembers what it got. `down` is its answer while it takes nothing."""

    url: str
    down: Answer | None = None
    bodies: list[Mapping[str, Any]] = field(default_factory=list)
    tries: int = 0
    shown: str = "memory://***"

    async def send(self, body: Mapping[str, Any]) -> Answer:
        self.tries += 1
        if self.down is not None:
            return self.down
        self.bodies.append(body)
        return Answer(ok=True)

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def titles(self) -> list[str]:
        return [body["title"] for body in self.bodies]


class Bench:
    """Writes, a sender and receivers over one store; time moves when a test says so."""

    def __init__(self, works: Works, clock: VirtualClock, *, real: bool = False) -> None:
        self.works = works
        self.clock = clock
        self.receivers: dict[str, Receiver] = {}
        self.metrics = Metrics()
        self._raise = RaiseAlerts(works.rules)
        more: dict[str, Any] = {} if real else {"make": self._make}
        keep = KeepAttempts(works.rules, lambda: 0.5)
        self.sender = AlertSender(works.store, works.rules, Instruments(self.metrics), clock, keep=keep, **more)

    def _make(self, url: str, agent: str) -> Target:
        return cast("Target", self.receivers.setdefault(url, Receiver(url)))

    def receiver(self, name: str = "oncall") -> Receiver:
        """Return the receiver of a route's only target."""
        return self.receivers.setdefault(f"memory://{name}", Receiver(f"memory://{name}"))

    async def tell(self, *alerts: Alert) -> None:
        """Raise alerts in one transaction."""
        await self.works.store.submit(self._raise, alerts)
        await self.calm()

    async def fail_runs(self, count: int, pipeline: str = "p") -> None:
        """Start runs and let them fail, each in a transaction of its own, so far as the store lets them."""
        for _ in range(count):
            await self.works.start(pipeline)
        claims: list[Claimed] = []
        while claimed := await self.works.claim(500):
            claims += claimed
            await asyncio.gather(
                *(self.works.end(one, RunState.FAILED, error="task work failed: no such table") for one in claimed)
            )
        assert len(claims) == count
        await self.calm()

    async def succeed(self, pipeline: str = "p", checks: Sequence[CheckResult] = ()) -> Run:
        """Start a run and let it succeed."""
        run, _ = await self.works.start(pipeline)
        (claimed,) = await self.works.claim()
        assert await self.works.end(claimed, RunState.SUCCEEDED, checks=checks)
        await self.calm()
        return run

    async def calm(self) -> None:
        """Wake the sender and wait until it has nothing left to do now."""
        if self.sender._task is None:
            return
        self.sender.wake()
        async with asyncio.timeout(20):
            while True:
                await asyncio.sleep(0.002)
                waits = self.sender._alarm._waiter is not None and not self.sender._alarm._rung
                if waits and not self.sender._sending:
                    return

    async def advance(self, seconds: float) -> None:
        """Move the time, a look of the sender at a time."""
        left = seconds
        while left > 0:
            step = min(left, 5.0)
            await self.clock.advance(step)
            await self.calm()
            left -= step

    async def leap(self, seconds: float) -> None:
        """Move the time at once."""
        await self.clock.advance(seconds)
        await self.calm()

    async def alerts(self, **wanted: Any) -> list[Row]:
        """Return alerts, oldest first."""
        found: list[Row] = []
        cursor: str | None = None
        while True:
            rows, cursor = await self.works.store.read(
                lambda reader, at=cursor: reader.alerts(limit=1_000, cursor=at, **wanted)  # type: ignore[misc]
            )
            found += rows
            if cursor is None:
                return sorted(found, key=lambda row: (row["at"], row["uid"]))

    async def states(self) -> dict[str, int]:
        """Return how many alerts are in each state."""
        counts: dict[str, int] = {}
        for row in await self.alerts():
            counts[row["state"]] = counts.get(row["state"], 0) + 1
        return counts


@asynccontextmanager
async def open_bench(
    url: str,
    *routes: AlertRoute,
    pipelines: Sequence[str] = ("p",),
    real: bool = False,
    start: bool = True,
    **works: Any,
) -> AsyncIterator[Bench]:
    """Open a bench whose sender runs."""
    clock = works.pop("clock", None) or VirtualClock()
    chosen = {route.name: route for route in routes or (make_route(),)}
    made = [make_pipeline(name, concurrency=5_000) for name in pipelines]
    config = make_config(works.pop("triggers", ()), made, alerts=chosen, **works.pop("config", {}))
    async with open_works(url, config, clock=clock, **works) as opened:
        bench = Bench(opened, clock, real=real)
        if start:
            bench.sender.start()
        try:
            yield bench
        finally:
            await bench.sender.stop()


def decoded(bodies: Sequence[bytes]) -> list[Any]:
    """Return JSON bodies as data."""
    return [json.loads(body) for body in bodies]
