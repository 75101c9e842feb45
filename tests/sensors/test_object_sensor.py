import asyncio
from collections.abc import AsyncIterator

import pytest

from sensors.adapters.object_judge import Steps
from sensors.adapters.objects import Hint
from sensors.errors import BackOff, BadPayload, NotConnected
from tests.support.object_bench import ObjectBench, data, told

EachOrder = pytest.mark.parametrize("unordered", [False, True], ids=["in-key-order", "in-any-order"])


@pytest.fixture
async def bench() -> AsyncIterator[ObjectBench]:
    """A bench whose sensor is let go at the end."""
    made = ObjectBench()
    yield made
    await made.close()


@EachOrder
async def test_what_is_created_overwritten_and_deleted_is_told_once(bench: ObjectBench, unordered: bool) -> None:
    """Each version is one event; a deletion is told after a whole scan; what comes back is a new incarnation."""
    bench.options = {"on": ["created", "overwritten", "deleted"]}
    bench.memory.unordered = unordered
    bench.memory.page_size = 2
    listed = [bench.memory.put(key) for key in ("a/1", "a/2", "b/1", "é")]
    await bench.connect()
    first = await bench.rest()
    assert sorted(told(first)) == [("created", key) for key in ("a/1", "a/2", "b/1", "é")]
    assert {event.id for event in first} == {f"{one.key}@{one.token}#0" for one in listed}
    assert await bench.scan() == []

    await bench.clock.advance(10)
    bench.memory.put("a/2", b"other")
    bench.memory.remove("b/1")
    assert sorted(told(await bench.scan())) == [("deleted", "b/1"), ("overwritten", "a/2")]

    await bench.clock.advance(10)
    again = bench.memory.put("b/1")
    back = await bench.scan()
    assert [event.id for event in back] == [f"b/1@{again.token}#1"]
    assert bench.inbox.duplicates == 0


@pytest.mark.parametrize(("start", "expected"), [("now", []), ("beginning", ["old"]), ("-1h", ["old"]), ("-1m", [])])
async def test_start_says_what_was_there_at_first(bench: ObjectBench, start: str, expected: list[str]) -> None:
    """`now` makes a silent baseline; what is modified after the start is an event also during the first scan."""
    bench.options = {"start": start}
    bench.memory.put("old")
    await bench.clock.advance(600)
    await bench.connect()
    bench.memory.put("new")
    assert sorted(event.subject or "" for event in await bench.rest()) == sorted([*expected, "new"])

    bench.memory.put("late", modified=bench.clock.now() - 3_600_000_000)  # a multipart upload that began long ago
    assert told(await bench.scan()) == [("created", "late")]


async def test_a_failed_scan_deletes_nothing_and_goes_on(bench: ObjectBench) -> None:
    """A page that fails is asked for again; only a scan that was whole says what is gone."""
    bench.options = {"on": ["created", "deleted"]}
    bench.memory.page_size = 1
    for n in range(4):
        bench.memory.put(f"k{n}")
    await bench.connect()
    await bench.rest()
    bench.memory.remove("k0")
    bench.memory.fail["page"] = [BackOff("slow down", 1.0)]
    sensor = bench.sensor
    assert sensor is not None
    sensor.poll()
    with pytest.raises(BackOff):
        await bench.rest()
    assert told(await bench.rest()) == [("deleted", "k0")]

    bench.memory.remove("k1")
    bench.memory.fail["page"] = [NotConnected("gone")]
    sensor.poll()
    with pytest.raises(NotConnected):
        await bench.rest()
    await bench.restart()
    assert told(await bench.rest()) == [("deleted", "k1")]


@EachOrder
async def test_a_scan_goes_on_after_a_restart(bench: ObjectBench, unordered: bool) -> None:
    """What was listed is not listed again, and nothing is told twice; the next whole scan finds deletions."""
    bench.options = {"on": ["created", "deleted"], "every": "10s"}
    bench.memory.unordered = unordered
    bench.memory.page_size = 10
    for n in range(100):
        bench.memory.put(f"k{n:03}")
    await bench.connect()
    while len(bench.inbox.events) < 50:
        await bench.read()
    pages = bench.memory.counts["page"]
    await bench.restart()
    await bench.rest()
    assert len(bench.inbox.events) == 100
    assert bench.inbox.duplicates == 0
    assert bench.memory.counts["page"] - pages <= 6
    bench.memory.remove("k000", "k099")
    assert sorted(told(await bench.scan())) == [("deleted", "k000"), ("deleted", "k099")]


async def test_a_place_that_is_no_more_begins_the_scan_anew(bench: ObjectBench) -> None:
    """A continuation that the source does not take any more costs a scan, and nothing else."""
    bench.memory.unordered = True
    bench.memory.page_size = 10
    for n in range(30):
        bench.memory.put(f"k{n:03}")
    await bench.connect()
    while not bench.inbox.events:
        await bench.read()
    bench.memory.fail["page"] = [NotConnected("the continuation token is not valid any more")]
    await bench.restart()
    await bench.rest()
    assert len(bench.inbox.events) == 30
    assert bench.inbox.duplicates == 0


async def test_only_what_is_wanted_counts(bench: ObjectBench) -> None:
    """Pattern, ignored names and least size leave objects out; a narrower pattern later deletes nothing."""
    bench.options = {"pattern": "in/{day}/{name}.csv", "min_size": "2B", "on": ["created", "deleted"]}
    for key in ("in/1/a.csv", "in/1/b.txt", "in/_temporary/c.csv", "out/1/a.csv"):
        bench.memory.put(key, b"abc")
    bench.memory.put("in/1/small.csv", b"a")
    await bench.connect()
    events = await bench.rest()
    assert [(event.subject, dict(event.match)) for event in events] == [("in/1/a.csv", {"day": "1", "name": "a"})]
    assert {prefix for method, prefix in bench.memory.asked if method == "page"} == {"in/"}

    bench.options = {"pattern": "in/2/{name}.csv", "on": ["created", "deleted"]}
    await bench.restart()
    assert await bench.scan() == []


async def test_dated_prefixes_move_on_with_the_days(bench: ObjectBench) -> None:
    """Each scan lists the last days only; what leaves the window is not deleted."""
    bench.options = {"prefix": "in/{%Y-%m-%d}/", "days": 2, "on": ["created", "deleted"]}
    bench.memory.put("in/2027-01-15/a")
    await bench.connect()
    assert told(await bench.rest()) == [("created", "in/2027-01-15/a")]
    await bench.clock.advance(3 * 86_400)
    bench.memory.put("in/2027-01-18/b")
    assert told(await bench.scan()) == [("created", "in/2027-01-18/b")]


async def test_a_key_that_cannot_be_stored_is_a_dead_letter_once(bench: ObjectBench) -> None:
    """Keys are chosen by whoever may write; a NUL fits no text column."""
    bench.memory.put("a\0b")
    await bench.connect()
    await bench.rest()
    await bench.scan()
    assert [letter.reason for letter in bench.inbox.dead_letters] == ["unreadable_name"]
    assert bench.inbox.events == []


@pytest.mark.parametrize(("reupload", "events"), [("event", 1), ("ignore", 0)])
async def test_the_same_content_again(bench: ObjectBench, reupload: str, events: int) -> None:
    """A new version with the content of the one before is an event, unless it is to be ignored."""
    bench.steps = lambda _source: Steps(keep_reuploads=reupload == "event")
    bench.memory.put("a", b"same")
    await bench.connect()
    await bench.rest()
    await bench.clock.advance(5)
    bench.memory.put("a", b"same")
    assert len(await bench.scan()) == events
    await bench.clock.advance(5)
    bench.memory.put("a", b"other")
    assert len(await bench.scan()) == 1


async def test_details_are_looked_up_when_asked_for(bench: ObjectBench) -> None:
    """Content type, metadata and tags come with the event; an object that changed meanwhile waits for the next look."""
    bench.steps = lambda _source: Steps(details=True)
    bench.memory.put("a", content_type="text/csv", metadata={"by": "me"}, tags={"t": "1"})
    await bench.connect()
    (event,) = await bench.rest()
    assert {name: data(event)[name] for name in ("content_type", "metadata", "tags")} == {
        "content_type": "text/csv",
        "metadata": {"by": "me"},
        "tags": {"t": "1"},
    }


async def test_a_source_that_changed_says_so(bench: ObjectBench) -> None:
    """Another bucket under the same name needs a word: keep what is remembered, or begin anew."""
    bench.memory.put("a")
    await bench.connect()
    await bench.rest()
    bench.memory.place = "mem://other"
    with pytest.raises(NotConnected, match="it watched 'mem://bucket' so far and is to watch 'mem://other' now"):
        await bench.restart()
    bench.options = {"cursor": "keep"}
    await bench.connect()
    assert await bench.rest() == []
    bench.memory.place = "mem://third"
    bench.options = {"cursor": "reset"}
    await bench.restart()
    assert len(await bench.rest()) == 0  # the same version is the same fact, whatever is remembered
    assert bench.inbox.duplicates == 1


async def test_shards_are_listed_side_by_side(bench: ObjectBench) -> None:
    """Disjoint prefixes are listed at the same time and miss nothing; deletions are found in each."""
    bench.options = {"on": ["created", "deleted"]}
    bench.parallel = 3
    bench.memory.split = ["a/", "b/", "c/", "d/"]
    bench.memory.page_size = 2
    keys = [f"{letter}/{n}" for letter in "abcd" for n in range(5)]
    for key in keys:
        bench.memory.put(key)
    await bench.connect()
    assert sorted(key for _, key in told(await bench.rest())) == keys
    assert bench.memory.busiest >= 2
    bench.memory.remove("a/0", "d/4")
    assert sorted(told(await bench.scan())) == [("deleted", "a/0"), ("deleted", "d/4")]


async def test_closing_leaves_nothing_behind(bench: ObjectBench) -> None:
    """Source and queue are let go, and no task goes on."""
    await bench.connect_with_notices()
    before = len(asyncio.all_tasks())
    await bench.close()
    assert (bench.memory.closed, bench.notices.closed) == (1, 1)
    assert len(asyncio.all_tasks()) < before


async def test_a_page_that_could_not_be_judged_is_judged_again(bench: ObjectBench) -> None:
    """When the source asks for patience in the middle of a page, nothing of that page waits for the next scan."""
    bench.steps = lambda _source: Steps(details=True)
    bench.memory.page_size = 3
    for n in range(9):
        bench.memory.put(f"k{n}")
    await bench.connect()
    bench.memory.fail["head"] = [BackOff("slow down", 1.0)]
    with pytest.raises(BackOff):
        await bench.rest()
    assert [key for _, key in told(await bench.rest())] == [f"k{n}" for n in range(9)]
    assert bench.inbox.duplicates == 0


async def test_one_object_that_cannot_be_looked_at_stops_no_other(bench: ObjectBench) -> None:
    """What concerns one key alone is a dead letter, once; the others are told."""
    bench.steps = lambda _source: Steps(details=True)
    for key in "abc":
        bench.memory.put(key)
    bench.memory.broken["b"] = BadPayload("b: reading is denied", position="b")
    await bench.connect_with_notices()
    assert sorted(event.subject or "" for event in bench.inbox.events) == ["a", "c"]
    assert [(letter.reason, letter.position) for letter in bench.inbox.dead_letters] == [("unreadable", "b")]
    assert await bench.scan() == []
    assert len(bench.inbox.dead_letters) == 1
    bench.memory.put("d")
    bench.notices.send(Hint("b", "written"), Hint("d", "written"), receipt="r")
    assert told(await bench.rest()) == [("created", "d")]
    assert len(bench.inbox.dead_letters) == 2
    assert bench.notices.deleted == ["r"]


@EachOrder
async def test_an_audit_tells_what_is_missing_and_heals_it(bench: ObjectBench, unordered: bool) -> None:
    """It compares the listing with memory, says why something is left alone, and hands the rest to a scan."""
    bench.options = {"start": "now", "every": "1m", "ignore": ["*.tmp"], "on": ["created", "deleted"]}
    bench.memory.unordered = unordered
    bench.memory.page_size = 2
    bench.memory.put("old")
    await bench.clock.advance(10)
    sensor = await bench.connect()
    await bench.rest()
    for key in ("a", "b", "c.tmp", "d"):
        bench.memory.put(key)
    await bench.scan()
    memory = bench.inbox.lookup("s").objects
    del memory["a"]  # as if it had been lost
    bench.memory.remove("b")
    await bench.clock.advance(240)
    bench.memory.put("young")
    report = await sensor.audit(heal=False)
    assert (report.listed, report.remembered) == (5, 3)
    assert [(one.key, one.reason) for one in report.missing.first] == [("a", "it was never seen")]
    assert [one.key for one in report.extra.first] == ["b"]
    assert report.waiting == {"it is newer than the last scan": 1}
    assert report.ignored == {"ignore": 1}

    assert (await sensor.audit(heal=True)).healed == 2
    assert sorted(told(await bench.rest())) == [("created", "young"), ("deleted", "b")]
    assert bench.inbox.duplicates == 1  # what was lost from memory had been told
    await bench.clock.advance(240)
    healed = await sensor.audit(heal=False)
    assert (healed.missing.count, healed.extra.count, healed.changed.count) == (0, 0, 0)
