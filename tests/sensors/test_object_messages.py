"""Notifications of object storage: only hints, worked on once, and deleted when what they told of is durable."""

from collections.abc import AsyncIterator

import pytest

from sensors.adapters.object_judge import Steps
from sensors.adapters.objects import Hint
from sensors.batch import DeadLetter
from sensors.errors import BackOff, NotConnected
from sensors.testing import settle
from tests.support.object_bench import ObjectBench, data, told


@pytest.fixture
async def bench() -> AsyncIterator[ObjectBench]:
    """A bench whose sensor is let go at the end."""
    made = ObjectBench()
    yield made
    await made.close()


async def test_a_notification_and_the_listing_lead_to_one_event(bench: ObjectBench) -> None:
    """The same object has the same id by both routes, whichever comes first, and the message goes after the commit."""
    notices = bench.notices
    await bench.connect()
    await bench.rest()
    bench.memory.put("by-notice")
    notices.send(Hint("by-notice", "written"), receipt="r1")
    assert told(await bench.rest()) == [("created", "by-notice")]
    assert notices.deleted == ["r1"]
    assert await bench.scan() == []

    bench.memory.put("by-listing")
    assert told(await bench.scan()) == [("created", "by-listing")]
    for _ in range(2):
        notices.send(Hint("by-listing", "written"), receipt="r2")
    assert await bench.rest() == []
    assert notices.deleted == ["r1", "r2", "r2"]


async def test_a_message_is_not_deleted_before_the_commit(bench: ObjectBench) -> None:
    """While the batch is not durable the message stays, hidden from others for as long as that takes."""
    notices = bench.notices
    sensor = await bench.connect()
    await bench.rest()
    bench.memory.put("a")
    notices.send(Hint("a", "written"), receipt="r")
    await settle()
    batch = await sensor.read()
    assert told(list(batch.events)) == [("created", "a")]
    await bench.clock.advance(25)
    assert notices.deleted == []
    assert notices.kept == ["r", "r"]
    await bench.inbox.put("s", batch)
    await batch.ack()
    await bench.clock.advance(25)
    assert (notices.deleted, notices.kept) == (["r"], ["r", "r"])


async def test_a_notified_deletion_is_believed_when_the_object_is_gone(bench: ObjectBench) -> None:
    """A removal is looked at like everything else: late ones of an object that came back are nothing."""
    bench.options = {"on": ["created", "deleted"]}
    notices = bench.notices
    bench.memory.put("a")
    await bench.connect()
    await bench.rest()
    notices.send(Hint("a", "removed"), receipt=1)
    assert await bench.rest() == []
    bench.memory.remove("a")
    notices.send(Hint("a", "removed"), receipt=2)
    notices.send(Hint("never-there", "written"), receipt=3)
    assert told(await bench.rest()) == [("deleted", "a")]
    assert bench.inbox.counts["gone"] == 1
    assert notices.deleted == [1, 2, 3]


async def test_a_poison_message_becomes_a_dead_letter_once(bench: ObjectBench) -> None:
    """What cannot be read is kept with its reason, then deleted from the queue."""
    await bench.connect_with_notices()
    bench.notices.send(receipt="r", dead=DeadLetter("bad_notice", "no JSON", "queue/1", b"{"))
    await bench.rest()
    assert [letter.reason for letter in bench.inbox.dead_letters] == ["bad_notice"]
    assert bench.notices.deleted == ["r"]


async def test_a_queue_that_is_away_makes_the_sensor_ill_and_the_listing_goes_on(bench: ObjectBench) -> None:
    """The sentence names the queue's trouble; it recovers by itself."""
    notices = bench.notices
    notices.failures.append(NotConnected("the queue does not exist"))
    sensor = await bench.connect()
    bench.memory.put("a")
    assert told(await bench.rest()) == [("created", "a")]
    assert sensor.trouble() == "notifications cannot be received: the queue does not exist"
    await bench.clock.advance(2)
    notices.send(Hint("a", "written"), receipt="r")
    await bench.rest()
    assert sensor.trouble() is None
    assert notices.deleted == ["r"]


async def test_messages_are_worked_on_again_after_the_source_asked_for_patience(bench: ObjectBench) -> None:
    """A look that fails loses no message."""
    await bench.connect_with_notices()
    bench.memory.put("a")
    bench.memory.fail["head"] = [BackOff("slow down", 1.0)]
    bench.notices.send(Hint("a", "written"), receipt="r")
    with pytest.raises(BackOff):
        await bench.rest()
    assert bench.notices.deleted == []
    assert told(await bench.rest()) == [("created", "a")]
    assert bench.notices.deleted == ["r"]


async def test_a_renamed_folder_is_listed_and_the_old_one_is_gone(bench: ObjectBench) -> None:
    """One message for a folder: its objects are told, and those under the old name are remembered as gone."""
    bench.options = {"on": ["created", "deleted"]}
    bench.memory.unordered = True
    await bench.connect_with_notices()
    for n in range(5):
        bench.memory.put(f"tmp/{n}")
    await bench.scan()
    for n in range(5):
        bench.memory.put(f"final/{n}", modified=bench.memory.objects[f"tmp/{n}"].modified)
        bench.memory.remove(f"tmp/{n}")
    bench.notices.send(Hint("final/", "subtree", old_key="tmp/"), receipt="r")
    found = told(await bench.rest())
    assert sorted(found) == [
        *[("created", f"final/{n}") for n in range(5)],
        *[("deleted", f"tmp/{n}") for n in range(5)],
    ]
    assert bench.notices.deleted == ["r"]
    assert await bench.scan() == []


async def test_a_renamed_object_says_where_it_was(bench: ObjectBench) -> None:
    """A rename is one event that names both; the old name is remembered as gone without one."""
    bench.options = {"on": ["created", "renamed", "deleted"]}
    await bench.connect_with_notices()
    one = bench.memory.put("a.tmp2")
    await bench.scan()
    bench.memory.put("a.csv", modified=one.modified)
    bench.memory.remove("a.tmp2")
    bench.notices.send(Hint("a.csv", "renamed", old_key="a.tmp2"), receipt="r")
    events = await bench.rest()
    assert told(events) == [("renamed", "a.csv")]
    assert data(events[0])["from"] == "a.tmp2"
    assert await bench.scan() == []


async def test_what_was_not_worked_on_is_given_back(bench: ObjectBench) -> None:
    """Messages that were received and not settled go back to the queue at once when the sensor is let go."""
    notices = bench.notices
    sensor = await bench.connect()
    await bench.rest()
    bench.memory.put("a")
    notices.send(Hint("a", "written"), receipt="taken")
    await settle()
    await sensor.read()
    notices.send(Hint("b", "written"), receipt="came")
    await settle()
    await bench.close()
    assert (notices.returned, notices.deleted) == (["taken", "came"], [])


async def test_what_is_renamed_out_of_sight_is_gone(bench: ObjectBench) -> None:
    """A rename to a place that is not watched is a removal here."""
    bench.options = {"prefix": "in/", "on": ["created", "deleted"]}
    await bench.connect_with_notices()
    bench.memory.put("in/a")
    await bench.scan()
    bench.memory.remove("in/a")
    bench.memory.put("out/a")
    bench.notices.send(Hint("out/a", "renamed", old_key="in/a"), receipt="r")
    bench.notices.send(Hint("elsewhere", "written"), receipt="s")
    assert told(await bench.rest()) == [("deleted", "in/a")]
    assert bench.inbox.counts["ignored"] == 1


async def test_a_renamed_folder_may_be_one_event(bench: ObjectBench) -> None:
    """With `emit: folder` its files are remembered without an event of their own."""
    bench.steps = lambda _source: Steps(folders=True)
    bench.memory.unordered = True
    await bench.connect_with_notices()
    bench.memory.put("tmp/1")
    await bench.scan()
    bench.memory.remove("tmp/1")
    bench.memory.put("final/1")
    bench.notices.send(Hint("final/", "subtree", old_key="tmp/", sequencer="7"), receipt="r")
    (event,) = await bench.rest()
    assert (event.type, event.subject, event.id) == ("object.renamed", "final/", "final/@7#renamed")
    assert data(event)["from"] == "tmp/"
    assert bench.notices.deleted == ["r"]
    assert await bench.scan() == []
