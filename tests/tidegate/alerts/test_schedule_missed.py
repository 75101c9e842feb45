"""A schedule whose ticks nobody could follow is told to people, once, with how many there were."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import orjson

from sensors.batch import Cursor
from sensors.clock import SystemClock
from sensors.kinds.schedule import SHARD
from tests.support.running import load, running
from tidegate.store.factory import open_store
from tidegate.store.tx import Tx

TEXT = """
service: {name: svc, store: "sqlite:///store.db"}
alerts:
  oncall: {to: "http://127.0.0.1:9/none", events: [schedule_missed, resolved]}
  others: {to: "http://127.0.0.1:9/none", events: [run_failed]}
sensors:
  ticks: {kind: schedule, every: 1h, catch_up: none}
triggers:
  tick: {on: {sensor: ticks}, run: {pipeline: p}}
pipelines:
  p: {engine: command, argv: ["true"]}
"""


class _Move:
    """Stores a position, as a process would have left it."""

    name = "test.move"

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[None]:
        tx.put_cursors("ticks", [Cursor(SHARD, self._value)])
        return [None] * len(items)


async def test_ticks_that_are_left_out_are_an_alert(tmp_path: Path) -> None:
    """Five hours were slept through: one alert of the route that asks for it says so; it has no end."""
    config = await load(tmp_path, TEXT)
    store = open_store(config.store, shard="test")
    await store.open()
    after = SystemClock().now() - 5 * 3_600_000_000 - 60_000_000
    await store.submit(_Move(orjson.dumps({"v": 1, "after": after, "rule": "every 1h"}).decode()), None)
    await store.close()
    async with running(config) as gate:
        rows: Sequence[object] = []
        async with asyncio.timeout(20):
            while not rows:
                rows, _ = await gate.service.store.read(lambda reader: reader.alerts(limit=10))
                await asyncio.sleep(0.01)

    (alert,) = rows
    assert isinstance(alert, dict)
    assert (alert["route"], alert["kind"], alert["subject"], alert["ends"]) == (
        "oncall",
        "schedule_missed",
        "ticks",
        False,
    )
    assert alert["count"] in (5, 6)
    assert "times of the schedule passed" in alert["text"]
