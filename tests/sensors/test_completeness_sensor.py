"""Completeness within the whole sensor on object storage: what becomes durable, what is told, and when."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sensors.adapters.object_build import make_object_sensor
from sensors.adapters.object_sensor import ObjectSensor
from sensors.adapters.watched_options import WatchedOptions
from sensors.kind import SensorContext
from sensors.testing import EverythingWanted
from tests.support.completing import field_of
from tests.support.object_bench import ObjectBench, data, told


@dataclass
class Whole(ObjectBench):
    """The sensor as a kind makes it, without notifications."""

    async def connect(self) -> ObjectSensor:
        """Make a sensor anew from what is durable."""
        options = WatchedOptions.model_validate({"start": "beginning", **self.options})
        context = SensorContext("s", "t", self.clock, Path(), {}, field_of)
        self.sensor = make_object_sensor(options, self.memory, None, context)
        await self.sensor.connect(await self.inbox.cursors("s"), self.inbox.lookup("s"), EverythingWanted())
        return self.sensor


async def _bench(**options: Any) -> Whole:
    bench = Whole(options)
    await bench.connect()
    await bench.rest()
    return bench


async def test_a_published_folder_is_one_event_with_its_files() -> None:
    """Also when the marker lies above what the pattern begins with; a restart tells nothing again."""
    bench = await _bench(pattern="orders/dt={day}/{name}.csv", marker="_SUCCESS")
    bench.memory.put("orders/dt=1/a.csv")
    bench.memory.put("orders/dt=1/b.csv")
    assert await bench.scan() == []
    bench.memory.put("orders/dt=1/_SUCCESS", b"")
    (event,) = await bench.scan()
    assert told([event]) == [("set.completed", "orders/dt=1/")]
    assert [file["key"] for file in data(event)["files"]] == ["orders/dt=1/a.csv", "orders/dt=1/b.csv"]
    assert event.match == {"day": "1"}
    await bench.restart()
    assert await bench.rest() == []
    bench.memory.put("orders/_SUCCESS", b"")

    assert told(await bench.scan()) == [("set.completed", "orders/")]


async def test_a_marker_written_again_is_news_although_reuploads_are_ignored() -> None:
    """A new version with the same content is nothing for a file, and a publication for a marker."""
    bench = await _bench(marker="_SUCCESS", reupload="ignore")
    bench.memory.put("d/a")
    bench.memory.put("d/_SUCCESS", b"")
    assert len(await bench.scan()) == 1
    await bench.clock.advance(2)
    bench.memory.put("d/_SUCCESS", b"")

    assert told(await bench.scan()) == [("set.completed", "d/")]


async def test_an_object_that_rests_is_told_between_scans() -> None:
    """The wait ends by the clock, not by the interval."""
    bench = await _bench(settle="5s", every="1h")
    bench.memory.put("a")
    assert await bench.scan() == []
    await bench.clock.advance(5)

    assert told(await bench.rest()) == [("created", "a")]


async def test_a_manifest_that_waits_is_named_when_overdue_and_completes() -> None:
    """Also across a restart; the sentence reaches the sensor's health."""
    manifest = {"name": "d/{day}.json", "files": "body", "within": "1h"}
    bench = await _bench(pattern="d/{name}.csv", manifest=manifest, every="1m")
    bench.memory.put("d/1.json", json.dumps(["a.csv"]).encode())
    assert await bench.scan() == []
    await bench.restart()
    await bench.clock.advance(3601)
    await bench.rest()
    assert bench.sensor is not None
    assert "1 of 1 files are missing: d/a.csv" in (bench.sensor.trouble() or "")
    bench.memory.put("d/a.csv")

    assert told(await bench.scan()) == [("set.completed", "d/1.json")]
    assert bench.sensor.trouble() is None


async def test_a_file_waits_for_its_marker() -> None:
    """One event for the file, none for the marker."""
    bench = await _bench(pattern="in/{name}.csv", marker="ok/{name}")
    bench.memory.put("in/a.csv")
    assert await bench.scan() == []
    bench.memory.put("ok/a", b"")

    assert told(await bench.scan()) == [("created", "in/a.csv")]
    await bench.restart()
    assert await bench.rest() == []
