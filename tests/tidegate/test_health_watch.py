"""Telling of the health of sensors: in order, and not lost while the store is away."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sensors.health import SensorHealth
from sensors.ports import Unavailable
from tests.support.alerting import make_route
from tests.support.running import load, running
from tidegate.health_watch import HealthWatch
from tidegate.telemetry.instruments import Instruments
from tidegate.telemetry.metrics import Metrics

TEXT = """
service: {name: svc, store: "sqlite:///store.db"}
sensors:
  hook: {kind: webhook, path: /hooks/in, verify: none}
"""


def health(reason: str = "") -> SensorHealth:
    return SensorHealth("unhealthy" if reason else "healthy", reason, 0, None, 0, 0)


async def test_changes_of_a_sensor_are_told_in_their_order() -> None:
    """A recovery waits until the illness before it was told, however long that takes; other sensors do not wait."""
    told: list[tuple[str, bool]] = []
    gate = asyncio.Event()

    async def tell(sensor: str, healthy: bool, reason: str) -> None:
        if sensor == "slow" and not healthy:
            await gate.wait()
        told.append((sensor, healthy))

    watch = HealthWatch(Instruments(Metrics()))
    watch.connect(tell)
    watch.on_health("slow", False, health("ill"))
    watch.on_health("slow", True, health())
    watch.on_health("quick", False, health("ill"))
    for _ in range(5):
        await asyncio.sleep(0)
    before = list(told)
    gate.set()
    await watch.stop()

    assert before == [("quick", False)]
    assert told == [("quick", False), ("slow", False), ("slow", True)]


async def test_a_change_that_cannot_be_told_now_is_told_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away it is tried again: afterwards the alert is there."""
    config = await load(tmp_path, TEXT, alerts={"oncall": make_route("oncall", "http://127.0.0.1:9/x")})
    async with running(config) as gate:
        inbox = gate.service._parts.inbox
        real, failures = inbox.tell, [Unavailable("away", 0.0), Unavailable("away", 0.0)]

        async def tell(*arguments: Any) -> None:
            if failures:
                raise failures.pop()
            await real(*arguments)

        monkeypatch.setattr(inbox, "tell", tell)
        await gate.service.tell_health("hook", False, "its source is away")
        (row,), _ = await gate.service.store.read(lambda reader: reader.alerts(limit=9))

    assert failures == []
    assert (row["kind"], row["subject"], row["text"]) == ("sensor_unhealthy", "hook", "its source is away")
