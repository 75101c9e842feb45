"""What happens at the same time: pages under way, messages, our own actions, other replicas. Nothing is told twice."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from sensors.adapters.after import Plan
from sensors.adapters.destination import compile_template
from sensors.adapters.object_judge import Steps
from sensors.adapters.objects import SECOND, Hint
from sensors.adapters.settled import Settled
from sensors.batch import SeenObject
from sensors.errors import BadPayload, NotConnected
from sensors.event import storable_text
from sensors.testing import FakeLookup, settle
from tests.support.object_bench import ObjectBench, told


@pytest.fixture
async def bench() -> AsyncIterator[ObjectBench]:
    made = ObjectBench()
    yield made
    await made.close()


async def test_a_version_is_not_missing_because_versions_are_listed(bench: ObjectBench) -> None:
    """With `versions` a scan knows what it has listed: nothing is concluded to be gone that is there."""
    bench.options = {"on": ["created", "overwritten", "deleted"]}
    bench.steps = lambda _source: Steps(versions=True)
    bench.memory.unordered = bench.memory.versioned = True
    bench.memory.put("a")
    bench.memory.put("b")
    await bench.connect()
    assert len(await bench.rest()) == 2
    for _ in range(2):
        await bench.clock.advance(100)
        assert await bench.scan() == []


async def test_our_own_deletion_is_no_event_whatever_was_listed_before(bench: ObjectBench) -> None:
    """A page that was fetched before we took an object away shows it still; it does not come back by that."""
    bench.steps = lambda _source: Steps(after=Plan("delete", "accepted"))
    bench.memory.put("a")
    await bench.connect()
    (event,) = await bench.rest()
    await bench.clock.advance(0.5)
    assert bench.sensor is not None
    bench.sensor.poll()
    await bench.read()
    await settle()  # the page that shows it is there, and not judged yet
    bench.inbox.runs[event.uid] = "accepted"
    await bench.clock.advance(1)
    assert await bench.rest() == []
    assert bench.memory.objects == {}
    assert await bench.scan() == []


async def test_what_cannot_be_done_to_objects_stops_nothing_else(bench: ObjectBench) -> None:
    """A destination that is denied makes the sensor unhealthy; new objects are events all the same; it heals."""
    bench.options = {"every": "10s"}
    to = compile_template("out/{key}", ())
    bench.steps = lambda _source: Steps(after=Plan("move", "accepted", to))
    bench.options["prefix"] = "in/"
    bench.memory.put("in/a")
    sensor = await bench.connect()
    (event,) = await bench.rest()
    bench.inbox.runs[event.uid] = "accepted"
    bench.memory.fail["move"] = [NotConnected("denied: s3:PutObject")]
    bench.memory.put("in/b")
    await bench.clock.advance(2)
    assert told(await bench.scan()) == [("created", "in/b")]
    assert sensor.trouble() == "what is to be done to objects cannot be done now: denied: s3:PutObject"
    await bench.clock.advance(31)
    await bench.rest()
    assert sensor.trouble() is None
    assert sorted(bench.memory.objects) == ["in/b", "out/in/a"]


async def test_messages_without_end_stop_neither_scans_nor_what_waits(bench: ObjectBench) -> None:
    """With one message for every read, listings go on at their interval and settled objects are told."""
    bench.options = {"every": "20s"}
    bench.steps = lambda source: Steps(completeness=Settled(5.0, 20.0, source, bench.clock))
    await bench.connect_with_notices()
    pages = bench.memory.counts["page"]
    for n in range(60):
        bench.memory.put(f"n{n:02}")
        bench.notices.send(Hint(f"n{n:02}", "written"))
        await settle()
        await bench.clock.advance(1)
        await bench.read()
    assert bench.memory.counts["page"] > pages
    assert len(bench.inbox.events) > 30


async def test_where_a_renamed_object_was_is_looked_at_only_if_it_is_watched(bench: ObjectBench) -> None:
    """A rename from outside makes no event of what is outside, be it an object or a folder."""
    bench.options = {"prefix": "in/"}
    await bench.connect_with_notices()
    for key in ("in/1.csv", "staging/out.csv", "in/d/1.csv", "stage/2.csv"):
        bench.memory.put(key)
    bench.notices.send(Hint("in/1.csv", "renamed", "staging/out.csv"))
    bench.notices.send(Hint("in/d/", "subtree", "stage/"))
    assert sorted(told(await bench.rest())) == [("created", "in/d/1.csv"), ("renamed", "in/1.csv")]
    assert sorted(bench.inbox.lookup("s").objects) == ["in/1.csv", "in/d/1.csv"]


async def test_a_dated_prefix_reaches_no_further_for_messages(bench: ObjectBench) -> None:
    """A message tells of any day below the prefix, and of nothing that no day's listing would show."""
    bench.options = {"prefix": "logs/{%Y-%m-%d}/"}
    await bench.connect_with_notices()
    for key in ("logs/archive/x", "logs/2019-01-01/x"):
        bench.memory.put(key)
        bench.notices.send(Hint(key, "written"))
    assert told(await bench.rest()) == [("created", "logs/2019-01-01/x")]


async def test_a_folder_as_one_event_swallows_nothing_else(bench: ObjectBench) -> None:
    """What is written into a renamed folder afterwards is told, and so are deletions that came with the message."""
    bench.options = {"on": ["created", "overwritten", "renamed", "deleted"]}
    bench.steps = lambda _source: Steps(folders=True)
    bench.memory.put("a/1")
    bench.memory.put("c/1")
    await bench.connect_with_notices()
    await bench.clock.advance(10)
    bench.memory.objects["b/1"] = bench.memory.objects.pop("a/1")
    bench.memory.remove("c/1")
    renamed = bench.clock.now()
    await bench.clock.advance(3)
    bench.memory.put("b/new")
    bench.notices.send(Hint("b/", "subtree", "a/", time=renamed))
    bench.notices.send(Hint("c/", "subtree", time=renamed))
    assert sorted(told(await bench.rest())) == [("created", "b/new"), ("deleted", "c/1"), ("renamed", "b/")]
    assert await bench.scan() == []


async def test_one_object_that_cannot_be_looked_at_keeps_no_other_waiting(bench: ObjectBench) -> None:
    """Objects settle one by one: a denial for one of them is no reason to hold the others back."""
    bench.steps = lambda source: Steps(completeness=Settled(5.0, 60.0, source, bench.clock))
    await bench.connect()
    await bench.rest()
    bench.memory.put("bad")
    bench.memory.put("good")
    bench.memory.broken["bad"] = BadPayload("bad: denied", position="bad")
    await bench.scan()
    await bench.clock.advance(6)
    assert told(await bench.rest()) == [("created", "good")]


async def test_what_another_replica_has_seen_meanwhile_is_not_undone(bench: ObjectBench) -> None:
    """A page that was asked for before another replica saw an object go does not bring it back."""
    bench.options = {"on": ["created", "deleted"]}
    bench.memory.put("a")
    one = await bench.connect()
    await bench.rest()
    two = await bench.connect()
    await settle()  # its first page, which shows the object, is there and not judged yet
    bench.memory.remove("a")
    bench.sensor = one
    await bench.clock.advance(1)
    assert told(await bench.scan()) == [("deleted", "a")]
    await one.close()
    bench.sensor = two
    assert await bench.rest() == []
    assert await bench.scan() == []


async def test_what_was_written_in_the_second_of_the_start_is_told(bench: ObjectBench) -> None:
    """Object times are whole seconds: what has the second of the start may have come after it."""
    bench.options = {"start": "now"}
    await bench.clock.advance(0.5)

    async def shards(prefixes: Sequence[str]) -> Sequence[str]:
        await bench.clock.advance(0.2)
        bench.memory.put("a")
        return prefixes

    bench.memory.shards = shards  # type: ignore[method-assign]
    bench.memory.put("old", modified=bench.clock.now() - SECOND)
    await bench.connect()
    assert told(await bench.rest()) == [("created", "a")]


async def test_a_scan_that_is_asked_for_during_another_one_follows_it(bench: ObjectBench) -> None:
    """What came behind the place of a scan under way is found by the one that was asked for."""
    bench.options = {"every": "1h"}
    bench.memory.page_size = 1
    for key in "abc":
        bench.memory.put(key)
    sensor = await bench.connect()
    await bench.read()
    await bench.read()
    bench.memory.put("A")
    sensor.poll()
    assert ("created", "A") in told(await bench.rest())


async def test_a_key_that_the_store_cannot_be_asked_for_stops_no_scan(bench: ObjectBench) -> None:
    """A NUL at the end of a page is not handed to a database that refuses it."""
    bench.memory.page_size = 1
    bench.memory.put("a\0b")
    bench.memory.put("c")

    class Strict(FakeLookup):
        async def seen_range(self, after: str, upto: str | None, limit: int) -> Sequence[SeenObject]:
            assert all(storable_text(text) for text in (after, upto or ""))
            return await super().seen_range(after, upto, limit)

    lookup = bench.inbox.lookup("s")
    strict: Any = Strict(lookup.objects, lookup.actions, bench.inbox.runs)

    def lent(sensor: str) -> FakeLookup:
        found: FakeLookup = strict
        return found

    bench.inbox.lookup = lent  # type: ignore[method-assign]
    await bench.connect()
    assert told(await bench.rest()) == [("created", "c")]


async def test_large_pages_are_judged_in_parts_where_each_object_is_read(bench: ObjectBench) -> None:
    """What was read becomes durable every few hundred objects, and nothing of the page is left out."""

    class Reads:
        def take_up(self, cursors: object) -> None: ...

        async def inspect(self, name: str, size: int, read: Any) -> Any:
            from sensors.adapters.object_steps import Inspected

            await read(0, 1)
            return Inspected()

        def cursors(self) -> Sequence[Any]:
            return ()

    bench.steps = lambda _source: Steps(inspector=Reads(), inspect_at_once=64)
    bench.memory.page_size = 900
    for n in range(1_000):
        bench.memory.put(f"k{n:04}")
    await bench.connect()
    assert len(await bench.rest()) == 1_000
    assert max(len(batch.events) for batch in bench.inbox.batches) == 200
    assert await asyncio.wait_for(bench.scan(), 10) == []
