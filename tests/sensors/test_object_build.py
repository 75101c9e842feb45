"""Sensors made from options, as kinds make them: content, completeness and what becomes of objects, together."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sensors.adapters.object_build import Ways, make_object_sensor
from sensors.adapters.watched_options import WatchedOptions
from sensors.event import Event
from sensors.kind import SensorContext
from sensors.testing import EverythingWanted
from tests.support.object_bench import ObjectBench, data, told


class Built(ObjectBench):
    """A bench whose sensor is made from options."""

    async def connect(self) -> Any:
        options = WatchedOptions.model_validate({"start": "beginning", **self.options})
        context = SensorContext("s", "svc", self.clock, Path("/"))
        self.sensor = make_object_sensor(options, self.memory, self.queue, context, Ways())
        await self.sensor.connect(await self.inbox.cursors("s"), self.inbox.lookup("s"), EverythingWanted())
        return self.sensor


@pytest.fixture
async def bench() -> AsyncIterator[Built]:
    made = Built()
    yield made
    await made.close()


CSV = b"id,amount\n1,2.5\n2,3.5\n"


async def test_what_is_in_a_file_comes_with_its_event(bench: Built) -> None:
    """Schema and rows are read from the beginning of the object, and stand in the event's data."""
    bench.options = {"inspect": True}
    bench.memory.put("a.csv", CSV)
    await bench.connect()
    (event,) = await bench.rest()
    found = data(event)
    assert (found["format"], found["rows"]) == ("csv", 2)
    assert [column["name"] for column in found["schema"]] == ["id", "amount"]


async def test_a_file_that_breaks_what_is_expected_is_refused_and_taken_away(bench: Built) -> None:
    """No event, one dead letter with the difference, a count, and the object moved; a corrected one is created."""
    bench.options = {
        "expect": {"columns": ["id", "amount"], "on_violation": {"move": "bad/{key}"}},
        "prefix": "in/",
        "on": ["created", "overwritten", "deleted"],
    }
    bench.memory.put("in/a.csv", b"id,price\n1,2\n")
    bench.memory.put("in/b.csv", CSV)
    await bench.connect()
    assert told(await bench.rest()) == [("created", "in/b.csv")]
    (letter,) = bench.inbox.dead_letters
    assert (letter.reason, letter.position) == ("refused", "in/a.csv")
    assert "amount" in letter.detail
    assert json.loads(letter.payload)["difference"]
    assert bench.inbox.counts["refused"] == 1
    await bench.clock.advance(2)
    await bench.rest()
    assert sorted(bench.memory.objects) == ["bad/in/a.csv", "in/b.csv"]
    assert await bench.scan() == []  # nobody was told of it, so nobody is told that it is gone

    await bench.clock.advance(5)
    bench.memory.put("in/a.csv", CSV)
    assert told(await bench.scan()) == [("created", "in/a.csv")]


async def test_a_set_with_a_wrong_file_is_refused_as_a_whole(bench: Built) -> None:
    """A set is one event; what is wrong with one of its files is wrong with the set."""
    bench.options = {"marker": "_SUCCESS", "pattern": "{day}/{name}.csv", "expect": {"columns": ["id"]}}
    for key, body in (
        ("1/a.csv", CSV),
        ("1/_SUCCESS", b""),
        ("2/a.csv", CSV),
        ("2/b.csv", b"no\n1\n"),
        ("2/_SUCCESS", b""),
    ):
        bench.memory.put(key, body)
    await bench.connect()
    (event,) = await bench.rest()
    assert (event.type, event.subject, dict(event.match)) == ("object.set.completed", "1/", {"day": "1", "name": "a"})
    (member,) = data(event)["files"]
    assert (member["key"], member["rows"]) == ("1/a.csv", 2)
    (letter,) = bench.inbox.dead_letters
    assert letter.detail.startswith("2/b.csv: ")


async def test_objects_are_moved_once_their_runs_allow(bench: Built) -> None:
    """What we take away ourselves is no deletion, and the destination is no new object."""
    bench.options = {
        "prefix": "in/",
        "after": {"do": "move", "to": "done/{name}", "when": "accepted"},
        "on": ["created", "deleted"],
    }
    bench.memory.put("in/a")
    await bench.connect()
    (event,) = await bench.rest()
    assert sorted(bench.memory.objects) == ["in/a"]
    _accept(bench, event)
    await bench.clock.advance(2)
    await bench.rest()
    assert sorted(bench.memory.objects) == ["done/a"]
    assert await bench.scan() == []
    await bench.clock.advance(5)
    bench.memory.put("in/a")
    assert told(await bench.scan()) == [("created", "in/a")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prefix": "in/", "after": {"do": "move", "to": "in/done/{name}"}}, "watches"),
        ({"prefix": "in/", "expect": {"columns": ["a"], "on_violation": {"move": "in/bad"}}}, "on_violation"),
        ({"marker": "_SUCCESS", "settle": "1m"}, "leave one of them out"),
        ({"prefix": "a/", "pattern": "b/{n}.csv"}, "begin with the prefix"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Mapping[str, Any], words: str) -> None:
    """Each with a sentence that says what would be right, before anything is opened."""
    bench = ObjectBench()
    with pytest.raises((ValidationError, ValueError), match=words):
        make_object_sensor(
            WatchedOptions.model_validate({"start": "now", **options}),
            bench.memory,
            None,
            SensorContext("s", "svc", bench.clock, Path("/")),
        )


def _accept(bench: ObjectBench, event: Event) -> None:
    """Let a run of the event be accepted."""
    bench.inbox.runs[event.uid] = "accepted"
