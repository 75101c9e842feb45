"""Schedules in a whole service: ticks start runs, and what was missed is seen."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson

from sensors.batch import Cursor
from sensors.clock import SystemClock
from sensors.kinds.schedule import SHARD
from tests.support.running import load, running, until
from tidegate.store.factory import open_store
from tidegate.store.tx import Tx

TEXT = """
service: {name: svc, store: "sqlite:///store.db"}
sensors:
  ticks: {kind: schedule, every: 1h, catch_up: none}
triggers:
  often: {on: {cron: "30 5 * * *"}, run: {pipeline: p, params: {at: "${{ event.data.scheduled }}"}}}
  told:
    on: {sensor: tidegate, types: [tidegate.schedule.missed], filter: {exact: {subject: ticks}}}
    run: {pipeline: p, params: {n: "${{ event.data.missed }}"}}
pipelines:
  p: {engine: command, argv: ["true"]}
"""


class _Move:
    """Stores a position, as a process would have left it."""

    name = "test.move"

    def __init__(self, sensor: str, value: str) -> None:
        self._move = (sensor, value)

    def __call__(self, tx: Tx, items: Sequence[None]) -> Sequence[None]:
        sensor, value = self._move
        tx.put_cursors(sensor, [Cursor(SHARD, value)])
        return [None] * len(items)


async def test_ticks_start_runs_and_missed_ones_are_told(tmp_path: Path) -> None:
    """A time in a trigger starts its run; hours that were slept through are counted and told as an own event."""
    now = SystemClock().now()
    moment = datetime.fromtimestamp(now / 1e6 - 20, UTC)
    line = f"{moment:%M %H} * * *"  # due a moment ago, and again tomorrow
    config = await load(tmp_path, TEXT.replace("30 5 * * *", line))
    store = open_store(config.store, shard="test")
    await store.open()
    for sensor, rule, away in (("ticks", "every 1h", 5 * 3600), ("cron:often", f"{line} UTC", 120)):
        value = orjson.dumps({"v": 1, "after": now - away * 1_000_000, "rule": rule}).decode()
        await store.submit(_Move(sensor, value), None)
    await store.close()
    async with running(config) as gate:
        runs = await gate.finished(2, 30.0)
        counts = await gate.service.store.read(lambda reader: reader.counts("sensor"))
        decisions = [row["outcome"] for row in await gate.decisions(trigger="often")]
        events = await gate.events(sensor="cron:often")
        await until(lambda: gate.service.sensor_health()["cron:often"]["state"] == "healthy")

    by_trigger = {run["trigger"]: run for run in runs}
    assert counts["ticks", "missed"] in (4, 5)
    assert by_trigger["told"]["params"] == {"n": counts["ticks", "missed"]}
    assert by_trigger["often"]["params"] == {"at": events[0]["id"]}
    assert decisions[0] == "fired"


async def test_a_time_of_a_trigger_is_a_sensor_like_any_other(tmp_path: Path) -> None:
    """It is listed, paused and resumed by its name, and a reload that takes the time away takes it away as well."""
    async with running(await load(tmp_path, TEXT, store="memory:")) as gate:
        await until(lambda: gate.service.sensor_health()["cron:often"]["state"] == "healthy")
        await gate.service.pause_sensor("cron:often", "hold")
        await until(lambda: gate.service.sensor_health()["cron:often"]["state"] == "paused")
        await gate.service.pause_sensor("cron:often", None)
        changed = TEXT.replace('{cron: "30 5 * * *"}', "{sensor: ticks}")
        await gate.service.reload(await load(tmp_path, changed, store="memory:"))
        assert "cron:often" not in gate.service.sensor_health()
        await asyncio.sleep(0)
